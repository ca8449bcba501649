"""What processes that load images have in common."""

from __future__ import annotations

import signal
from typing import Any


def ignore_interrupt(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers when it is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def unchanged(delivered: Any) -> Any:
    """Collate function for data sets whose items are delivered as they are."""
    return delivered
