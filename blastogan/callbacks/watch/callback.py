"""Detects divergence, mode collapse and overfitting during a fit."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from blastogan.callbacks.watch.alarms import (
    NETWORKS,
    Alarms,
    collapse_message,
    nan_message,
    overfitting_message,
)
from blastogan.callbacks.watch.probe import MIN_HELD_OUT, probe_discriminator
from blastogan.data import BlastocystDataModule
from blastogan.errors import DivergenceError, UserError, check_ranges
from blastogan.growth import MAX_BATCH, GrowthSchedule, GrowthState
from blastogan.modules import BaseGANModule
from blastogan.modules.base import as_gan
from blastogan.modules.step.passes import size_of_passes
from blastogan.modules.step.ranks import is_finite
from blastogan.runs.checkpoint_io import checkpoint_folder, save_checkpoint
from blastogan.utils.seeding import derive_seed

_log = logging.getLogger(__name__)

Action = Literal["warn", "stop"]
"""What an alarm does: log a warning, or stop the run with an error."""


class DivergenceWatch(Callback):
    """Detect NaN, mode collapse, overfitting of D and exploding gradients.

    Losses and penalties of the steps are checked for NaN. Probes at the end of ticks score training
    images, held-out images and samples of the averaged generator with D. Loggers receive
    ``logits_train``, ``logits_held_out``, ``logits_generated``, ``sign_real`` (r_t) and
    ``overfitting`` (r_v; both Karras et al. 2020, "Training generative adversarial networks with
    limited data", equation 1), ``diversity`` (`blastogan.callbacks.watch.probe.diversity`), and the
    largest and median gradient norms of the tick. Weights and random states do not change.

    Args:
        schedule: Growth schedule of the run.
        every_n_steps: Steps between checks for NaN, which wait for the device; 1 on a CPU.
        every_n_ticks: Ticks between probes.
        num_images: Maximum number of training images, held-out images and samples per probe.
        on_nan: ``warn``, or ``stop`` with exit code 1; both save ``diverged.ckpt``.
        on_collapse: ``warn`` or ``stop``; no ``diverged.ckpt``.
        on_overfitting: ``warn`` or ``stop``.
        seed: Seed of the images and latents of the probes.

    Raises:
        UserError: If a value is out of range or unknown.
        DivergenceError: In a fit, if an alarm rings and its action is ``stop``.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        every_n_steps: int = 16,
        every_n_ticks: int = 1,
        num_images: int = 128,
        on_nan: Action = "stop",
        on_collapse: Action = "warn",
        on_overfitting: Action = "warn",
        seed: int = 0,
    ) -> None:
        self.schedule = schedule
        self.every_n_steps = every_n_steps
        self.every_n_ticks = every_n_ticks
        self.num_images = num_images
        self.on_nan: Action = on_nan
        self.on_collapse: Action = on_collapse
        self.on_overfitting: Action = on_overfitting
        self.seed = seed
        for name in ("every_n_steps", "every_n_ticks", "num_images"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: expected 1 or more")
        check_ranges({"num_images": num_images}, 1, MAX_BATCH)
        for name in ("on_nan", "on_collapse", "on_overfitting"):
            if getattr(self, name) not in get_args(Action):
                raise UserError(f"{name} is {getattr(self, name)!r}: expected warn or stop")
        self.alarms = Alarms()
        self._norms: dict[str, list[Tensor]] = {name: [] for name in NETWORKS}
        self._reported_missing = False
        self._judged = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the gradient norms of the step, and judge whether its outputs are finite."""
        module = as_gan(pl_module)
        for name, kept in self._norms.items():
            if name in outputs:
                kept.append(outputs[name])
        on_time = batch_idx % self.every_n_steps == 0 or module.device.type == "cpu"
        due = on_time or self.schedule.ends_tick(module.images_shown)
        if due and self._acts_on_nan(is_finite(trainer, outputs)):
            values = {name: float(value) for name, value in outputs.items()}
            before = max(module.images_shown - len(batch["image"]) * trainer.world_size, 0)
            self._found_nan(trainer, module, values, self.schedule.at(before))

    def _acts_on_nan(self, finite: bool) -> bool:
        """Whether to act: always if that stops the run, else once until values are finite again."""
        rings = self.alarms.nan.update(bad=not finite, clear=finite)
        return rings or (not finite and self.on_nan != "warn")

    def _found_nan(
        self,
        trainer: Trainer,
        module: BaseGANModule,
        values: Mapping[str, float],
        state: GrowthState,
    ) -> None:
        path = checkpoint_folder(trainer) / "diverged.ckpt"
        save_checkpoint(trainer, path)
        place = (
            f"step {trainer.global_step // 2} ({module.images_shown / 1000:.3f} kimg, "
            f"{state.phase}, alpha {state.alpha:.3f})"
        )
        self._act(self.on_nan, nan_message(values, place, path, self.alarms.good_images))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the gradients of the tick, and probe if it is due; only once, also when resumed."""
        module = as_gan(pl_module)
        if module.images_shown == self._judged or not self.schedule.ends_tick(module.images_shown):
            return
        ticks = module.images_shown // self.schedule.tick_images
        row, due = self._summary(), ticks % self.every_n_ticks == 0
        if due:
            row |= self._probe(trainer, module)
        # devices may round differently, but must decide alike
        row = trainer.strategy.broadcast(row)
        if due and row:
            for logger in trainer.loggers:
                place = self.schedule.log_columns(module.images_shown)
                logger.log_metrics(place | row, step=module.images_shown)
        for kept in self._norms.values():
            kept.clear()
        self._judged = module.images_shown
        self._judge(trainer, module, row)

    def _summary(self) -> dict[str, float]:
        """Largest and median norm of each gradient in the tick."""
        row: dict[str, float] = {}
        for name, kept in self._norms.items():
            norms = [norm for norm in _values(kept) if math.isfinite(norm)]
            if norms:
                row |= {f"{name}_max": max(norms), f"{name}_median": statistics.median(norms)}
        return row

    def _probe(self, trainer: Trainer, module: BaseGANModule) -> dict[str, float]:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, BlastocystDataModule):
            self._report_missing("probes need a BlastocystDataModule: give the trainer one")
            return {}
        group = module.discriminator.stddev_group
        share = self.schedule.state_after(module.images_shown).batch_size // trainer.world_size
        row = probe_discriminator(
            module,
            data,
            count=self.num_images,
            batch_size=size_of_passes(share, module.micro_batch, group),
            seed=derive_seed(self.seed, module.images_shown),
        )
        if not row:
            message = "probes need at least %d images (stddev_group): set num_images"
            self._report_missing(message, group)
        elif "logits_held_out" not in row:
            self._report_missing(
                "overfitting is not watched: it needs at least %d held-out images in a batch, got "
                "%d; set a larger --data.val_fraction",
                MIN_HELD_OUT,
                len(data.split["val"]),
            )
        return row

    def _report_missing(self, message: str, *values: object) -> None:
        if not self._reported_missing:
            _log.info(message, *values)
            self._reported_missing = True

    def _judge(self, trainer: Trainer, module: BaseGANModule, row: Mapping[str, float]) -> None:
        shown, alarms = module.images_shown, self.alarms
        for message in alarms.update_norms(row, shown):
            _log.warning("%s", message)
        finite = all(math.isfinite(value) for value in row.values())
        if not finite and self._acts_on_nan(finite):
            self._found_nan(trainer, module, row, self.schedule.state_after(shown))
        collapsed = alarms.update_diversity(row, shown)
        overfitted = alarms.update_overfitting(row)
        if finite and "logits_train" in row:
            alarms.record_good(shown)
        if collapsed:
            found = row["diversity"], alarms.most_varied, shown
            message = collapse_message(*found, checkpoint_folder(trainer), alarms.good_images)
            self._act(self.on_collapse, message)
        if overfitted:
            self._act(self.on_overfitting, overfitting_message(row, shown))

    def _act(self, action: Action, message: str) -> None:
        if action == "stop":
            raise DivergenceError(f"{message}.")
        _log.warning("%s", message)

    def state_dict(self) -> dict[str, Any]:
        """Alarms, the gradient norms of the unfinished tick, and the images judged."""
        norms = {name: _values(kept) for name, kept in self._norms.items()}
        return {"alarms": self.alarms.state_dict(), "norms": norms, "judged": self._judged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore alarms and gradient norms."""
        self.alarms = Alarms.from_state_dict(state_dict["alarms"])
        self._judged = state_dict.get("judged", 0)
        self._norms = {
            name: [torch.tensor(norm) for norm in kept]
            for name, kept in state_dict["norms"].items()
        }


def _values(norms: list[Tensor]) -> list[float]:
    """Values of scalars, read with one device synchronisation; restored ones are on the CPU."""
    if not norms:
        return []
    values: list[float] = torch.stack([norm.to(norms[-1].device) for norm in norms]).tolist()
    return values
