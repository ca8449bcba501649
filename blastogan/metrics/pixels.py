"""Pixel metrics between two sets: they need no trained network."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from blastogan.growth import is_power_of_two
from blastogan.metrics.similarity import ms_ssim_within_classes
from blastogan.metrics.sliced_wasserstein import COARSEST, image_swd_by_direction
from blastogan.metrics.statistics import SetStatistics
from blastogan.utils.seeding import derive_seed


def compare_pixels(
    real: SetStatistics,
    fake: SetStatistics,
    metrics: Collection[str],
    seed: int,
    device: str | torch.device = "cpu",
) -> tuple[dict[str, float], list[str]]:
    """Sliced Wasserstein distance and MS-SSIM within classes, of the images that sets keep.

    Returns:
        Values by name, and notes on what could not be measured, a sentence each.
    """
    if real.images is None or fake.images is None:
        return {}, ["no SWD and no MS-SSIM: a set comes from a file, which holds no images"]
    both = (real.images, fake.images)
    channels = max(images.shape[1] for images in both)
    reals, fakes = (images.expand(-1, channels, -1, -1).to(device) for images in both)
    misfits = [_size(images) for images in (reals, fakes) if not _fits_pyramid(images)]
    if misfits:
        wrong = " and ".join(dict.fromkeys(misfits))
        return {}, [
            f"no SWD and no MS-SSIM: they need squares of 16, 32, ... pixels "
            f"(--resolution R resizes folders), got {wrong}"
        ]
    values: dict[str, float] = {}
    notes = []
    if "swd" in metrics and reals.shape[1:] == fakes.shape[1:]:
        values |= _swd(reals, fakes, seed)
    elif "swd" in metrics:
        notes.append(f"no SWD between images of {_size(reals)} and of {_size(fakes)}")
    if "ms_ssim" in metrics:
        # values within classes and across classes are not comparable
        graded = real.labels is not None and fake.labels is not None
        for name, each, images in (("ms_ssim", fake, fakes), ("ms_ssim_real", real, reals)):
            labels = each.image_labels()
            if labels is None or not graded:
                labels = torch.zeros(len(images), 2, dtype=torch.int64)
            if torch.unique(labels, dim=0, return_counts=True)[1].max() < 2:
                notes.append(f"no {name}: no class has two images")
                continue
            # the value of the reals is the same in every evaluation of a run
            key = (graded, seed, tuple(images.shape))
            if key not in each.similarities:
                each.similarities[key] = ms_ssim_within_classes(images, labels, seed=seed)
            values[name], values[f"{name}_std"] = each.similarities[key]
    return values, notes


def _swd(reals: Tensor, fakes: Tensor, seed: int) -> dict[str, float]:
    # sets may be sorted by class: the first images would not represent them
    count = min(len(reals), len(fakes))
    generator = torch.Generator().manual_seed(derive_seed(seed, "swd"))
    chosen = [torch.randperm(len(each), generator=generator)[:count] for each in (reals, fakes)]
    reals, fakes = reals[chosen[0].sort().values], fakes[chosen[1].sort().values]
    levels = image_swd_by_direction(reals, fakes, seed=seed)
    means = {f"swd_{level}": float(along.mean()) for level, along in levels.items()}
    variance = sum(float(along.var()) / len(along) for along in levels.values())
    return {
        "swd": sum(means.values()) / len(means),
        "swd_std": math.sqrt(variance) / len(means),
        **means,
    }


def _fits_pyramid(images: Tensor) -> bool:
    height, width = images.shape[-2:]
    return height == width >= COARSEST and is_power_of_two(height)


def _size(images: Tensor) -> str:
    return f"{images.shape[-1]}x{images.shape[-2]}"
