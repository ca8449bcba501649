"""Signals by which schedulers stop a job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from blastogan.errors import Requeue

SCHEDULERS = (signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))


@contextmanager
def requeued_by_signal() -> Iterator[None]:
    """Raise `Requeue` on a scheduler's signal, also outside of training."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise Requeue

    # Lightning may leave Ctrl-C ignored after an interrupted run
    before = {signal.SIGINT: signal.getsignal(signal.SIGINT)}
    before |= {number: signal.signal(number, stop) for number in SCHEDULERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
