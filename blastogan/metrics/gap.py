"""The held-out gap: whether fakes know the training images better than others of the same law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blastogan.metrics.kernel import polynomial_kernel
from blastogan.utils.seeding import derive_seed

_BLOCK = 1024


@dataclass(frozen=True)
class HeldOutGap:
    """How much nearer fakes are to training images than to held-out ones.

    The chances are those of values as large if training and held-out embryos changed places at
    random: under the hypothesis that the former are nothing special to the generator, they can.

    Attributes:
        kid_train: Unbiased KID to training images.
        kid_held_out: Unbiased KID to held-out images.
        kid_p: OperationGates of the difference of the two.
        nearest_train: Share of fakes whose nearest real image was trained on.
        nearest_expected: The share that chance gives.
        nearest_p: OperationGates of the share.
    """

    kid_train: float
    kid_held_out: float
    kid_p: float
    nearest_train: float
    nearest_expected: float
    nearest_p: float

    @property
    def kid(self) -> float:
        """KID to held-out images less KID to training images; about 0 without memorisation."""
        return self.kid_held_out - self.kid_train

    @property
    def suspicious(self) -> bool:
        """Whether one of the two would come by chance in less than 1 of 200 cases."""
        return min(self.kid_p, self.nearest_p) < 0.005


def held_out_gap(
    train: Tensor,
    held_out: Tensor,
    fake: Tensor,
    *,
    groups: Sequence[str] | None = None,
    permutations: int = 1999,
    most: int = 5000,
    seed: int = 0,
) -> HeldOutGap:
    """Compare fakes with training and with held-out images by permutation tests.

    KID sees a law that is shifted towards the training set, nearest neighbours see copies.
    Whole embryos change places, since their images are alike. What the two sets of reals have in
    common, such as the quality of the fakes, cancels.

    Args:
        train: Features ``(N, D)``.
        held_out: Features ``(M, D)``.
        fake: Features ``(K, D)`` in random order.
        groups: Embryo of each of the N + M images; ``None`` where each is its own.
        permutations: Random changes of places.
        most: Training images and fakes looked at, at most; memory grows with their square.
        seed: Seed of the changes and of the choice of training images.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "held-out gap"))
    names = groups or [str(n) for n in range(len(train) + len(held_out))]
    chosen = torch.randperm(len(train), generator=generator)[:most].sort().values
    owners = [names[n] for n in chosen.tolist()] + list(names[len(train) :])
    pool, few = torch.cat([train[chosen], held_out]).double(), fake[:most].double()

    held = torch.zeros(permutations + 1, len(pool), dtype=torch.float64)
    held[0, len(chosen) :] = 1
    _change_places(held[1:], owners, len(held_out), generator)

    kernel = polynomial_kernel(pool, pool).fill_diagonal_(0)
    across = polynomial_kernel(pool, few).mean(dim=1)
    to_held, to_train = (_distances(kernel, across, members) for members in (held, 1 - held))
    among = polynomial_kernel(few, few).fill_diagonal_(0)
    own = float(among.sum()) / (len(few) * (len(few) - 1))

    shares = (1 - held) @ _times_nearest(pool, few) / len(few)
    # a random change moves a few images more or less: compare with what the sizes promise
    promised = 1 - held.mean(dim=1)
    return HeldOutGap(
        kid_train=float(to_train[0]) + own,
        kid_held_out=float(to_held[0]) + own,
        kid_p=_chance(to_held - to_train),
        nearest_train=float(shares[0]),
        nearest_expected=float(promised[0]),
        nearest_p=_chance(shares - promised),
    )


def _chance(values: Tensor) -> float:
    """Share of values as large as the first, the first included."""
    # equal sums in another order are equal
    return float((values >= values[0] - 1e-9 * values.abs().max()).double().mean())


def _distances(kernel: Tensor, across: Tensor, members: Tensor) -> Tensor:
    """KID less what the fakes have among themselves, for each row of 0/1 ``members``."""
    count = members.sum(dim=1)
    within = ((members @ kernel) * members).sum(dim=1) / (count * (count - 1)).clamp_min(1)
    return within - 2 * (members @ across) / count


def _times_nearest(pool: Tensor, fake: Tensor) -> Tensor:
    """Number of fakes to which each of the pool is nearest, float64 ``(N,)``."""
    times = torch.zeros(len(pool), dtype=torch.float64)
    for part in torch.split(fake, _BLOCK):
        times += torch.bincount(torch.cdist(part, pool).argmin(1), minlength=len(pool))
    return times


def _change_places(
    rows: Tensor, owners: Sequence[str], held_out: int, generator: torch.Generator
) -> None:
    """Set 1 in each row for random embryos, about `held_out` images of them."""
    embryos = list(dict.fromkeys(owners))
    number = {name: n for n, name in enumerate(embryos)}
    owner = torch.tensor([number[name] for name in owners])
    sizes = torch.bincount(owner)
    for row in rows:
        order = torch.randperm(len(embryos), generator=generator)
        before = sizes[order].cumsum(0) - sizes[order]
        taken = torch.zeros(len(embryos), dtype=torch.bool)
        # the last one stays, even where one embryo has more images than all the others
        taken[order[:-1][before[:-1] < held_out]] = True
        row[taken[owner]] = 1
