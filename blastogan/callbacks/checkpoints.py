"""Checkpoints of a growing run: the last one, and one per phase."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from blastogan.callbacks.growing import as_gan
from blastogan.errors import UserError
from blastogan.files import written_whole
from blastogan.growth import GrowthSchedule


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
