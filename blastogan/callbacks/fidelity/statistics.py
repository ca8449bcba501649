"""Statistics of the real and generated images of a run, computed by all processes together."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from functools import partial
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
from blastogan.utils.seeding import derive_seed
from blastogan.utils.terminal import track

_log = logging.getLogger(__name__)

MIN_HELD_OUT = 20
"""Minimum number of validation images for KID against them; few are enough, since the estimate is
unbiased and all states of a run are compared with the same images."""


class RunStatistics:
    """Gathers statistics for an evaluator; all processes share the work and get the result.

    Args:
        trainer: Trainer with a `BlastocystDataModule`.
        evaluator: Computes features and statistics.
        batch_size: Images per batch.
        cache: Whether to keep features of real images in the cache folder.
        num_reals: Maximum number of training images, chosen at random; ``None`` for all.
    """

    def __init__(
        self,
        trainer: Trainer,
        evaluator: FidelityEvaluator,
        batch_size: int,
        cache: bool,
        num_reals: int | None = None,
    ) -> None:
        self.trainer = trainer
        self.evaluator = evaluator
        self.batch_size = batch_size
        self.cache = cache
        self.num_reals = num_reals
        self._real: dict[str, SetStatistics] = {}

    @property
    def data(self) -> BlastocystDataModule:
        """The data module; raises `UserError` if it is not a `BlastocystDataModule`."""
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
        gather = partial(self._gather_part, part, groups)
        if not self.cache or self.trainer.world_size > 1:
            return gather()
        index = self._chosen(part, len(groups))
        images = (data.images(part, some) for some in torch.split(index, self.batch_size))
        key = statistics_key(images, data.labels(part)[index], groups)
        return self.evaluator.gather_cached(key, gather)

    def _gather_part(self, part: str, groups: list[str], extract: bool = True) -> SetStatistics:
        labels = self.data.labels(part)
        index = self._chosen(part, len(labels))
        self._check_count(len(index), f"{part} images")
        index = index[self.trainer.global_rank :: self.trainer.world_size]
        batches = (
            {"image": self.data.images(part, some), "labels": labels[some], "index": some}
            for some in torch.split(index, self.batch_size)
        )
        gathered = self.evaluator.gather(batches, groups=groups, real=True, extract=extract)
        return self._merge(gathered)

    def _chosen(self, part: str, count: int) -> torch.Tensor:
        """Ascending numbers of the images of a part that are used, int64."""
        if part != "train" or self.num_reals is None or self.num_reals >= count:
            return torch.arange(count)
        generator = torch.Generator().manual_seed(derive_seed(self.evaluator.seed, "reals"))
        return torch.randperm(count, generator=generator)[: self.num_reals].sort().values

    def fake(self, count: int, description: str = "") -> SetStatistics:
        """Statistics of samples of the averaged generator, with the training class distribution.

        Args:
            count: Number of samples; without an extractor at most what the pixel metrics use.
            description: Text of the progress bar; empty for no bar.
        """
        if self.evaluator.extractor is None:
            count = min(count, self.evaluator.swd_images)
        self._check_count(count, "fakes")
        batches: Iterable[Batch] = evaluation_fakes(
            as_gan(self.trainer.lightning_module),
            sample_labels(count, self._class_weights(), self.evaluator.seed),
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

    def _class_weights(self) -> dict[str, int]:
        """Images of each class in training, or equal weights if no class is known."""
        counts = self.data.class_counts("train")
        return counts if any(counts.values()) else dict.fromkeys(counts, 1)

    @property
    def measures_kid(self) -> bool:
        """Whether KID is requested and can be computed from features."""
        return "kid" in self.evaluator.metrics and self.evaluator.extractor is not None

    @property
    def measures_held_out(self) -> bool:
        """Whether KID is measured and there are enough validation images, of enough embryos."""
        enough = len(self.data.split.get("val", ())) >= MIN_HELD_OUT
        return self.measures_kid and enough and "val" not in self.data.weak_parts

    def held_out_kid(self, fake: SetStatistics) -> dict[str, float]:
        """`unbiased_kid` of samples against validation images, its error, and their number.

        Empty if it cannot be measured.
        """
        if not self.measures_held_out:
            return {}
        real = self.real("val")
        assert real.features is not None
        assert fake.features is not None
        number = {embryo: n for n, embryo in enumerate(dict.fromkeys(real.groups or ()))}
        embryos = torch.tensor([number[each] for each in real.groups]) if real.groups else None
        value, error = unbiased_kid(real.features, fake.features, embryos)
        return {"kid_held_out": value, "kid_held_out_std": error, "n_held_out": real.count}

    def _check_count(self, count: int, what: str) -> None:
        # on all processes: one without images would hang
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
