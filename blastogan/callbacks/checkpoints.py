"""Checkpoints of a growing run: the last ones, the best one, and one per phase."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.modules.base import as_gan
from blastogan.modules.step.ranks import any_rank, is_finite, ranks_may_agree
from blastogan.utils.files import atomic_copy, atomic_link, atomic_write, naming, put_in_place

_log = logging.getLogger(__name__)

BEST = "best.ckpt"

METRICS = ("kid_held_out", "kid", "swd")
"""What tells the best, in this order."""


def checkpoint_folder(trainer: Trainer) -> Path:
    """Where a run keeps its checkpoints."""
    return Path(trainer.default_root_dir) / "checkpoints"


def save_checkpoint(
    trainer: Trainer, path: Path, before: Callable[[Path], None] | None = None
) -> None:
    """Write a checkpoint such that at every moment the old or the new one is whole.

    To be called on all ranks. If it cannot be written, nothing is left of it.

    Args:
        trainer: What to save.
        path: Where; only rank 0 writes.
        before: Is given the whole new file, on rank 0, just before it takes its place.

    Raises:
        OSError: If the disk is full, for instance.
    """
    part = path.with_name(path.name + ".part")
    try:
        trainer.save_checkpoint(part, weights_only=False)
        if trainer.is_global_zero:
            with naming(path):
                if before is not None:
                    before(part)
                put_in_place(part, path)
    except OSError as error:
        if str(error.filename).startswith(str(part)):
            error.filename = str(path)
        raise
    finally:
        if trainer.is_global_zero:
            part.unlink(missing_ok=True)


def save_last(trainer: Trainer) -> Path:
    """Write ``last.ckpt``, after which the ones before it have moved up; on all ranks."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, GrowthCheckpoint):
            return callback.save_last(trainer)
    path = checkpoint_folder(trainer) / "last.ckpt"
    save_checkpoint(trainer, path)
    return path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints into their own folder, whole or not at all.

    Lightning's own gathers them in memory, and then in the folder of temporary files, from which
    it copies them where that is on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If it cannot be written.
        """
        with atomic_write(path) as part, part.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch trips over a file that it could not write, and hides why
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


def write_checkpoints_atomically(trainer: Trainer) -> None:
    """Have a trainer write checkpoints whole, unless it has a way of its own."""
    strategy = trainer.strategy
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = AtomicCheckpointIO()


class GrowthCheckpoint(Checkpoint):
    """Write ``last.ckpt`` at every tick and by time, and keep the best and one per phase.

    All lie in ``checkpoints/`` of the run folder, ``trainer.default_root_dir``. ``last-1.ckpt`` is
    the one before ``last.ckpt``, and so on. The best has the lowest KID to the validation images
    where `FidelityCallback` measures it; else that to the training images; else, at the highest
    resolution so far, the lowest sliced Wasserstein distance (SWD) of a validation. As long as
    grades are ramped in, a state that heeds them more is the better one, since none of these tells
    whether samples have the grade that was asked for.

    Args:
        schedule: Tells when a phase ends.
        every_minutes: Also write ``last.ckpt`` after so many minutes without one.
        keep_phases: Keep ``phase-NN-KIND-RESOLUTION.ckpt`` at each end of a phase.
        keep_last: Number of last ones, 1 for ``last.ckpt`` alone.
        keep_best: Keep ``best.ckpt``.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        every_minutes: float = 15.0,
        keep_phases: bool = True,
        keep_last: int = 3,
        keep_best: bool = True,
    ) -> None:
        if not every_minutes > 0:
            raise UserError(f"every_minutes is {every_minutes}: expected more than 0")
        if keep_last < 1:
            raise UserError(f"keep_last is {keep_last}: expected 1 or more")
        self.schedule = schedule
        self.every_minutes = every_minutes
        self.keep_phases = keep_phases
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.best: dict[str, Any] = {}
        self._saved_at = time.monotonic()
        self._shown_at_last = 0
        self._swd: Tensor | float | None = None
        self._swd_before: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have checkpoints written whole."""
        write_checkpoints_atomically(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count the minutes, and clear away what a process that died was writing."""
        self._saved_at = time.monotonic()
        self._shown_at_last = as_gan(pl_module).images_shown
        folder = checkpoint_folder(trainer)
        if trainer.is_global_zero:
            for part in folder.glob("*.ckpt*.part"):
                part.unlink(missing_ok=True)
        if not (folder / BEST).exists():
            # the run was branched off into a folder of its own
            self.best = {}

    # -- when -------------------------------------------------------------------------------------

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
        module = as_gan(pl_module)
        ends_tick = self.schedule.ends_tick(module.images_shown)
        if ends_tick or not ranks_may_agree(module, batch_idx):
            return
        due = time.monotonic() - self._saved_at > self.every_minutes * 60
        due = any_rank(due and trainer.is_global_zero, module.device)
        if due and is_finite(trainer, outputs):
            self.save_last(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the metric of before, which Lightning keeps among those to come."""
        self._swd_before = trainer.callback_metrics.get("swd")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the metric of a validation."""
        found = trainer.callback_metrics.get("swd")
        if not trainer.sanity_checking and found is not self._swd_before:
            self._swd = found

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of a tick, after its validation."""
        module = as_gan(pl_module)
        is_best = self._is_best(trainer, module.images_shown, module.condition_weight)
        self.save_last(trainer, is_best=is_best)
        if is_best:
            place = self.best["name"], self.best["value"], self.best["kimg"], BEST
            _log.info("best so far: %s %.4g at %g kimg, kept in %s", *place)

    # -- how --------------------------------------------------------------------------------------

    def save_last(self, trainer: Trainer, *, is_best: bool = False) -> Path:
        """Write ``last.ckpt``, and its copies if it is the best or ends a phase; on all ranks.

        Copies come first: if the process dies between the two, the run makes them again.
        """
        path = checkpoint_folder(trainer) / "last.ckpt"
        shown = as_gan(trainer.lightning_module).images_shown
        names = [BEST] if is_best else []
        phase = self.schedule.finished_phase(shown)
        if phase is not None and self.keep_phases:
            names.append(f"phase-{phase.index:02d}-{phase.kind}-{phase.resolution:04d}.ckpt")

        def before(part: Path) -> None:
            # no links: what happens to one file is not to happen to all
            for name in names:
                atomic_copy(part, path.with_name(name))
            # a tick is saved again after its evaluation
            if shown != self._shown_at_last:
                _move_up(path, self.keep_last)

        save_checkpoint(trainer, path, before)
        self._shown_at_last = shown
        self._saved_at = time.monotonic()
        return path

    def _is_best(self, trainer: Trainer, images_shown: int, heeds: float) -> bool:
        """Whether this is the best so far, which is then noted; rank 0 decides.

        Args:
            trainer: Has the metrics.
            images_shown: To the networks.
            heeds: How much the grade counts, 0 to 1; 1 without grades.
        """
        # all ranks must ask, as Lightning may reduce over them
        metrics, swd = trainer.callback_metrics, self._swd
        self._swd = None
        name = next((each for each in METRICS[:-1] if each in metrics), METRICS[-1])
        value = swd if name == METRICS[-1] else metrics[name]
        if not (self.keep_best and trainer.is_global_zero and value is not None):
            return False
        number = float(value)
        # fakes for KID come at the final resolution at every stage
        resolution = self.schedule.state_after(images_shown).resolution if name == "swd" else 0
        found = {
            "name": name,
            "value": number,
            "kimg": images_shown / 1000,
            "resolution": resolution,
            "heeds": heeds,
        }
        if not math.isfinite(number) or (self.best and _order(found) >= _order(self.best)):
            return False
        self.best = found
        return True

    def state_dict(self) -> dict[str, Any]:
        """The best value so far as plain values."""
        return {"best": dict(self.best)} if self.best else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best value so far."""
        self.best = dict(state_dict["best"])


def _order(best: Mapping[str, Any]) -> tuple[float, ...]:
    """What is lower for a better state; a metric of features is never given up for one without."""
    # checkpoints of earlier versions do not say how much grades counted
    heeds = float(best.get("heeds", 1.0))
    metric = METRICS.index(best["name"])
    return -heeds, metric, -int(best["resolution"]), float(best["value"])


def _move_up(last: Path, keep: int) -> None:
    """Make room for a new ``last.ckpt``, which stays there until it is replaced."""

    def numbered(n: int) -> Path:
        return last.with_name(f"last-{n}.ckpt")

    for n in range(keep - 1, 1, -1):
        if numbered(n - 1).exists():
            numbered(n - 1).replace(numbered(n))
    if keep > 1 and last.exists():
        atomic_link(last, numbered(1))
    # left from when more were kept
    n = keep
    while numbered(n).exists():
        numbered(n).unlink()
        n += 1
