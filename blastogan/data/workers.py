"""What processes that load images have in common."""

from __future__ import annotations

import signal


def ignore_interrupt(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers when it is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
