"""Checkpoints of a growing run: the last ones, the best one and one per phase."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from blastogan.errors import UserError, check_ranges
from blastogan.growth import GrowthSchedule
from blastogan.metrics.specs import TABLE
from blastogan.modules.base import as_gan
from blastogan.modules.step.ranks import any_rank, is_finite, ranks_may_agree
from blastogan.runs.checkpoint_io import (
    checkpoint_folder,
    save_checkpoint,
    write_checkpoints_atomically,
)
from blastogan.runs.epochs import reopen, repeat_end_of_epoch
from blastogan.utils.files import atomic_copy, atomic_link, unused_file

_log = logging.getLogger(__name__)

BEST = "best.ckpt"

METRICS = ("kid_held_out", "kid", "swd")
"""Metrics that choose the best checkpoint, the preferred one first."""


def save_last(trainer: Trainer) -> Path:
    """Write ``last.ckpt`` and move its predecessors up; call it on all ranks."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, GrowthCheckpoint):
            return callback.save_last(trainer)
    path = checkpoint_folder(trainer) / "last.ckpt"
    save_checkpoint(trainer, path)
    return path


class GrowthCheckpoint(Checkpoint):
    """Write ``last.ckpt`` at every tick and at intervals, and keep the best and one per phase.

    Files go to ``checkpoints/`` of the run folder; ``last-1.ckpt`` is the predecessor of
    ``last.ckpt``, and so on. The best checkpoint has the lowest KID against the validation images
    if `FidelityCallback` measures it; else the lowest KID against the training images; else, at the
    highest resolution so far, the lowest sliced Wasserstein distance (SWD) of a validation, or none
    if the validation part is too small. While grades are ramped in, a higher condition weight wins,
    because no metric checks the grades. KID by another extractor is not compared with that of the
    best so far: a new best begins, and the previous one is kept as ``best-EXTRACTOR.ckpt``.

    Args:
        schedule: Growth schedule of the run.
        every_minutes: Also write ``last.ckpt`` after this many minutes without one.
        keep_phases: Keep ``phase-NN-KIND-RESOLUTION.ckpt`` at the end of each phase.
        keep_last: Number of last checkpoints; 1 keeps only ``last.ckpt``.
        keep_best: Keep ``best.ckpt``.

    Raises:
        UserError: If `every_minutes` or `keep_last` is out of range.

    Attributes:
        extractor: Label of the extractor by which KID is measured; `FidelityCallback` sets it.
    """

    extractor = ""

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
        check_ranges({"keep_last": keep_last}, 1, 1000)
        self.schedule = schedule
        self.every_minutes = every_minutes
        self.keep_phases = keep_phases
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.best: dict[str, Any] = {}
        self.evaluated: int | None = None
        self._saved_at = time.monotonic()
        self._shown_at_last = 0
        self._swd: Tensor | float | None = None
        self._swd_before: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the trainer write checkpoints atomically."""
        write_checkpoints_atomically(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and remove partial files of a process that died."""
        self._saved_at = time.monotonic()
        self._shown_at_last = as_gan(pl_module).images_shown
        folder = checkpoint_folder(trainer)
        if trainer.is_global_zero:
            for part in folder.glob("*.ckpt*.part"):
                part.unlink(missing_ok=True)
        if not (folder / BEST).exists():
            # a branch starts in its own folder, without a best
            self.best = {}
        self._catch_up(trainer, as_gan(pl_module).images_shown)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run start whose last tick was not evaluated."""
        if owes_evaluation(checkpoint, self.schedule):
            reopen(checkpoint, trainer.max_epochs)

    def _catch_up(self, trainer: Trainer, images_shown: int) -> None:
        """Do all that follows the last image of a tick if the run was stopped before it was done.

        This callback is the last to start: the others are ready.
        """
        if self.evaluated is None or not _is_owed(self.evaluated, images_shown, self.schedule):
            return
        _log.info("evaluating the stage up to %g kimg, which was not finished", images_shown / 1000)
        repeat_end_of_epoch(trainer, images_shown // self.schedule.tick_images)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within a tick if it is due by the clock of rank 0 and the step is finite."""
        module = as_gan(pl_module)
        ends_tick = self.schedule.ends_tick(module.images_shown)
        if ends_tick or not ranks_may_agree(module, batch_idx):
            return
        due = time.monotonic() - self._saved_at > self.every_minutes * 60
        due = any_rank(due and trainer.is_global_zero, module.device)
        if due and is_finite(trainer, outputs):
            self.save_last(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the previous metric, which Lightning keeps in the same dictionary."""
        self._swd_before = trainer.callback_metrics.get("swd")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the metric of a validation."""
        found = trainer.callback_metrics.get("swd")
        if not trainer.sanity_checking and found is not self._swd_before:
            self._swd = found

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of a tick, after its validation."""
        module = as_gan(pl_module)
        if not self.schedule.ends_tick(module.images_shown):
            # the trainer was told to stop
            self.save_last(trainer)
            return
        is_best = self._is_best(trainer, module.images_shown, module.condition_weight)
        self.evaluated = module.images_shown
        self.save_last(trainer, is_best=is_best)
        if is_best:
            name, value, kimg = (self.best[key] for key in ("name", "value", "kimg"))
            spec = TABLE["swd" if name == "swd" else "kid"]
            reals = "training images" if name == "kid" else "validation images"
            side = self.schedule.final_resolution
            _log.info(
                "best so far: %s to the %s, %dx%d: %.4g at %g kimg, saved as best.ckpt%s",
                *(spec.title, reals, side, side, value * spec.scale, kimg),
                f" (extractor {by})" if (by := self.best.get("extractor")) else "",
            )

    def save_last(self, trainer: Trainer, *, is_best: bool = False) -> Path:
        """Write ``last.ckpt``, and copies if it is the best or ends a phase; on all ranks."""
        path = checkpoint_folder(trainer) / "last.ckpt"
        shown = as_gan(trainer.lightning_module).images_shown
        names = [BEST] if is_best else []
        phase = self.schedule.finished_phase(shown)
        if phase is not None and self.keep_phases:
            names.append(f"phase-{phase.index:02d}-{phase.kind}-{phase.resolution:04d}.ckpt")

        def before(part: Path) -> None:
            # first, so that a resumed run repeats them; no links, which would share damage
            for name in names:
                atomic_copy(part, path.with_name(name))
            # the same state may be saved twice: before its evaluation and at the end of the tick
            if shown != self._shown_at_last:
                _move_up(path, self.keep_last)

        save_checkpoint(trainer, path, before)
        self._shown_at_last = shown
        self._saved_at = time.monotonic()
        return path

    def _is_best(self, trainer: Trainer, images_shown: int, condition_weight: float) -> bool:
        """Whether this state is the best so far; if so, record it. Rank 0 decides."""
        # all ranks must ask, as Lightning may reduce over them
        metrics, swd = trainer.callback_metrics, self._swd
        self._swd = None
        name = next((each for each in METRICS[:-1] if each in metrics), METRICS[-1])
        value = swd if name == METRICS[-1] else metrics[name]
        if not (self.keep_best and trainer.is_global_zero and value is not None):
            return False
        data = getattr(trainer, "datamodule", None)
        if name == METRICS[-1] and "val" in getattr(data, "weak_parts", {}):
            return False
        # KID is always measured at the final resolution
        resolution = self.schedule.state_after(images_shown).resolution if name == "swd" else 0
        found = {
            "name": name,
            "value": float(value),
            "kimg": images_shown / 1000,
            "resolution": resolution,
            # the key of all saved checkpoints
            "heeds": condition_weight,
        }
        if name != METRICS[-1] and self.extractor:
            found["extractor"] = self.extractor
        if not math.isfinite(value):
            return False
        if self.best and _comparable(found, self.best):
            if _order(found) >= _order(self.best):
                return False
        elif self.best:
            if _order(found)[:-1] > _order(self.best)[:-1]:
                return False
            self._set_aside(checkpoint_folder(trainer))
        self.best = found
        return True

    def _set_aside(self, folder: Path) -> None:
        """Keep the best so far, by another extractor, under a name of its own."""
        best, by = folder / BEST, self.best.get("extractor", "earlier")
        kept = unused_file(folder / f"best-{re.sub(r'[^a-zA-Z0-9]+', '-', by).strip('-')}.ckpt")
        if best.exists():
            atomic_link(best, kept)
        _log.warning(
            "the best so far was chosen by KID of the extractor %s, which cannot be compared with "
            "that of %s: it is kept as %s, and best.ckpt begins anew",
            *(by, self.extractor, kept.name),
        )

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and the images shown at the end of the last evaluated tick."""
        best = {"best": dict(self.best)} if self.best else {}
        return {**best, "evaluated": self.evaluated or 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; early checkpoints do not say what was evaluated."""
        self.best = dict(state_dict.get("best", {}))
        self.evaluated = state_dict.get("evaluated")


def _is_owed(evaluated: int, images_shown: int, schedule: GrowthSchedule) -> bool:
    return images_shown > evaluated and schedule.ends_tick(images_shown)


def owes_evaluation(checkpoint: Mapping[str, Any], schedule: GrowthSchedule) -> bool:
    """Whether a checkpoint ends a tick that was not evaluated yet.

    What follows the last image of a tick is the validation, the evaluation, the sheet of samples
    and the choice of the best checkpoint.
    """
    evaluated = checkpoint.get("callbacks", {}).get("GrowthCheckpoint", {}).get("evaluated")
    shown = int(checkpoint["blastogan"]["images_shown"])
    return evaluated is not None and _is_owed(evaluated, shown, schedule)


def _comparable(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two states were measured by the same extractor, or one of them by none."""
    by_pixels = METRICS[-1] in (first["name"], second["name"])
    return by_pixels or first.get("extractor") == second.get("extractor")


def _order(best: Mapping[str, Any]) -> tuple[float, ...]:
    """Sort key, lower for a better state; KID always precedes SWD."""
    # early checkpoints have no condition weight
    weight, metric = best.get("heeds", 1.0), METRICS.index(best["name"])
    return -weight, metric, -best["resolution"], best["value"]


def _move_up(last: Path, keep: int) -> None:
    """Rename the last checkpoints before a new one; ``last.ckpt`` stays until it is replaced."""

    def numbered(n: int) -> Path:
        return last.with_name(f"last-{n}.ckpt")

    for n in range(keep - 1, 1, -1):
        with suppress(FileNotFoundError):
            numbered(n - 1).replace(numbered(n))
    if keep > 1 and last.exists():
        atomic_link(last, numbered(1))
    # left over from a larger keep_last
    for extra in takewhile(Path.exists, map(numbered, count(keep))):
        extra.unlink()
