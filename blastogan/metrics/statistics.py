"""Statistics of one image set: moments, features, and a sample of its images."""

from __future__ import annotations

import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from blastogan.errors import UserError
from blastogan.metrics.frechet import FrechetReference, Moments
from blastogan.metrics.sample import Rows, Sample
from blastogan.utils.pixels import to_uint8
from blastogan.utils.seeding import derive_seed


class FeatureExtractor(Protocol):
    """Turns images into feature vectors; see `blastogan.metrics.extractors.Extractor`."""

    dim: int
    label: str
    key: str

    def __call__(self, images: Tensor) -> Tensor:
        """Features float32 ``(B, dim)`` of uint8 images ``(B, C, H, W)``."""


@dataclass
class SetStatistics:
    """Statistics of reals or fakes. Features, labels and groups are in the order of ``index``.

    Attributes:
        index: int64 ``(N,)``, numbers of the images, ascending.
        extractor: Label of the extractor, or ``none``.
        extractor_key: Its key; sets with different keys are not comparable.
        halves: Moments of two halves that share no embryo; the second is empty without a floor.
        features: float32 ``(N, D)``, if a metric needs them.
        labels: int64 ``(N, 2)``, if the images are graded.
        groups: Embryo of each image, if known.
        images: uint8 ``(K, C, H, W)``, a random sample for the pixel metrics.
        image_index: Their numbers, int64 ``(K,)``.
        shape: ``(C, H, W)`` of all images.
        half: Split half of each image, ``(N,)``, 0 or 1, if features are kept.
        floors: Distances between the halves computed so far, by settings.
        similarities: MS-SSIM and its error computed so far, by settings.
    """

    index: Tensor
    extractor: str = "none"
    extractor_key: str = "none"
    halves: tuple[Moments, Moments] | None = None
    features: Tensor | None = None
    labels: Tensor | None = None
    groups: tuple[str, ...] | None = None
    images: Tensor | None = None
    image_index: Tensor | None = None
    shape: tuple[int, ...] = ()
    half: Tensor | None = None
    floors: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict, repr=False)
    similarities: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of_features(cls, features: Tensor) -> SetStatistics:
        """Statistics of features ``(N, D)`` that were computed elsewhere."""
        halves = Moments.of(features[::2]), Moments.of(features[1::2])
        index = torch.arange(len(features))
        return cls(index, "features", "features", halves, features.float(), half=index % 2)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.index)

    @cached_property
    def moments(self) -> Moments:
        """Moments of the whole set; a `UserError` without an extractor."""
        if self.halves is None:
            raise UserError("these statistics hold no features: gather them with an extractor")
        return self.halves[0].merge(self.halves[1])

    @cached_property
    def reference(self) -> FrechetReference:
        """The set as the reference Gaussian of distances; its factor is kept."""
        return FrechetReference(self.moments)

    def image_labels(self) -> Tensor | None:
        """Labels of `images`, int64 ``(K, 2)``."""
        if self.labels is None or self.image_index is None:
            return None
        return self.labels[torch.searchsorted(self.index, self.image_index)]

    @classmethod
    def merge(cls, parts: Sequence[SetStatistics], keep_images: int, seed: int) -> SetStatistics:
        """Merge the parts that each process gathered."""
        index = torch.cat([part.index for part in parts])
        order = index.argsort()
        halves = parts[0].halves
        for part in parts[1:]:
            if halves is not None and part.halves is not None:
                halves = halves[0].merge(part.halves[0]), halves[1].merge(part.halves[1])
        names = [name for part in parts for name in part.groups or ()]
        sample = Sample(keep_images, seed)
        for part in parts:
            if part.images is not None and part.image_index is not None:
                sample.add(part.images, part.image_index)
        features, labels, half = (_joined(parts, name) for name in ("features", "labels", "half"))
        return cls(
            index[order],
            parts[0].extractor,
            parts[0].extractor_key,
            halves,
            None if features is None else features[order],
            None if labels is None else labels[order],
            tuple(names[n] for n in order.tolist()) if names else None,
            *sample.sorted(),
            parts[0].shape,
            None if half is None else half[order],
        )


def _joined(parts: Sequence[SetStatistics], name: str) -> Tensor | None:
    found = [getattr(part, name) for part in parts]
    return None if any(each is None for each in found) else torch.cat(found)


Batch = Tensor | Mapping[str, Any]
"""Images ``(B, C, H, W)``, uint8 or floats in [-1, 1], alone or with ``labels`` and ``index``."""


def gather_statistics(
    batches: Iterable[Batch],
    extractor: FeatureExtractor | None,
    *,
    keep_features: bool,
    keep_images: int,
    two_halves: bool,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> SetStatistics:
    """Gather the statistics of a set in one pass, batch by batch.

    Args:
        batches: The set; batches without ``index`` are numbered in order.
        extractor: Extracts the features; ``None`` for pixel metrics alone.
        keep_features: Whether to keep all features; without, memory does not grow with N.
        keep_images: Number of random images to keep.
        two_halves: Whether to keep the moments of two halves.
        groups: Embryo by index of an image.
        seed: Seed of halves and sample.

    Raises:
        UserError: If the set is empty, or the images differ in shape, have neither 1 nor 3
            channels, or are neither uint8 nor floats in [-1, 1].
    """
    halves = None if extractor is None else (Moments(extractor.dim), Moments(extractor.dim))
    index, letters, features = array("q"), array("q"), Rows()
    sample, half_of = Sample(keep_images, seed), _half_of_images(groups, seed)
    shape: tuple[int, ...] = ()
    for batch in batches:
        images, numbers, graded = _parse_batch(batch, len(index), shape)
        shape = tuple(images.shape[1:])
        index.extend(numbers.tolist())
        if graded is not None:
            letters.extend(graded.flatten().tolist())
        sample.add(images, numbers)
        if extractor is None or halves is None:
            continue
        found = extractor(images)
        where = half_of(numbers) if two_halves else torch.zeros(len(images))
        for half, moments in enumerate(halves):
            moments.update(found[(where == half).to(found.device)].cpu())
        if keep_features:
            features.extend(found.float().cpu())
    if not index:
        raise UserError("no images: the set is empty")
    numbers, order = torch.tensor(index).sort()
    labels = torch.tensor(letters).view(-1, 2) if len(letters) == 2 * len(index) else None
    return SetStatistics(
        numbers,
        extractor.label if extractor else "none",
        extractor.key if extractor else "none",
        halves,
        features.all()[order] if keep_features and extractor is not None else None,
        None if labels is None else labels[order],
        None if groups is None else tuple(groups[n] for n in numbers.tolist()),
        *sample.sorted(),
        shape,
        half_of(numbers) if keep_features and two_halves else None,
    )


def _parse_batch(
    batch: Batch, seen: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Images uint8, their numbers and labels, from a batch in any accepted form."""
    given = batch if isinstance(batch, Mapping) else {"image": batch}
    images: Tensor = given["image"]
    labels, numbers = given.get("labels"), given.get("index")
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise UserError(
            f"images have shape {tuple(images.shape)}: expected (B, C, H, W) with 1 (grey) or "
            "3 (RGB) channels"
        )
    if shape and shape != images.shape[1:]:
        raise UserError(
            f"images of several shapes: {shape} and {tuple(images.shape[1:])} (C, H, W). Resize "
            "all to one size: metrics of mixed sizes measure the sizes"
        )
    if images.is_floating_point():
        low, high = float(images.min()), float(images.max())
        if not (low >= -1.0 and high <= 1.0):
            raise UserError(
                f"images are floats from {low:g} to {high:g}: expected uint8, or floats in "
                "[-1, 1]; clamp the images of a generator, and convert 0..255 to uint8"
            )
        if low >= 0.0:
            warnings.warn(
                "images are floats of 0 or more and are read as [-1, 1]: if they are in [0, 1], "
                "pass (images * 255).round() as uint8",
                stacklevel=2,
            )
        images = to_uint8(images)
    elif images.dtype != torch.uint8:
        raise UserError(f"images are {images.dtype}: expected torch.uint8, or floats in [-1, 1]")
    if numbers is None:
        numbers = torch.arange(seen, seen + len(images))
    return images, numbers.cpu().long(), None if labels is None else labels.cpu().long()


def _half_of_images(groups: Sequence[str] | None, seed: int) -> Callable[[Tensor], Tensor]:
    """Half, 0 or 1, by number: groups in random order fill the smaller; without, they alternate."""
    if groups is None:
        return lambda numbers: numbers % 2
    sizes, filled = Counter(groups), [0, 0]
    halves: dict[str, int] = {}
    for group in sorted(sizes, key=lambda name: derive_seed(seed, "half", name)):
        halves[group] = int(filled[1] < filled[0])
        filled[halves[group]] += sizes[group]
    return torch.tensor([halves[group] for group in groups]).__getitem__
