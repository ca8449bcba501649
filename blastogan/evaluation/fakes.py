"""Fakes for an evaluation, of a given class distribution and at the final resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from blastogan.generators.sampling import Sampler
from blastogan.grades import Grade, apportion
from blastogan.utils.seeding import derive_seed


def sample_labels(count: int, weights: Mapping[str, float], seed: int) -> Tensor:
    """Labels in random order whose class distribution is as near to `weights` as counts allow.

    Returns:
        int64 ``(count, 2)``.
    """
    counts = apportion(count, weights)
    ordered = [Grade.parse(name).labels for name, number in counts.items() for _ in range(number)]
    generator = torch.Generator().manual_seed(derive_seed(seed, "labels"))
    return torch.tensor(ordered, dtype=torch.int64)[torch.randperm(count, generator=generator)]


def evaluation_fakes(
    module: Sampler,
    labels: Tensor,
    *,
    seed: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[dict[str, Tensor]]:
    """Samples of the averaged generator, one for each label, generated batch by batch.

    Stages below the final resolution are enlarged to it, so that curves are comparable throughout.
    An unconditional module gives batches without labels. Each of `world_size` processes makes
    every `world_size`-th sample. The global random state is left alone.
    """
    index = torch.arange(rank, len(labels), world_size)
    for part in torch.split(index, batch_size):
        images = module.sample_enlarged(part.tolist(), labels[part], seed=seed)
        batch = {"image": images, "index": part}
        yield {**batch, "labels": labels[part]} if module.conditional else batch
