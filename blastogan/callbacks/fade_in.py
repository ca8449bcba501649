"""Fade-in of new resolutions."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.callbacks.growing import ProgressiveGrowing
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.modules.base import as_gan


class FadeIn(Callback):
    """Set ``alpha``, the weight of the newest resolution, from ``module.images_shown``.

    Karras et al. 2018, section 2 and figure 2.

    Args:
        schedule: The schedule given to `ProgressiveGrowing`.
    """

    def __init__(self, schedule: GrowthSchedule) -> None:
        self.schedule = schedule

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise `UserError` if the trainer has no `ProgressiveGrowing`."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if stage == "fit" and not any(isinstance(c, ProgressiveGrowing) for c in callbacks):
            raise UserError("FadeIn needs ProgressiveGrowing: add it to the callbacks")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the alpha of the step."""
        module = as_gan(pl_module)
        module.alpha = self.schedule.at(module.images_shown).alpha

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set the alpha reached after the step: 1 at the end of a phase."""
        module = as_gan(pl_module)
        module.alpha = self.schedule.state_after(module.images_shown).alpha
