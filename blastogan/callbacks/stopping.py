"""Graceful stop of a run on Ctrl-C or on request of a scheduler."""

from __future__ import annotations

import logging
import signal
import threading
from shlex import quote
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Timer

from blastogan.callbacks.checkpoints import save_last
from blastogan.errors import Requeue
from blastogan.growth import GrowthSchedule
from blastogan.modules.base import as_gan
from blastogan.modules.step.ranks import any_rank, ranks_may_agree
from blastogan.runs.checkpoint_io import checkpoint_folder
from blastogan.runs.signals import SCHEDULERS

_log = logging.getLogger(__name__)


class TimeLimit(Timer):
    """Lightning's ``max_time``, counted from each start: a resumed run has all of it again."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the time of earlier starts does not count."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing."""

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        left = self.time_remaining()
        return left is not None and left <= 0


def is_out_of_time(trainer: Trainer) -> bool:
    """Whether a `TimeLimit` of a trainer is over."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(isinstance(each, TimeLimit) and each.is_over for each in callbacks)


def stopped_by(trainer: Trainer) -> str:
    """What made a trainer stop by ``trainer.should_stop``, in words."""
    return "the time limit (max_time)" if is_out_of_time(trainer) else "a callback"


class GracefulInterrupt(Callback):
    """Stop after the current batch, write ``last.ckpt`` and report how to resume.

    Ctrl-C in the last batch of a tick waits for the validation, so that no row of the log is lost;
    a second Ctrl-C stops at once without saving. SIGTERM and SIGUSR1 wait for no validation. A
    signal to any process stops all of them after the same batch, and so do ``max_time`` and
    callbacks that set ``trainer.should_stop``, except at the end of a tick, where Lightning stops.

    Raises KeyboardInterrupt or, if the same command is to be started again, `Requeue`; the command
    line exits with 130 or 75.
    """

    def __init__(self, schedule: GrowthSchedule) -> None:
        self.schedule = schedule
        self.interrupted = False
        self.requeued = False
        self._alone = True
        self._in_batches = False
        self._over = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come after callbacks that may ask to stop, and before those that write checkpoints."""
        last = [self, *trainer.checkpoint_callbacks]
        first = [each for each in trainer.callbacks if each not in last]  # type: ignore[attr-defined]
        # another list, as Lightning is going through this one
        trainer.callbacks = [*first, *last]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers; Lightning restores the previous ones at the end."""
        self.interrupted = self.requeued = self._in_batches = self._over = False
        self._alone = trainer.world_size == 1
        # Python allows this in the main thread only
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *SCHEDULERS):
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            return
        if number == signal.SIGINT:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            _log.warning("interrupted: stopping after this batch; Ctrl-C again stops at once")
        elif not self.requeued:
            self.requeued = True
            _log.warning("%s: stopping, to be requeued", signal.Signals(number).name)
            if self._alone and not self._in_batches:
                raise Requeue

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if a signal came after the last batch of the previous tick."""
        if self._is_requested(pl_module):
            self._stop(trainer, pl_module)
        self._in_batches = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Wait for the end of the batch from here on; a resumed epoch has no start."""
        self._in_batches = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop if requested; Ctrl-C in the last batch of a tick waits for its end."""
        module = as_gan(pl_module)
        ends_tick = self.schedule.ends_tick(module.images_shown)
        if ends_tick:
            self._in_batches = False
        elif not ranks_may_agree(module, batch_idx):
            return
        within = (self.interrupted or trainer.should_stop) and not ends_tick
        requested = self.requeued or within
        if any_rank(requested, module.device):
            save_last(trainer)
            self._stop(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if a stop is requested; the next tick's start stops, after all other callbacks."""
        if self._is_requested(pl_module):
            save_last(trainer)

    def _is_requested(self, pl_module: LightningModule) -> bool:
        return any_rank(self.interrupted or self.requeued, as_gan(pl_module).device)

    def _stop(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module, path = as_gan(pl_module), quote(str(checkpoint_folder(trainer) / "last.ckpt"))
        kimg = module.images_shown / 1000
        self._over = True
        again = "the same command with --resume continues"
        if any_rank(self.requeued, module.device):
            _log.warning("stopped at %.3f kimg; %s", kimg, again)
            raise Requeue
        if not any_rank(self.interrupted, module.device):
            cause = f"stopped by {stopped_by(trainer)}"
            _log.warning("%s at %.3f kimg; %s", cause, kimg, again)
            raise Requeue(cause)
        _log.warning("stopped at %.3f kimg, saved in %s; %s", kimg, path, again)
        raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ignore signals from here on."""
        self._over = True

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save if a scheduler interrupted the run between two batches."""
        self.interrupted = self.interrupted or isinstance(exception, KeyboardInterrupt)
        cut_short = isinstance(exception, Requeue) and not self._over
        self._over = True
        if cut_short and self._alone and not self._in_batches:
            save_last(trainer)
