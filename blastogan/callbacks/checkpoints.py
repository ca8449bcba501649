"""Checkpoints of a growing run: the last one, one per phase, and one when interrupted."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from blastogan.callbacks.growing import as_gan
from blastogan.errors import DivergenceError, UserError
from blastogan.files import written_whole
from blastogan.growth import GrowthSchedule

_log = logging.getLogger(__name__)


def checkpoint_folder(trainer: Trainer) -> Path:
    """Where a run keeps its checkpoints."""
    return Path(trainer.default_root_dir) / "checkpoints"


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write a checkpoint such that at every moment the old or the new one is whole.

    To be called on all ranks.
    """
    part = path.with_name(path.name + ".part")
    trainer.save_checkpoint(part, weights_only=False)
    if trainer.is_global_zero:
        part.replace(path)


def is_finite(trainer: Trainer, outputs: Mapping[str, Tensor]) -> bool:
    """Whether all that a step returned is finite, on all ranks; waits for the device."""
    values = torch.stack([value.float() for value in outputs.values()])
    finite = bool(values.isfinite().all())
    if trainer.world_size > 1:
        finite = bool(trainer.strategy.reduce_boolean_decision(finite, all=True))
    return finite


class GrowthCheckpoint(Checkpoint):
    """Write ``last.ckpt`` at every tick and by time, and keep one checkpoint per phase.

    All lie in ``checkpoints/`` of the run folder, ``trainer.default_root_dir``.

    Args:
        schedule: Tells when a phase ends.
        every_minutes: Also write ``last.ckpt`` after so many minutes without one.
        keep_phases: Keep ``phase-NN-KIND-RESOLUTION.ckpt`` at each end of a phase.
    """

    def __init__(
        self, schedule: GrowthSchedule, every_minutes: float = 15.0, keep_phases: bool = True
    ) -> None:
        if not every_minutes > 0:
            raise UserError(f"every_minutes is {every_minutes}: expected more than 0")
        self.schedule = schedule
        self.every_minutes = every_minutes
        self.keep_phases = keep_phases
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count the minutes."""
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when it is time, unless the step went wrong; rank 0 has the clock.

        At the end of a tick, its validation comes first.
        """
        due = time.monotonic() - self._saved_at > self.every_minutes * 60
        if trainer.world_size > 1:
            due = bool(trainer.strategy.broadcast(due))
        if due and not self._ends_tick(pl_module) and is_finite(trainer, outputs):
            self._save_last(trainer)

    def _ends_tick(self, pl_module: LightningModule) -> bool:
        return as_gan(pl_module).images_shown % self.schedule.tick_images == 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of a tick, after its validation."""
        last = self._save_last(trainer)
        phase = self.schedule.finished_phase(as_gan(pl_module).images_shown)
        if phase is not None and self.keep_phases and trainer.is_global_zero:
            name = f"phase-{phase.index:02d}-{phase.kind}-{phase.resolution:04d}.ckpt"
            with written_whole(last.with_name(name)) as part:
                shutil.copyfile(last, part)

    def _save_last(self, trainer: Trainer) -> Path:
        path = checkpoint_folder(trainer) / "last.ckpt"
        save_checkpoint(trainer, path)
        self._saved_at = time.monotonic()
        return path


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


class StopOnDivergence(Callback):
    """Stop when a loss is NaN or infinite, after writing ``diverged.ckpt``.

    ``last.ckpt`` stays as it was before.

    Args:
        schedule: Names the phase.
        every_n_steps: Look every so many steps; a look waits for the device.
    """

    def __init__(self, schedule: GrowthSchedule, every_n_steps: int = 16) -> None:
        if every_n_steps < 1:
            raise UserError(f"every_n_steps is {every_n_steps}: expected 1 or more")
        self.schedule = schedule
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the losses and penalties of the step.

        Raises:
            DivergenceError: If one is not finite.
        """
        module = as_gan(pl_module)
        on_time = batch_idx % self.every_n_steps == 0 or module.device.type == "cpu"
        ends_tick = module.images_shown % self.schedule.tick_images == 0
        if not (on_time or ends_tick):
            return
        if is_finite(trainer, outputs):
            return
        path = checkpoint_folder(trainer) / "diverged.ckpt"
        save_checkpoint(trainer, path)
        values = ", ".join(f"{name} {float(value):g}" for name, value in outputs.items())
        before = max(module.images_shown - len(batch["image"]) * trainer.world_size, 0)
        state = self.schedule.at(before)
        raise DivergenceError(
            f"training diverged at step {trainer.global_step // 2} "
            f"({module.images_shown / 1000:.3f} kimg, {state.phase}, alpha {state.alpha:.3f}): "
            f"{values}. Go on from an earlier checkpoint in "
            f"{path.parent} (into a new --run_dir, if it is not last.ckpt) with a larger "
            "model.init_args.r1_gamma, a smaller learning rate, or full precision "
            f"(--trainer.precision 32). The state is kept in {path.name}."
        )
