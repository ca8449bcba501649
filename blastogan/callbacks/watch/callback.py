"""Watching a run for what can go wrong with it."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from blastogan.callbacks.checkpoints import checkpoint_folder, save_checkpoint
from blastogan.callbacks.watch.alarms import NETWORKS, Alarms, of_nan
from blastogan.callbacks.watch.probe import MIN_HELD_OUT, Detectors, probe_discriminator
from blastogan.data import BlastocystDataModule
from blastogan.errors import DivergenceError, RollBack, UserError
from blastogan.growth import GrowthSchedule, GrowthState
from blastogan.modules import BaseGANModule
from blastogan.modules.base import as_gan
from blastogan.modules.step.passes import size_of_passes
from blastogan.modules.step.ranks import is_finite
from blastogan.utils.seeding import derive_seed

_log = logging.getLogger(__name__)

Action = Literal["warn", "stop", "roll_back"]
"""What follows an alarm beside its message."""


class DivergenceWatch(Callback):
    """Notice NaN, mode collapse, overfitting, leaking augmentation, and exploding gradients.

    Losses and penalties of the steps are looked at for NaN. At the end of ticks a look is taken:
    D scores training images, held-out images and samples of the averaged generator, and samples are
    compared with training images for their variety. The loggers get ``logits_train``,
    ``logits_held_out``, ``logits_generated``, ``sign_real`` (r_t) and ``overfitting`` (r_v; both
    Karras et al. 2020, "Training generative adversarial networks with limited data", equation 1),
    ``diversity`` (`blastogan.callbacks.watch.probe.diversity`) and the largest and
    the median norm of the gradients in the tick; where D sees augmented images also the shares of
    turned, shifted and dark images (`blastogan.metrics.augmentation_leaks.LeakDetector`). When
    which of them alarms is said in `blastogan.callbacks.watch.alarms`.

    Weights and random states are left alone. All processes take the same look, and that of the
    first counts.

    Args:
        schedule: Gives the position.
        every_n_steps: Steps from one search for NaN to the next, which waits for the device; on a
            CPU each step is searched.
        every_n_ticks: Ticks from one look to the next.
        num_images: Training images to a look, and as many held-out images and samples, if the parts
            have them.
        on_nan: ``warn``; ``stop`` with exit code 1, the state kept as ``diverged.ckpt`` and
            ``last.ckpt`` as it was before; or ``roll_back`` to where nothing was wrong yet.
        on_collapse: As `on_nan`; without a ``diverged.ckpt``.
        on_overfitting: ``warn`` or ``stop``.
        on_leak: ``warn`` or ``stop``.
        max_rollbacks: Most returns of a run, for who makes them.
        seed: Seed of the images and latents of the looks.

    Raises:
        UserError: If a value cannot be.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        every_n_steps: int = 16,
        every_n_ticks: int = 1,
        num_images: int = 128,
        on_nan: Action = "stop",
        on_collapse: Action = "warn",
        on_overfitting: Literal["warn", "stop"] = "warn",
        on_leak: Literal["warn", "stop"] = "warn",
        max_rollbacks: int = 3,
        seed: int = 0,
    ) -> None:
        for name, number in (
            ("every_n_steps", every_n_steps),
            ("every_n_ticks", every_n_ticks),
            ("num_images", num_images),
        ):
            if number < 1:
                raise UserError(f"{name} is {number}: expected 1 or more")
        if max_rollbacks < 0:
            raise UserError(f"max_rollbacks is {max_rollbacks}: expected 0 or more")
        for name, action, allowed in (
            ("on_nan", on_nan, get_args(Action)),
            ("on_collapse", on_collapse, get_args(Action)),
            ("on_overfitting", on_overfitting, ("warn", "stop")),
            ("on_leak", on_leak, ("warn", "stop")),
        ):
            if action not in allowed:
                raise UserError(f"{name} is {action!r}: expected one of {', '.join(allowed)}")
        self.schedule = schedule
        self.every_n_steps = every_n_steps
        self.every_n_ticks = every_n_ticks
        self.num_images = num_images
        self.on_nan: Action = on_nan
        self.on_collapse: Action = on_collapse
        self.on_overfitting: Action = on_overfitting
        self.on_leak: Action = on_leak
        self.max_rollbacks = max_rollbacks
        self.seed = seed
        self.alarms = Alarms()
        self._norms: dict[str, list[Tensor]] = {name: [] for name in NETWORKS}
        self._detectors: Detectors = {}
        self._told_missing = False

    # -- steps ------------------------------------------------------------------------------------

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the norms of the step, and look whether all that it returned is finite.

        Raises:
            DivergenceError: If it is not, and is not only to be warned of.
        """
        module = as_gan(pl_module)
        for name, kept in self._norms.items():
            if name in outputs:
                kept.append(outputs[name])
        on_time = batch_idx % self.every_n_steps == 0 or module.device.type == "cpu"
        ends_tick = self.schedule.ends_tick(module.images_shown)
        if not (on_time or ends_tick):
            return
        if self._acts_on_nan(is_finite(trainer, outputs)):
            values = {name: float(value) for name, value in outputs.items()}
            before = max(module.images_shown - len(batch["image"]) * trainer.world_size, 0)
            self._found_nan(trainer, module, values, self.schedule.at(before))

    def _acts_on_nan(self, finite: bool) -> bool:
        """Whether to act: each time if that ends the run, else once until it has cleared."""
        rings = self.alarms.nan.take(bad=not finite, clear=finite)
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
        message = of_nan(values, place, path.parent, path.name)
        self._act(self.on_nan, "NaN", message, module.images_shown)

    # -- looks ------------------------------------------------------------------------------------

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the gradients of the tick, and take a look if it is time.

        Raises:
            DivergenceError: If something is wrong, and is not only to be warned of.
        """
        module = as_gan(pl_module)
        ticks = module.images_shown // self.schedule.tick_images
        row, looks = self._summary(), ticks % self.every_n_ticks == 0
        if looks:
            row |= self._look(trainer, module)
        if trainer.world_size > 1:
            # devices may round otherwise, and are to decide alike
            row = trainer.strategy.broadcast(row)
        if looks and row:
            for logger in trainer.loggers:
                place = self.schedule.log_columns(module.images_shown)
                # p is among what the steps tell
                told = {name: value for name, value in row.items() if name != "augment_p"}
                logger.log_metrics(place | told, step=module.images_shown)
        self._judge(trainer, module, row)

    def _summary(self) -> dict[str, float]:
        """Largest and median norm of each gradient in the tick."""
        row: dict[str, float] = {}
        for name, kept in self._norms.items():
            norms = [norm for norm in _values(kept) if math.isfinite(norm)]
            if norms:
                row |= {f"{name}_max": max(norms), f"{name}_median": statistics.median(norms)}
            kept.clear()
        return row

    def _look(self, trainer: Trainer, module: BaseGANModule) -> dict[str, float]:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, BlastocystDataModule):
            self._tell_missing("looks need a BlastocystDataModule: give one to the trainer")
            return {}
        share = self.schedule.state_after(module.images_shown).batch_size // trainer.world_size
        row = probe_discriminator(
            module,
            data,
            count=self.num_images,
            batch_size=size_of_passes(share, module.micro_batch, module.discriminator.stddev_group),
            seed=derive_seed(self.seed, module.images_shown),
            detectors=self._detectors,
        )
        if not row:
            group = module.discriminator.stddev_group
            self._tell_missing("looks need %d images (stddev_group) or more: set num_images", group)
        elif "logits_held_out" not in row:
            self._tell_missing(
                "overfitting is not watched: that needs a batch of %d or more held-out images, got "
                "%d; set a larger --data.val_fraction",
                MIN_HELD_OUT,
                len(data.split["val"]),
            )
        return row

    def _tell_missing(self, message: str, *values: object) -> None:
        if not self._told_missing:
            _log.info(message, *values)
            self._told_missing = True

    def _judge(self, trainer: Trainer, module: BaseGANModule, row: Mapping[str, float]) -> None:
        shown = module.images_shown
        for message in self.alarms.take_norms(row, shown):
            _log.warning("%s", message)
        finite = all(math.isfinite(value) for value in row.values())
        if not finite and self._acts_on_nan(finite):
            self._found_nan(trainer, module, row, self.schedule.state_after(shown))
        collapsed = self.alarms.take_diversity(row, shown)
        overfitted = self.alarms.take_overfitting(row, shown)
        leaked = self.alarms.take_leak(row, shown)
        if finite and "logits_train" in row:
            self.alarms.note_good(shown)
        if collapsed:
            self._act(self.on_collapse, "mode collapse", collapsed, shown)
        if overfitted:
            self._act(self.on_overfitting, "overfitting of the discriminator", overfitted, shown)
        if leaked:
            self._act(self.on_leak, "a leak of the augmentation", leaked, shown)

    def _act(self, action: Action, reason: str, message: str, images_shown: int) -> None:
        if action == "stop":
            raise DivergenceError(f"{message}.")
        if action == "roll_back":
            good = self.alarms.good_images
            raise RollBack(f"{message}.", reason=reason, at_images=images_shown, good_images=good)
        _log.warning("%s", message)

    # -- checkpoints ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Alarms, and the norms of the tick that is not over, as plain values."""
        norms = {name: _values(kept) for name, kept in self._norms.items()}
        return {"alarms": self.alarms.state_dict(), "norms": norms}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as if there had been no interruption."""
        self.alarms = Alarms.from_state_dict(state_dict["alarms"])
        self._norms = {
            name: [torch.tensor(norm) for norm in kept]
            for name, kept in state_dict["norms"].items()
        }


def _values(norms: list[Tensor]) -> list[float]:
    """The values of scalars at one wait for the device; those of a checkpoint are on the CPU."""
    if not norms:
        return []
    values: list[float] = torch.stack([norm.to(norms[-1].device) for norm in norms]).tolist()
    return values
