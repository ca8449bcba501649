"""Runs that are asked to stop: by Ctrl-C, or by a scheduler."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.callbacks.checkpoints import checkpoint_folder, save_checkpoint
from blastogan.callbacks.growing import as_gan
from blastogan.growth import GrowthSchedule

_log = logging.getLogger(__name__)


class GracefulInterrupt(Callback):
    """On Ctrl-C, finish the batch, write ``last.ckpt`` and say how to go on.

    At the end of a tick its validation is finished too, so that nothing is missing from the log
    of the resumed run. A second Ctrl-C stops at once, with the last checkpoint as it was. Sets
    `interrupted`, by which a command line knows that it should exit with 130.

    Args:
        schedule: Tells where ticks end.
    """

    def __init__(self, schedule: GrowthSchedule) -> None:
        self.schedule = schedule
        self.interrupted = False
        self._before: Any = None
        self._taken = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signal; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
            self._taken = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._taken and callable(self._before):
            # Lightning's own teardown, which comes later, puts back what it found
            signal.signal(signal.SIGINT, self._before)
            self._before(number, frame)
            return
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        _log.warning("interrupted: stopping after this batch; Ctrl-C again stops at once")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and stop if asked to, within a tick."""
        if self.interrupted and as_gan(pl_module).images_shown % self.schedule.tick_images:
            self._save(trainer)
            self._stop(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if asked to stop; the callbacks after this one are still to have their turn."""
        if self.interrupted:
            self._save(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if asked to during the tick before."""
        if self.interrupted:
            self._stop(trainer, pl_module)

    def _save(self, trainer: Trainer) -> None:
        save_checkpoint(trainer, checkpoint_folder(trainer) / "last.ckpt")

    def _stop(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = checkpoint_folder(trainer) / "last.ckpt"
        kimg = as_gan(pl_module).images_shown / 1000
        _log.warning("stopped at %.3f kimg; to go on, add --ckpt_path %s", kimg, path)
        raise KeyboardInterrupt

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Note an interrupt that came at another time, or a second one; give the signal back."""
        self.interrupted = self.interrupted or isinstance(exception, KeyboardInterrupt)
        self._give_back()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signal back."""
        self._give_back()

    def _give_back(self) -> None:
        if self._taken:
            signal.signal(signal.SIGINT, self._before)
            self._taken = False
