"""Fakes for an evaluation: numbered, graded by a law, at the final resolution, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from blastogan.grades import Grade, apportion
from blastogan.modules.base import BaseGANModule
from blastogan.utils.seeding import derive_seed


def sample_labels(count: int, weights: Mapping[str, float], seed: int) -> Tensor:
    """Labels whose shares of classes are those of a reference, to the last image, in random order.

    Args:
        count: Number of labels.
        weights: Weight of each class, such as its number of reference images.
        seed: Seed of the order.

    Returns:
        int64 ``(count, 2)``.
    """
    shares = apportion(count, weights)
    ordered = [Grade.parse(name).labels for name, share in shares.items() for _ in range(share)]
    generator = torch.Generator().manual_seed(derive_seed(seed, "labels"))
    return torch.tensor(ordered, dtype=torch.int64)[torch.randperm(count, generator=generator)]


def evaluation_fakes(
    module: BaseGANModule,
    labels: Tensor,
    *,
    seed: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[dict[str, Tensor]]:
    """Samples of the averaged generator, one for each label, never more than a batch in memory.

    Those of a module that never saw a grade come without labels, which would mean nothing.

    Stages below the final resolution are enlarged to it, so that curves are comparable throughout.
    The global random state is left alone.

    Args:
        module: Gives the samples.
        labels: int64 ``(N, 2)``.
        seed: Seed of the latents.
        batch_size: Samples to a batch.
        rank: Of this process, which makes every `world_size`-th sample.
        world_size: Number of processes.
    """
    index = torch.arange(rank, len(labels), world_size)
    for part in torch.split(index, batch_size):
        images = module.sample_enlarged(part.tolist(), labels[part], seed=seed)
        batch = {"image": images, "index": part}
        yield {**batch, "labels": labels[part]} if module.conditional else batch
