"""Progressive growing: the resolution of each step."""

from __future__ import annotations

import logging
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.modules import BaseGANModule
from blastogan.modules.base import as_gan
from blastogan.modules.step.passes import size_of_passes
from blastogan.runs.epochs import count_epochs, reopen

_log = logging.getLogger(__name__)


class ProgressiveGrowing(Callback):
    """Set the resolution and the scheduled learning rate of a step from ``module.images_shown``.

    Karras et al. 2018, section 2. Without `FadeIn`, new resolutions start at full weight.

    Args:
        schedule: The schedule given to the data module.
    """

    def __init__(self, schedule: GrowthSchedule) -> None:
        self.schedule = schedule
        self._rates: list[float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise `UserError` if resolutions or batch sizes of schedule and module do not match."""
        if stage != "fit":
            return
        module, schedule = as_gan(pl_module), self.schedule
        trained = module.generator.image_resolutions
        same_end = schedule.final_resolution == module.final_resolution
        if not same_end or schedule.start_resolution < trained[0]:
            raise UserError(
                f"the schedule grows from {schedule.start_resolution} to "
                f"{schedule.final_resolution} pixels, the networks from {trained[0]} to "
                f"{trained[-1]}: give both the same"
            )
        self._check_batches(module, trainer.world_size)
        if trainer.max_epochs != schedule.total_ticks:
            _log.warning(
                "the trainer runs for %s epochs: set max_epochs=%d, as in the schedule",
                trainer.max_epochs,
                schedule.total_ticks,
            )
        _log.info("schedule:\n%s", schedule.describe())
        if module.ramp_kimg is not None and module.ramp_kimg[1] * 1000 > schedule.total_images:
            _log.warning(
                "ramp_kimg %s ends after the schedule of %g kimg: the condition weight will only "
                "reach %.0f %%. Set --model.init_args.ramp_kimg to end by half of the schedule",
                list(module.ramp_kimg),
                schedule.total_images / 1000,
                100 * module.condition_weight_at(schedule.total_images),
            )

    def _check_batches(self, module: BaseGANModule, world_size: int) -> None:
        for phase in self.schedule.phases:
            where = f"batch_size at {phase.resolution} is {phase.batch_size}"
            share, rest = divmod(phase.batch_size, world_size)
            if rest:
                raise UserError(
                    f"{where}, which does not divide by {world_size} devices: change "
                    "schedule.batch_size or the number of devices"
                )
            try:
                size_of_passes(share, module.micro_batch, module.discriminator.stddev_group)
            except UserError as error:
                raise UserError(f"{where}, on {world_size} devices: {error}") from error

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run train that has images left, whatever ended it."""
        if as_gan(pl_module).images_shown < self.schedule.total_images:
            reopen(checkpoint, trainer.max_epochs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count epochs by the images shown; log how batches are divided, and R1 by resolution."""
        module, ranks = as_gan(pl_module), trainer.world_size
        count_epochs(trainer, module.images_shown // self.schedule.tick_images)
        # a resumed epoch has no start
        self.on_train_epoch_start(trainer, module)
        sizes = {phase.resolution: phase.batch_size for phase in self.schedule.phases}
        if ranks > 1 or module.micro_batch is not None:
            limit, group = module.micro_batch, module.discriminator.stddev_group
            passes = (
                f"{size_of_passes(b // ranks, limit, group)} of a batch of {b} at {r}"
                for r, b in sizes.items()
            )
            _log.info(
                "%d device(s), %s; images of a pass on each: %s; the minibatch standard deviation "
                "is over groups of %d images",
                ranks,
                type(trainer.strategy).__name__,
                ", ".join(passes),
                group,
            )
        if module.regularizer != "r1":
            return
        gammas = ", ".join(f"{module.gamma_at(r, b):.3g} at {r}" for r, b in sizes.items())
        source = "rule by resolution and batch" if module.r1_gamma is None else "as given"
        _log.info("R1 gamma (%s): %s; every %d steps", source, gammas, module.r1_interval)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate at the end of the schedule, whatever check_val_every_n_epoch is."""
        last = self.schedule.total_images - self.schedule.tick_images
        if trainer.check_val_every_n_epoch is not None and as_gan(pl_module).images_shown >= last:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set resolution and learning rate of the step."""
        module = as_gan(pl_module)
        state = self.schedule.at(module.images_shown)
        module.resolution = state.resolution
        if state.phase.learning_rate is not None:
            for group in _groups(trainer):
                group["lr"] = state.phase.learning_rate
        self._rates = [group["lr"] for group in _groups(trainer)]
        factor = self.schedule.rate_factor(module.images_shown)
        for group, rate in zip(_groups(trainer), self._rates, strict=True):
            group["lr"] = factor * rate

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set the resolution reached, and the rates before any cooldown, as checkpoints hold."""
        module = as_gan(pl_module)
        module.resolution = self.schedule.state_after(module.images_shown).resolution
        for group, rate in zip(_groups(trainer), self._rates, strict=True):
            group["lr"] = rate

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report an end before that of the schedule."""
        shown, total = as_gan(pl_module).images_shown, self.schedule.total_images
        if shown < total:
            _log.warning(
                "training has ended at %g of %g kimg, before the end of its schedule: to finish "
                "it, resume from the last checkpoint",
                shown / 1000,
                total / 1000,
            )

    def state_dict(self) -> dict[str, Any]:
        """The schedule as plain values."""
        return {"schedule": self.schedule.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise `UserError` if schedules differ by more than a longer hold of the last stage."""
        saved = GrowthSchedule.from_dict(state_dict["schedule"])
        if self.schedule.prolongs(saved):
            return
        mine, theirs = self.schedule.to_dict(), saved.to_dict()
        different = [
            f"{name} is {theirs[name]} in the checkpoint and {mine[name]} in the configuration"
            for name in mine
            if mine[name] != theirs[name] and name not in ("learning_rate", "cooldown_kimg")
        ]
        raise UserError(
            f"the checkpoint was trained on another schedule: {'; '.join(different)}. Use its "
            "schedule, in config.yaml of its run folder; only hold_kimg of the last resolution may "
            "be raised."
        )


def _groups(trainer: Trainer) -> list[dict[str, Any]]:
    """Parameter groups of all optimisers."""
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
