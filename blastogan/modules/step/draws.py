"""Random numbers of a training step, determined by seed and position in the run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from blastogan.utils.seeding import derive_seed

CHUNK = 8
"""Samples drawn from one generator."""


class SampleDraws:
    """Draws for some samples of a global batch, the same however the batch is divided.

    The numbers of sample n depend on seed, key and n alone: not on the number of devices or passes,
    nor on other draws. A resumed run thus needs no random state.

    Args:
        seed: Seed of the run.
        key: Purpose of the draws, such as the images shown and the name of a pass.
        first: Position of the first sample in the global batch.
        count: Number of samples.
        device: Device of the numbers.
    """

    def __init__(
        self, seed: int, key: tuple[int | str, ...], first: int, count: int, device: torch.device
    ) -> None:
        self._seed = seed
        self._key = key
        self._first = first
        self._count = count
        self._generator = torch.Generator(device)
        self._drawn = 0

    def randn(self, *shape: int) -> Tensor:
        """Standard normal ``(count, *shape)``, new numbers at each call."""
        return self._draw(torch.randn, shape)

    def rand(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), ``(count, *shape)``, new numbers at each call."""
        return self._draw(torch.rand, shape)

    def _draw(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        device, parts = self._generator.device, []
        begin, end = self._first // CHUNK, -(-(self._first + self._count) // CHUNK)
        for chunk in range(begin, end):
            self._generator.manual_seed(derive_seed(self._seed, *self._key, self._drawn, chunk))
            parts.append(draw(CHUNK, *shape, generator=self._generator, device=device))
        self._drawn += 1
        offset = self._first - begin * CHUNK
        return torch.cat(parts)[offset : offset + self._count]
