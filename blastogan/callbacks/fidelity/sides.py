"""The two sides of an evaluation within a run: its data and its fakes, shared among processes."""

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
"""With fewer validation images, KID to them says little. It has no bias, and states of a run are
compared by the same images, so that few are enough: a tenth of 200."""


class FidelitySides:
    """Gathers what an evaluator compares; every process calls, and every one gets the whole.

    Args:
        trainer: With a `BlastocystDataModule`.
        evaluator: Looks at the images.
        batch_size: Images to a batch.
        cache: Whether the real side is kept in the cache folder.
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
        """The data of the run.

        Raises:
            UserError: If they come from elsewhere.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, BlastocystDataModule):
            raise UserError(
                "fidelity is measured against the images of a BlastocystDataModule: give one to "
                "the trainer (datamodule=...), or use FidelityEvaluator on your own loader"
            )
        return data

    def real(self, part: str) -> SetStatistics:
        """Statistics of ``train``, ``val`` or ``test``, gathered once."""
        if part not in self._real:
            self._real[part] = self._gather_real(part)
        return self._real[part]

    def _gather_real(self, part: str) -> SetStatistics:
        data = self.data
        groups = [data.records[n].embryo for n in data.split[part]]
        if not self.cache or self.trainer.world_size > 1:
            return self._look_at(part, groups)
        parts = torch.split(torch.arange(len(groups)), self.batch_size)
        images = (data.images(part, some) for some in parts)
        key = statistics_key(images, data.labels(part), groups)
        return self.evaluator.gather_cached(
            key, lambda extract: self._look_at(part, groups, extract)
        )

    def _look_at(self, part: str, groups: list[str], extract: bool = True) -> SetStatistics:
        labels = self.data.labels(part)
        self._check_share(len(labels), f"{part} images")
        index = torch.arange(self.trainer.global_rank, len(labels), self.trainer.world_size)
        batches = (
            {"image": self.data.images(part, some), "labels": labels[some], "index": some}
            for some in torch.split(index, self.batch_size)
        )
        return self._whole(
            self.evaluator.gather(batches, groups=groups, real=True, extract=extract)
        )

    def fake(self, count: int, description: str = "") -> SetStatistics:
        """Statistics of samples of the averaged generator, graded by the law of the training data.

        Without an extractor no more are made than are looked at.

        Args:
            count: Number of samples.
            description: What to say of it; nothing if empty.
        """
        if self.evaluator.extractor is None:
            count = min(count, self.evaluator.swd_images)
        self._check_share(count, "fakes")
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
            share = math.ceil(count / self.trainer.world_size / self.batch_size)
            batches = track(batches, share, description)
        return self._whole(self.evaluator.gather(batches))

    @property
    def measures_kid(self) -> bool:
        """Whether KID is asked for, and there are features for it."""
        return "kid" in self.evaluator.metrics and self.evaluator.extractor is not None

    @property
    def measures_held_out(self) -> bool:
        """Whether there are features for KID, and enough validation images."""
        return self.measures_kid and len(self.data.split.get("val", ())) >= MIN_HELD_OUT

    def held_out_kid(self, fake: SetStatistics) -> dict[str, float]:
        """KID of samples to the validation images, if it can be measured.

        Of the whole sets, without bias, which a few images allow (`unbiased_kid`).

        Args:
            fake: As of `fake`.

        Returns:
            ``kid_held_out`` and ``kid_held_out_std``, its standard error; or nothing.
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

    def _check_share(self, count: int, what: str) -> None:
        """Refuse on all processes what would leave one without an image, and the others waiting."""
        if count < self.trainer.world_size:
            raise UserError(
                f"{count} {what} for {self.trainer.world_size} processes: each needs one at least; "
                "evaluate on fewer devices or more images"
            )

    def _whole(self, share: SetStatistics) -> SetStatistics:
        if self.trainer.world_size == 1:
            return share
        shares: list[Any] = [None] * self.trainer.world_size
        dist.all_gather_object(shares, share)
        return SetStatistics.merge(shares, self.evaluator.swd_images, self.evaluator.seed)
