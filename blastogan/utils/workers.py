"""What processes that load images have in common."""

from __future__ import annotations

import os
import signal
from typing import Any

MAX_WORKERS = 512
"""Most processes that may load images."""


def available_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_count(asked: int | None) -> int:
    """Worker processes for a number that the user gave; by default one per core, at most 8."""
    return min(available_cores(), 8) if asked is None else max(asked, 0)


def ignore_interrupt(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers when it is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def unchanged(delivered: Any) -> Any:
    """Collate function that leaves items unchanged."""
    return delivered
