"""Kernel distance (KID): of whole sets, of single classes, and to held-out against training images.

Binkowski et al., "Demystifying MMD GANs" (2018), section 4: the squared maximum mean discrepancy
with the kernel ``(x . y / D + 1) ** 3``. Its estimate has no bias: it may be negative, and sets of
different sizes are comparable, which is why classes are measured by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blastogan.seeding import derive_seed


def subset_kid(
    real: Tensor, fake: Tensor, *, subset_size: int, subsets: int, seed: int
) -> tuple[float, float]:
    """KID as people quote it: mean and standard deviation over random subsets, by torch-fidelity.

    Args:
        real: float32 ``(N, D)``.
        fake: float32 ``(M, D)``.
        subset_size: Images of each side in a subset, at most N and M.
        subsets: Number of subsets.
        seed: Seed of the subsets.
    """
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    found = kid_features_to_metric(
        fake.cpu(),
        real.cpu(),
        kid_subset_size=subset_size,
        kid_subsets=subsets,
        rng_seed=seed % 2**32,
        verbose=False,
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def unbiased_kid(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """KID of whole sets with its standard error, for sets too small for subsets.

    The error is the two-sample jackknife's: each image is left out once.

    Args:
        real: ``(N, D)``, N at least 3.
        fake: ``(M, D)``, M at least 3.
    """
    n, m = len(real), len(fake)
    real, fake = real.double(), fake.double()
    k_rr, k_ff, k_rf = _kernel(real, real), _kernel(fake, fake), _kernel(real, fake)
    rows_r, rows_f = (k.sum(dim=1) - k.diagonal() for k in (k_rr, k_ff))
    across_r, across_f = k_rf.sum(dim=1), k_rf.sum(dim=0)
    within_r, within_f, across = rows_r.sum(), rows_f.sum(), across_r.sum()
    mean_r, mean_f = within_r / (n * (n - 1)), within_f / (m * (m - 1))
    value = mean_r + mean_f - 2 * across / (n * m)
    without_r = (
        (within_r - 2 * rows_r) / ((n - 1) * (n - 2))
        + mean_f
        - 2 * (across - across_r) / ((n - 1) * m)
    )
    without_f = (
        mean_r
        + (within_f - 2 * rows_f) / ((m - 1) * (m - 2))
        - 2 * (across - across_f) / (n * (m - 1))
    )
    variance = sum(
        (len(w) - 1) / len(w) * (w - w.mean()).square().sum() for w in (without_r, without_f)
    )
    return float(value), float(torch.as_tensor(variance).sqrt())


@dataclass(frozen=True)
class HeldOutGap:
    """How much farther fakes are from held-out images than from those trained on.

    Attributes:
        kid_train: Unbiased KID to training images.
        kid_held_out: Unbiased KID to held-out images.
        p_value: Chance of a gap as large if training and held-out images had been swapped at
            random, embryo by embryo. Small when the fakes know the training images too well.
    """

    kid_train: float
    kid_held_out: float
    p_value: float

    @property
    def gap(self) -> float:
        """KID to held-out images less KID to training images; about 0 without memorisation."""
        return self.kid_held_out - self.kid_train

    @property
    def suspicious(self) -> bool:
        """Whether chance explains the gap in less than 1 of 100 cases."""
        return self.p_value < 0.01


def held_out_gap(
    train: Tensor,
    held_out: Tensor,
    fake: Tensor,
    *,
    groups: Sequence[str] | None = None,
    permutations: int = 999,
    most: int = 5000,
    seed: int = 0,
) -> HeldOutGap:
    """Compare the distances of fakes to training and to held-out images by a permutation test.

    Under the hypothesis that training images are nothing special to the generator, they and the
    held-out ones can change places. Whole embryos do, since their images are alike.

    Args:
        train: Features ``(N, D)``.
        held_out: Features ``(M, D)``.
        fake: Features ``(K, D)`` in random order.
        groups: Embryo of each of the N + M images; ``None`` where each is its own.
        permutations: Random swaps.
        most: Training images and fakes looked at, at most; memory grows with their square.
        seed: Seed of swaps and of the choice of training images.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "held-out gap"))
    names = groups or [str(n) for n in range(len(train) + len(held_out))]
    chosen = torch.randperm(len(train), generator=generator)[:most].sort().values
    pool = torch.cat([train[chosen], held_out]).double()
    owners = [names[n] for n in chosen.tolist()] + list(names[len(train) :])
    kernel = _kernel(pool, pool).fill_diagonal_(0)
    few = fake[:most].double()
    across = _kernel(pool, few).mean(dim=1)
    within = float(_kernel(few, few).fill_diagonal_(0).sum()) / (len(few) * (len(few) - 1))

    as_found = torch.zeros(1, len(pool), dtype=torch.float64)
    as_found[0, len(chosen) :] = 1
    swapped = _swaps(owners, len(held_out), permutations, generator)
    held = torch.cat([as_found, swapped])
    to_held, to_train = (_distance(kernel, across, members) for members in (held, 1 - held))
    gaps = to_held - to_train
    as_large = int((gaps[1:] >= gaps[0]).sum())
    return HeldOutGap(
        kid_train=float(to_train[0]) + within,
        kid_held_out=float(to_held[0]) + within,
        p_value=(as_large + 1) / (permutations + 1),
    )


def _distance(kernel: Tensor, across: Tensor, members: Tensor) -> Tensor:
    """KID less what the fakes have among themselves, for each row of 0/1 ``members``."""
    count = members.sum(dim=1)
    within = ((members @ kernel) * members).sum(dim=1) / (count * (count - 1)).clamp_min(1)
    return within - 2 * (members @ across) / count


def _swaps(
    owners: Sequence[str], held_out: int, permutations: int, generator: torch.Generator
) -> Tensor:
    """Rows of 0/1 that hold out random embryos, about `held_out` images each."""
    embryos = list(dict.fromkeys(owners))
    number = {name: n for n, name in enumerate(embryos)}
    owner = torch.tensor([number[name] for name in owners])
    sizes = torch.bincount(owner)
    rows = torch.zeros(permutations, len(owners), dtype=torch.float64)
    for row in rows:
        order = torch.randperm(len(embryos), generator=generator)
        before = sizes[order].cumsum(0) - sizes[order]
        taken = order[before < held_out]
        row[torch.isin(owner, taken)] = 1
    return rows


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3
