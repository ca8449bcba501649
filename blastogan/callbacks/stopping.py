"""Graceful stop of a run on Ctrl-C or on request of a scheduler."""

from __future__ import annotations

import logging
import shlex
import signal
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.callbacks.checkpoints import save_last
from blastogan.errors import Requeue
from blastogan.growth import GrowthSchedule
from blastogan.modules.base import as_gan
from blastogan.modules.step.ranks import any_rank, ranks_may_agree
from blastogan.runs.checkpoint_io import checkpoint_folder
from blastogan.runs.signals import SCHEDULERS

_log = logging.getLogger(__name__)


class GracefulInterrupt(Callback):
    """Stop after the current batch, write ``last.ckpt`` and report how to resume.

    Ctrl-C in the last batch of a tick waits for the validation, so that no row of the log is lost;
    a second Ctrl-C stops at once without saving. SIGTERM and SIGUSR1 wait for no validation. A
    signal to any process stops all of them after the same batch.

    Raises KeyboardInterrupt or, for a scheduler, `Requeue`; the command line exits with 130 or 75.
    """

    def __init__(self, schedule: GrowthSchedule) -> None:
        self.schedule = schedule
        self.interrupted = False
        self.requeued = False
        self._alone = True
        self._in_batches = False
        self._over = True

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
        requested = self.requeued or (self.interrupted and not ends_tick)
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
        module, path = as_gan(pl_module), checkpoint_folder(trainer) / "last.ckpt"
        kimg = module.images_shown / 1000
        self._over = True
        if any_rank(self.requeued, module.device):
            _log.warning("stopped at %.3f kimg; the same command with --resume continues", kimg)
            raise Requeue
        _log.warning(
            "stopped at %.3f kimg; to resume, add --ckpt_path %s", kimg, shlex.quote(str(path))
        )
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
