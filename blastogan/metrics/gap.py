"""The held-out gap: whether fakes are nearer to training images than to held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blastogan.metrics.kernel import polynomial_kernel
from blastogan.metrics.sample import number_groups
from blastogan.utils.seeding import derive_seed

_BLOCK = 1024


@dataclass(frozen=True)
class HeldOutGap:
    """How much nearer fakes are to training images than to held-out ones.

    The p-values are of permutation tests. Null hypothesis: training and held-out embryos are
    exchangeable, so that the generator treats both alike.

    Attributes:
        kid_train: Unbiased KID to training images.
        kid_held_out: Unbiased KID to held-out images.
        kid_p: p-value of the difference of the two.
        nearest_train: Fraction of fakes whose nearest real image is a training image.
        nearest_expected: The same fraction under the null hypothesis.
        nearest_p: p-value of `nearest_train`.
    """

    kid_train: float
    kid_held_out: float
    kid_p: float
    nearest_train: float
    nearest_expected: float
    nearest_p: float

    @property
    def kid(self) -> float:
        """KID to held-out minus KID to training images; about 0 without memorisation."""
        return self.kid_held_out - self.kid_train

    @property
    def suspicious(self) -> bool:
        """Whether the smaller p-value is below 0.005."""
        return min(self.kid_p, self.nearest_p) < 0.005


def held_out_gap(
    train: Tensor,
    held_out: Tensor,
    fake: Tensor,
    *,
    groups: Sequence[str] | None = None,
    permutations: int = 1999,
    max_images: int = 5000,
    seed: int = 0,
) -> HeldOutGap:
    """Compare fakes with training and with held-out images by permutation tests.

    KID sees a distribution that is shifted towards the training set, nearest neighbours see
    copies. Whole embryos are permuted, since their images are alike. Whatever is common to both
    sets of reals, such as the quality of the fakes, cancels.

    Args:
        train: Features ``(N, D)``.
        held_out: Features ``(M, D)``.
        fake: Features ``(K, D)`` in random order.
        groups: Embryo of each of the N + M images; ``None`` if each has its own.
        permutations: Number of random permutations.
        max_images: Largest number of training images, and of fakes; memory grows with its square.
        seed: Seed of the permutations and of the choice of training images.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "held-out gap"))
    names = groups or [str(n) for n in range(len(train) + len(held_out))]
    # the pool of reals; each row of `held` marks its held-out images, the actual ones first
    chosen = torch.randperm(len(train), generator=generator)[:max_images].sort().values
    owners = [names[n] for n in chosen.tolist()] + list(names[len(train) :])
    pool, few = torch.cat([train[chosen], held_out]).double(), fake[:max_images].double()

    held = torch.zeros(permutations + 1, len(pool), dtype=torch.float64)
    held[0, len(chosen) :] = 1
    _permute(held[1:], owners, len(held_out), generator)

    kernel = polynomial_kernel(pool, pool).fill_diagonal_(0)
    across = polynomial_kernel(pool, few).mean(dim=1)
    to_held, to_train = (_distances(kernel, across, members) for members in (held, 1 - held))
    among = polynomial_kernel(few, few).fill_diagonal_(0)
    own = float(among.sum()) / (len(few) * (len(few) - 1))

    # fraction of fakes nearest to training images, against the size of that part, which varies
    fractions = (1 - held) @ _times_nearest(pool, few) / len(few)
    expected = 1 - held.mean(dim=1)
    return HeldOutGap(
        kid_train=float(to_train[0]) + own,
        kid_held_out=float(to_held[0]) + own,
        kid_p=_p_value(to_held - to_train),
        nearest_train=float(fractions[0]),
        nearest_expected=float(expected[0]),
        nearest_p=_p_value(fractions - expected),
    )


def _p_value(values: Tensor) -> float:
    """Fraction of values at least as large as the first, which counts too."""
    # sums that differ by their order alone are equal
    return float((values >= values[0] - 1e-9 * values.abs().max()).double().mean())


def _distances(kernel: Tensor, across: Tensor, members: Tensor) -> Tensor:
    """KID without the term of the fakes alone, for each row of 0/1 ``members``."""
    count = members.sum(dim=1)
    within = ((members @ kernel) * members).sum(dim=1) / (count * (count - 1)).clamp_min(1)
    return within - 2 * (members @ across) / count


def _times_nearest(pool: Tensor, fake: Tensor) -> Tensor:
    """For each image of the pool, the number of fakes nearest to it, float64 ``(N,)``."""
    times = torch.zeros(len(pool), dtype=torch.float64)
    for part in torch.split(fake, _BLOCK):
        times += torch.bincount(torch.cdist(part, pool).argmin(1), minlength=len(pool))
    return times


def _permute(
    rows: Tensor, owners: Sequence[str], held_out: int, generator: torch.Generator
) -> None:
    """Set 1 in each row for random embryos, about `held_out` images of them."""
    owner = number_groups(owners)
    sizes = torch.bincount(owner)
    for row in rows:
        order = torch.randperm(len(sizes), generator=generator)
        before = sizes[order].cumsum(0) - sizes[order]
        taken = torch.zeros(len(sizes), dtype=torch.bool)
        # the last embryo stays, even if another has more images than all others together
        taken[order[:-1][before[:-1] < held_out]] = True
        row[taken[owner]] = 1
