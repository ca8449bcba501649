"""Runs that are asked to stop: by Ctrl-C, or by a scheduler."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.callbacks.checkpoints import checkpoint_folder, save_last
from blastogan.errors import Requeue
from blastogan.growth import GrowthSchedule
from blastogan.modules.base import as_gan
from blastogan.modules.step.ranks import any_rank, ranks_may_agree
from blastogan.runs.signals import SCHEDULERS

_log = logging.getLogger(__name__)


class GracefulInterrupt(Callback):
    """Stop after the batch, with ``last.ckpt`` written, and say how to go on.

    On Ctrl-C, at the end of a tick, its validation is finished too, so that nothing is missing
    from the log of the resumed run; a second Ctrl-C stops at once, with the last checkpoint as it
    was. On SIGTERM or SIGUSR1 nothing is waited for, not for the end of a validation either. A
    signal to any of several processes stops them all, after the same batch.

    Ends in a KeyboardInterrupt or, for a scheduler, `Requeue`, by which a command line knows
    whether to exit with 130 or 75.

    Args:
        schedule: Tells where ticks end.
    """

    def __init__(self, schedule: GrowthSchedule) -> None:
        self.schedule = schedule
        self.interrupted = False
        self.requeued = False
        self._alone = True
        self._in_batches = False
        self._over = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, some of them from Lightning, which gives all of them back."""
        self.interrupted = self.requeued = self._in_batches = self._over = False
        self._alone = trainer.world_size == 1
        # only the main thread may
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
            return
        if self.requeued:
            return
        self.requeued = True
        _log.warning("%s: stopping, to be started again", signal.Signals(number).name)
        if self._alone and not self._in_batches:
            raise Requeue

    # -- within the batches -----------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if asked to during the tick before."""
        device = as_gan(pl_module).device
        if any_rank(self.interrupted or self.requeued, device):
            self._stop(trainer, pl_module)
        self._in_batches = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and stop if asked to; at the end of a tick only a scheduler is obeyed at once."""
        module = as_gan(pl_module)
        ends_tick = self.schedule.ends_tick(module.images_shown)
        if ends_tick:
            self._in_batches = False
        elif not ranks_may_agree(module, batch_idx):
            return
        asked = self.requeued or (self.interrupted and not ends_tick)
        if any_rank(asked, module.device):
            save_last(trainer)
            self._stop(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if asked to stop; the callbacks after this one are still to have their turn."""
        if any_rank(self.interrupted or self.requeued, as_gan(pl_module).device):
            save_last(trainer)

    def _stop(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = checkpoint_folder(trainer) / "last.ckpt"
        kimg = as_gan(pl_module).images_shown / 1000
        self._over = True
        if any_rank(self.requeued, as_gan(pl_module).device):
            _log.warning("stopped at %.3f kimg; the same command with --resume goes on", kimg)
            raise Requeue
        _log.warning("stopped at %.3f kimg; to go on, add --ckpt_path %s", kimg, path)
        raise KeyboardInterrupt

    # -- afterwards -------------------------------------------------------------------------------

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a run that has ended end."""
        self._over = True

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save what a scheduler has cut short between two batches."""
        self.interrupted = self.interrupted or isinstance(exception, KeyboardInterrupt)
        cut_short = isinstance(exception, Requeue) and not self._over
        self._over = True
        if cut_short and self._alone and not self._in_batches:
            save_last(trainer)
