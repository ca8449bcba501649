"""Logs losses and metrics against thousands of images shown (kimg)."""

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
    """Log the mean losses of each span of images, and the metrics of each validation.

    The step is the number of images shown; Lightning's ``global_step`` counts both optimisers.

    Args:
        schedule: Growth schedule of the run.
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
        """Start the first span, and cut CSV logs to where the run resumes."""
        shown = as_gan(pl_module).images_shown
        for logger in trainer.loggers:
            if isinstance(logger, CSVLog):
                logger.resume_from(shown)
        self._paused = time.perf_counter()
        self._start_span(shown)

    def _start_span(self, images_shown: int) -> None:
        self._sums, self._counts = {}, {}
        self._since = (time.perf_counter(), images_shown)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Exclude the time of validation and evaluation between ticks from the span."""
        if batch_idx == 0:
            started, first = self._since
            self._since = (started + time.perf_counter() - self._paused, first)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the losses of the step; log their means at the end of the span."""
        for name, value in outputs.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        shown = as_gan(pl_module).images_shown
        self._paused = time.perf_counter()
        started, first = self._since
        if shown // self.every_images == first // self.every_images:
            return
        names = sorted(self._sums)
        means = torch.stack([self._sums[name].float() / self._counts[name] for name in names])
        mean_over_ranks([means])
        seconds = time.perf_counter() - started
        row = dict(zip(names, means.tolist(), strict=True))
        row["images_per_second"] = (shown - first) / seconds
        self._send(trainer, row, shown)
        self._start_span(shown)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the previous metrics, which Lightning keeps in the same dictionary."""
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
        if metrics:
            self._send(trainer, metrics, as_gan(pl_module).images_shown)

    def _send(self, trainer: Trainer, values: dict[str, float], images_shown: int) -> None:
        for logger in trainer.loggers:
            row = self.schedule.log_columns(images_shown) | values
            logger.log_metrics(row, step=images_shown)
