"""KID of each class and of each letter: unbiased, however few the images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blastogan.grades import CLASSES, LETTERS, Grade
from blastogan.metrics.kernel import MAX_IMAGES, unbiased_kid
from blastogan.metrics.sample import number_groups
from blastogan.metrics.statistics import SetStatistics


def kid_by_class(
    real: SetStatistics, fake: SetStatistics, min_images: int
) -> dict[str, dict[str, float | None]]:
    """Unbiased KID with a 95 % interval, by class, then by letter (``ICM A``, ``TE B``).

    FID of so few images would measure their number. The interval is normal, by the jackknife over
    embryos and fakes. Both sets have features and labels.

    Returns:
        ``n_real``, ``n_fake``, ``kid``, ``low``, ``high`` of each class that has an image; the
        last three are ``None`` with fewer than `min_images`, or fewer than three embryos. At most
        `MAX_IMAGES` reals and fakes are used and counted: more cost minutes and add nothing.
    """
    assert real.features is not None
    assert fake.features is not None
    rows: dict[str, dict[str, float | None]] = {}
    embryos = None if real.groups is None else number_groups(real.groups)
    for name, letters in _parts().items():
        reals, fakes = (_random_members(each, letters) for each in (real, fake))
        if not len(reals) and not len(fakes):
            continue
        row: dict[str, float | None] = {"n_real": len(reals), "n_fake": len(fakes)}
        row |= {"kid": None, "low": None, "high": None}
        if min(len(reals), len(fakes)) >= min_images:
            units = None if embryos is None else embryos[reals]
            value, error = unbiased_kid(real.features[reals], fake.features[fakes], units)
            if not math.isnan(error):
                row |= {"kid": value, "low": value - 1.96 * error, "high": value + 1.96 * error}
        rows[name] = row
    return rows


def _random_members(statistics: SetStatistics, letters: tuple[int | None, int | None]) -> Tensor:
    """Positions of random members of a class, at most `MAX_IMAGES`."""
    assert statistics.labels is not None
    chosen = torch.ones(statistics.count, dtype=torch.bool)
    for labels, letter in zip(statistics.labels.unbind(1), letters, strict=True):
        if letter is not None:
            chosen &= labels == letter
    found = chosen.nonzero().squeeze(1)
    generator = torch.Generator().manual_seed(0)
    return found[torch.randperm(len(found), generator=generator)[:MAX_IMAGES]]


def _parts() -> dict[str, tuple[int | None, int | None]]:
    """ICM and TE letter of each class, then of each letter alone."""
    return {
        **{name: Grade.parse(name).labels for name in CLASSES},
        **{f"ICM {letter}": (n, None) for n, letter in enumerate(LETTERS)},
        **{f"TE {letter}": (None, n) for n, letter in enumerate(LETTERS)},
    }
