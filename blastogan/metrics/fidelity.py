"""Fidelity of fakes to reals: each set is read once, every metric follows from its statistics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from blastogan.errors import UserError
from blastogan.metrics.cache import cached
from blastogan.metrics.classes import kid_by_class
from blastogan.metrics.extractors import AUTO, load_extractor
from blastogan.metrics.frechet import FrechetReference, frechet_deviation
from blastogan.metrics.gap import HeldOutGap, held_out_gap
from blastogan.metrics.kernel import MAX_IMAGES, subset_kid, unbiased_kid
from blastogan.metrics.manifold import density_coverage, precision_recall
from blastogan.metrics.pixels import compare_pixels
from blastogan.metrics.report import FidelityReport
from blastogan.metrics.specs import METRICS, PIXEL_METRICS, SPECS
from blastogan.metrics.statistics import Batch, FeatureExtractor, SetStatistics, gather_statistics
from blastogan.metrics.weights import WeightsNotFound
from blastogan.utils.seeding import derive_seed

_log = logging.getLogger(__name__)

_NEED_FEATURES = {spec.name for spec in SPECS if spec.needs == "features"}


class FidelityEvaluator:
    """Measure how close fakes come to reals, for any images, with or without Lightning.

    `gather` reads a set once and keeps what the metrics need; `compare` computes them. The global
    random state is left alone. With ``fid`` alone, memory does not grow with the sets.

    Args:
        extractor: Name (see `blastogan.metrics.extractors`), ``auto`` for the first that is on this
            machine (see `choose_extractor`), a loaded extractor, or ``none``.
        weights: File of the extractor's weights; ``None`` searches, see `find_weights`.
        metrics: Any of `blastogan.metrics.specs.METRICS`.
        kid_subset_size: Images in a subset for KID; lowered, with a note, if a set is smaller.
        kid_subsets: Number of subsets.
        swd_images: Largest number of random reals, and of fakes, for the pixel metrics.
        class_images: Smallest number of reals, and of fakes, for the KID of a class or letter.
        seed: Seed of subsets, samples, patches and pairs.
        device: Device of the extractor and of the pixel metrics.
        optional: If the weights are missing, warn and leave out the metrics that need them.

    Raises:
        UserError: If a metric or extractor is unknown.
        WeightsNotFound: If the weights are missing, unless `optional`.
    """

    def __init__(
        self,
        extractor: str | FeatureExtractor | None = AUTO,
        *,
        weights: str | None = None,
        metrics: Sequence[str] = METRICS,
        kid_subset_size: int = 1000,
        kid_subsets: int = 100,
        swd_images: int = 2000,
        class_images: int = 10,
        seed: int = 0,
        device: str | torch.device = "cpu",
        optional: bool = False,
    ) -> None:
        unknown = [name for name in metrics if name not in METRICS]
        if unknown or not metrics:
            given = ", ".join(unknown) or "are empty"
            raise UserError(f"metrics {given}: expected any of {', '.join(METRICS)}")
        if min(kid_subset_size, kid_subsets, swd_images, class_images - 1) < 2:
            raise UserError(
                f"kid_subset_size is {kid_subset_size}, kid_subsets {kid_subsets}, swd_images "
                f"{swd_images}, class_images {class_images}: expected 2 or more, class_images 3"
            )
        if not 0 <= seed < 2**32:
            raise UserError(f"seed is {seed}: expected 0 to {2**32 - 1}")
        self.metrics = tuple(name for name in METRICS if name in metrics)
        self.kid_subset_size = kid_subset_size
        self.kid_subsets = kid_subsets
        self.swd_images = swd_images
        self.class_images = class_images
        self.seed, self.device = seed, device
        self.extractor = self._load(extractor, weights, device, optional)
        if self.extractor is None:
            self.metrics = tuple(name for name in self.metrics if name in PIXEL_METRICS)

    def _load(
        self,
        extractor: str | FeatureExtractor | None,
        weights: str | None,
        device: str | torch.device,
        optional: bool,
    ) -> FeatureExtractor | None:
        if extractor is None or extractor == "none" or not set(self.metrics) - set(PIXEL_METRICS):
            return None
        if not isinstance(extractor, str):
            return extractor
        try:
            return load_extractor(extractor, weights, device=device)
        except WeightsNotFound as error:
            if not optional:
                raise
            _log.warning("%s\nuntil then: metrics that need no weights only", error)
            return None

    def __repr__(self) -> str:
        label = "none" if self.extractor is None else self.extractor.label
        return f"{type(self).__name__}({label!r}, metrics={self.metrics}, seed={self.seed})"

    @property
    def keeps_features(self) -> bool:
        """Whether a metric needs the features of all images at once."""
        return not _NEED_FEATURES.isdisjoint(self.metrics)

    def gather(
        self,
        batches: Iterable[Batch],
        *,
        groups: Sequence[str] | None = None,
        real: bool = False,
        extract: bool = True,
    ) -> SetStatistics:
        """Gather the statistics of a set, which is read once, see `gather_statistics`.

        Args:
            batches: Images uint8 ``(B, C, H, W)``, or floats in [-1, 1]; or mappings with
                ``image``, and optionally ``labels`` int64 ``(B, 2)`` and ``index``.
            groups: Embryo by index; neither halves nor permutations separate its images.
            real: Whether the images are real: the floor needs two halves of them.
            extract: Whether to run the extractor; ``False`` if a cache has the features.
        """
        return gather_statistics(
            batches,
            self.extractor if extract else None,
            keep_features=self.keeps_features,
            keep_images=self.swd_images if set(self.metrics) & set(PIXEL_METRICS) else 0,
            two_halves=real,
            groups=groups,
            seed=self.seed,
        )

    def gather_cached(self, key: str, gather: Callable[[bool], SetStatistics]) -> SetStatistics:
        """Statistics of the reals, whose features a cache keeps.

        Args:
            key: Key of the set, see `blastogan.metrics.cache.statistics_key`.
            gather: Gathers the set; its argument says whether to run the extractor.
        """
        if self.extractor is None:
            return gather(False)
        keys = (key, self.extractor.key, self.seed)
        found = cached(keys, self.keeps_features, lambda: gather(True))
        if found.images is None and set(self.metrics) & set(PIXEL_METRICS):
            pixels = gather(False)
            return replace(found, images=pixels.images, image_index=pixels.image_index)
        return found

    def compare(self, real: SetStatistics, fake: SetStatistics) -> FidelityReport:
        """Compute all metrics.

        Raises:
            UserError: If a set has fewer than two images, or the extractors differ.
        """
        self._check(real, fake)
        report = FidelityReport({}, real.extractor, real.count, fake.count, fake.shape)
        if "fid" in self.metrics and real.halves is not None and fake.halves is not None:
            self._compare_moments(real, fake, report)
        if real.features is not None and fake.features is not None:
            self._compare_features(real.features, fake.features, report)
            if "classes" in self.metrics and real.labels is not None and fake.labels is not None:
                report.classes = kid_by_class(real, fake, self.class_images)
            elif "classes" in self.metrics:
                note = "a set has no grades: no KID by class, and MS-SSIM is across classes"
                report.notes.append(note)
        if set(self.metrics) & set(PIXEL_METRICS):
            values, notes = compare_pixels(real, fake, self.metrics, self.seed, self.device)
            report.values |= values
            report.notes += notes
        report.floor = self._floor(real)
        return report

    def gap(
        self, train: SetStatistics, held_out: SetStatistics, fake: SetStatistics
    ) -> HeldOutGap | None:
        """Test whether fakes are nearer to training than to held-out images; needs features."""
        sets = (train, held_out, fake)
        features = [each.features for each in sets if each.features is not None and each.count > 1]
        if len(features) < 3:
            return None
        groups = None
        if train.groups is not None and held_out.groups is not None:
            groups = [*train.groups, *held_out.groups]
        first, second, third = features
        return held_out_gap(first, second, self._shuffled(third), groups=groups, seed=self.seed)

    def _check(self, real: SetStatistics, fake: SetStatistics) -> None:
        for name, each in (("real", real), ("fake", fake)):
            if each.count < 2:
                raise UserError(
                    f"the {name} set has {each.count} image: a distance between sets needs two or "
                    "more, a meaningful one hundreds"
                )
        if real.extractor_key != fake.extractor_key:
            raise UserError(
                f"the features of the reals are of {real.extractor}, those of the fakes of "
                f"{fake.extractor} (or another version, or other weights): gather both with one "
                "extractor"
            )

    def _compare_moments(
        self, real: SetStatistics, fake: SetStatistics, report: FidelityReport
    ) -> None:
        report.values["fid"] = real.reference.distance(fake.moments)
        if fake.features is not None:
            shuffled = self._shuffled(fake.features)
            report.values["fid_std"] = frechet_deviation(real.reference, shuffled)
        fewest, dim = min(real.count, fake.count), len(real.moments.mean)
        if fewest <= dim:
            report.notes.append(
                f"FID of {fewest} images in {dim} dimensions: the covariance is singular and the "
                "value far too high; compare it only at the same numbers of images. KID has no "
                "such bias"
            )

    def _compare_features(self, real: Tensor, fake: Tensor, report: FidelityReport) -> None:
        fewest, values = min(len(real), len(fake)), report.values
        if "kid" in self.metrics:
            (values["kid"], values["kid_std"]), size = self._kid(real, fake)
            if size < self.kid_subset_size:
                report.notes.append(
                    f"KID by subsets of {size} images instead of {self.kid_subset_size}, all of "
                    "the smaller set; its deviation is over sets, not subsets"
                )
        overlaps = (
            (("precision", "recall"), precision_recall, 3),
            (("density", "coverage"), density_coverage, 5),
        )
        for names, measure, neighbours in overlaps:
            wanted = set(names) & set(self.metrics)
            if not wanted or fewest <= neighbours:
                continue
            for name, pair in zip(names, measure(real, fake, neighbours=neighbours), strict=True):
                if name in wanted:
                    values[name], values[f"{name}_std"] = pair

    def _floor(self, real: SetStatistics) -> dict[str, Any] | None:
        """Distance between two halves of the reals; computed once per set."""
        if real.halves is None or min(half.count for half in real.halves) < 2:
            return None
        settings = (self.metrics, self.kid_subset_size, self.kid_subsets, self.seed)
        if settings not in real.floors:
            first, second = real.halves
            floor: dict[str, Any] = {"n": [first.count, second.count]}
            if "fid" in self.metrics:
                floor["fid"] = FrechetReference(first).distance(second)
            if "kid" in self.metrics and real.features is not None and real.half is not None:
                halves = [real.features[real.half == half] for half in (0, 1)]
                floor["kid"], floor["kid_std"] = self._kid(*halves)[0]
            real.floors[settings] = floor
        return real.floors[settings]

    def _kid(self, real: Tensor, fake: Tensor) -> tuple[tuple[float, float], int]:
        """KID with its deviation, and the subset size."""
        size = min(self.kid_subset_size, len(real), len(fake))
        value, deviation = subset_kid(
            real, fake, subset_size=size, subsets=self.kid_subsets, seed=self.seed
        )
        if size < self.kid_subset_size and size > 2:
            # subsets that are nearly the whole set differ too little, or not at all
            some = (self._shuffled(each)[:MAX_IMAGES] for each in (real, fake))
            deviation = unbiased_kid(*some)[1]
        return (value, deviation), size

    def _shuffled(self, features: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "shuffle"))
        return features[torch.randperm(len(features), generator=generator)]
