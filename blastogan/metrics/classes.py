"""KID of each class and of each letter: unbiased, however few the images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blastogan.grades import CLASSES, LETTERS, Grade
from blastogan.metrics.kernel import MAX_IMAGES, unbiased_kid
from blastogan.metrics.statistics import SetStatistics


def kid_by_class(
    real: SetStatistics, fake: SetStatistics, min_images: int
) -> dict[str, dict[str, float | None]]:
    """Unbiased KID with a 95 % interval, by class, then by letter (``ICM A``, ``TE B``).

    FID of so few images would measure their number. The interval is normal, by the jackknife over
    embryos and fakes.

    Args:
        real: With features and labels.
        fake: With features and labels.
        min_images: Smallest number of reals, and of fakes, for which KID is computed.

    Returns:
        ``n_real``, ``n_fake``, ``kid``, ``low``, ``high`` of each class that has an image; the
        last three are ``None`` with fewer than `min_images`, or fewer than three embryos. At most
        `MAX_IMAGES` reals and fakes are used and counted: more cost minutes and add nothing.
    """
    assert real.features is not None
    assert fake.features is not None
    rows: dict[str, dict[str, float | None]] = {}
    embryos = _embryos(real)
    for name, letters in _parts().items():
        reals, fakes = (_random_members(each, letters) for each in (real, fake))
        if not len(reals) and not len(fakes):
            continue
        row: dict[str, float | None] = {"n_real": len(reals), "n_fake": len(fakes)}
        row |= {"kid": None, "low": None, "high": None}
        if min(len(reals), len(fakes)) >= min_images:
            value, error = unbiased_kid(
                real.features[reals],
                fake.features[fakes],
                None if embryos is None else embryos[reals],
            )
            if not math.isnan(error):
                row |= {"kid": value, "low": value - 1.96 * error, "high": value + 1.96 * error}
        rows[name] = row
    return rows


def _embryos(statistics: SetStatistics) -> Tensor | None:
    """Number of the embryo of each image; ``None`` if embryos are unknown."""
    if statistics.groups is None:
        return None
    numbers = {name: n for n, name in enumerate(dict.fromkeys(statistics.groups))}
    return torch.tensor([numbers[name] for name in statistics.groups])


def _random_members(statistics: SetStatistics, letters: tuple[int | None, int | None]) -> Tensor:
    """Positions of random members of a class, at most `MAX_IMAGES`."""
    found = _members(statistics, letters).nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(0)
    return found[torch.randperm(len(found), generator=generator)[:MAX_IMAGES]]


def _members(statistics: SetStatistics, letters: tuple[int | None, int | None]) -> Tensor:
    assert statistics.labels is not None
    chosen = torch.ones(statistics.count, dtype=torch.bool)
    for column, letter in enumerate(letters):
        if letter is not None:
            chosen &= statistics.labels[:, column] == letter
    return chosen


def _parts() -> dict[str, tuple[int | None, int | None]]:
    """ICM and TE letter of each class, then of each letter alone."""
    classes = {name: Grade.parse(name).labels for name in CLASSES}
    icm = {f"ICM {letter}": (n, None) for n, letter in enumerate(LETTERS)}
    te = {f"TE {letter}": (None, n) for n, letter in enumerate(LETTERS)}
    return {**classes, **icm, **te}
