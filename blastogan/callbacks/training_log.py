"""Losses and metrics against thousands of images shown, for every logger."""

from __future__ import annotations

import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.modules.base import as_gan
from blastogan.modules.step.ranks import mean_over_ranks
from blastogan.runs.loggers import CSVLog


class TrainingLog(Callback):
    """Send the mean losses of every span of images to the loggers, one call per event.

    The step of a logger is the number of images shown, not Lightning's ``global_step``, which
    counts both optimisers.

    Args:
        schedule: Gives phase, resolution and alpha.
        every_kimg: Length of a span in thousands of images.
    """

    def __init__(self, schedule: GrowthSchedule, every_kimg: float = 1.0) -> None:
        if not every_kimg >= 0.001:
            raise UserError(f"every_kimg is {every_kimg}: expected 0.001 (one image) or more")
        self.schedule = schedule
        self.every_images = round(every_kimg * 1000)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._since = (0.0, 0)
        self._paused = 0.0
        self._before: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the first span, in tables that end where the run goes on."""
        shown = as_gan(pl_module).images_shown
        for logger in trainer.loggers:
            if isinstance(logger, CSVLog):
                logger.resume_from(shown)
        self._paused = time.perf_counter()
        self._begin(shown)

    def _begin(self, images_shown: int) -> None:
        self._sums, self._counts = {}, {}
        self._since = (time.perf_counter(), images_shown)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take out of the span what a validation or an evaluation between two ticks took."""
        if batch_idx == 0:
            began, first = self._since
            self._since = (began + time.perf_counter() - self._paused, first)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add the losses of the step; log them when the span is over."""
        for name, value in outputs.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        shown = as_gan(pl_module).images_shown
        self._paused = time.perf_counter()
        began, first = self._since
        if shown // self.every_images == first // self.every_images:
            return
        names = sorted(self._sums)
        means = torch.stack([self._sums[name].float() / self._counts[name] for name in names])
        mean_over_ranks([means])
        seconds = time.perf_counter() - began
        row = self.schedule.log_columns(shown) | dict(zip(names, means.tolist(), strict=True))
        row["images_per_second"] = (shown - first) / seconds
        self._send(trainer, row, shown)
        self._begin(shown)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the metrics of before, which Lightning keeps among those to come."""
        self._before = dict(trainer.callback_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics of a validation."""
        if trainer.sanity_checking:
            return
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if value is not self._before.get(name)
        }
        shown = as_gan(pl_module).images_shown
        if metrics:
            self._send(trainer, self.schedule.log_columns(shown) | metrics, shown)

    def _send(self, trainer: Trainer, row: dict[str, float], images_shown: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(row, step=images_shown)
