"""Statistics of the real and generated images of a run, computed by all processes together."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer

from blastogan.data import BlastocystDataModule
from blastogan.errors import UserError
from blastogan.evaluation.fakes import evaluation_fakes, sample_labels
from blastogan.metrics.cache import statistics_key
from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.kernel import unbiased_kid
from blastogan.metrics.statistics import Batch, SetStatistics
from blastogan.modules.base import as_gan
from blastogan.utils.terminal import track

_log = logging.getLogger(__name__)

MIN_HELD_OUT = 20
"""Validation images below which KID against them means little. Few are enough (a tenth of 200),
since the estimate is unbiased and all states of a run are compared with the same images."""


class RunStatistics:
    """Gathers the statistics that an evaluator compares.

    Methods are called on all processes, which share the images; each gets the complete result.

    Args:
        trainer: Trainer with a `BlastocystDataModule`.
        evaluator: Computes features and statistics.
        batch_size: Images per batch.
        cache: Whether to keep features of real images in the cache folder.
    """

    def __init__(
        self, trainer: Trainer, evaluator: FidelityEvaluator, batch_size: int, cache: bool
    ) -> None:
        self.trainer = trainer
        self.evaluator = evaluator
        self.batch_size = batch_size
        self.cache = cache
        self._real: dict[str, SetStatistics] = {}

    @property
    def data(self) -> BlastocystDataModule:
        """The data module of the run.

        Raises:
            UserError: If the trainer has none of class `BlastocystDataModule`.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, BlastocystDataModule):
            raise UserError(
                "fidelity is measured against the images of a BlastocystDataModule: give the "
                "trainer one (datamodule=...), or use FidelityEvaluator with your own loader"
            )
        return data

    def real(self, part: str) -> SetStatistics:
        """Statistics of the real images of ``train``, ``val`` or ``test``, gathered once."""
        if part not in self._real:
            self._real[part] = self._gather_real(part)
        return self._real[part]

    def _gather_real(self, part: str) -> SetStatistics:
        data = self.data
        groups = [data.records[n].embryo for n in data.split[part]]
        if not self.cache or self.trainer.world_size > 1:
            return self._gather_part(part, groups)
        parts = torch.split(torch.arange(len(groups)), self.batch_size)
        images = (data.images(part, some) for some in parts)
        key = statistics_key(images, data.labels(part), groups)
        return self.evaluator.gather_cached(
            key, lambda extract: self._gather_part(part, groups, extract)
        )

    def _gather_part(self, part: str, groups: list[str], extract: bool = True) -> SetStatistics:
        labels = self.data.labels(part)
        self._check_count(len(labels), f"{part} images")
        index = torch.arange(self.trainer.global_rank, len(labels), self.trainer.world_size)
        batches = (
            {"image": self.data.images(part, some), "labels": labels[some], "index": some}
            for some in torch.split(index, self.batch_size)
        )
        return self._merge(
            self.evaluator.gather(batches, groups=groups, real=True, extract=extract)
        )

    def fake(self, count: int, description: str = "") -> SetStatistics:
        """Statistics of samples of the averaged generator.

        Samples have the class distribution of the training data. Without an extractor only as many
        are generated as the metrics of pixels use.

        Args:
            count: Number of samples.
            description: Text of the progress bar; empty for no bar.
        """
        if self.evaluator.extractor is None:
            count = min(count, self.evaluator.swd_images)
        self._check_count(count, "fakes")
        batches: Iterable[Batch] = evaluation_fakes(
            as_gan(self.trainer.lightning_module),
            sample_labels(count, self.data.class_counts("train"), self.evaluator.seed),
            seed=self.evaluator.seed,
            batch_size=self.batch_size,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        if description and self.trainer.is_global_zero:
            _log.info("%s: %d images", description, count)
            steps = math.ceil(count / self.trainer.world_size / self.batch_size)
            batches = track(batches, steps, description)
        return self._merge(self.evaluator.gather(batches))

    @property
    def measures_kid(self) -> bool:
        """Whether KID is requested and can be computed from features."""
        return "kid" in self.evaluator.metrics and self.evaluator.extractor is not None

    @property
    def measures_held_out(self) -> bool:
        """Whether KID is measured and there are enough validation images."""
        return self.measures_kid and len(self.data.split.get("val", ())) >= MIN_HELD_OUT

    def held_out_kid(self, fake: SetStatistics) -> dict[str, float]:
        """Unbiased KID of samples against the validation images (`unbiased_kid`).

        Args:
            fake: Statistics from `fake`.

        Returns:
            ``kid_held_out`` and its standard error ``kid_held_out_std``; empty if it cannot be
            measured.
        """
        if not self.measures_held_out:
            return {}
        real = self.real("val")
        assert real.features is not None
        assert fake.features is not None
        number = {embryo: n for n, embryo in enumerate(dict.fromkeys(real.groups or ()))}
        embryos = [number[embryo] for embryo in real.groups] if real.groups else None
        value, error = unbiased_kid(
            real.features, fake.features, None if embryos is None else torch.tensor(embryos)
        )
        return {"kid_held_out": value, "kid_held_out_std": error}

    def _check_count(self, count: int, what: str) -> None:
        """Refuse, on all processes, fewer images than processes: one without images would hang."""
        if count < self.trainer.world_size:
            raise UserError(
                f"{count} {what} for {self.trainer.world_size} processes: each needs at least one; "
                "use fewer devices or more images"
            )

    def _merge(self, part: SetStatistics) -> SetStatistics:
        if self.trainer.world_size == 1:
            return part
        parts: list[Any] = [None] * self.trainer.world_size
        dist.all_gather_object(parts, part)
        return SetStatistics.merge(parts, self.evaluator.swd_images, self.evaluator.seed)
