"""Random numbers of a training step, as a function of the run's seed and the place in the run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from blastogan.utils.seeding import derive_seed

CHUNK = 8
"""Samples that share a generator."""


class SampleDraws:
    """Draws for some samples of a step's global batch, the same however the batch is divided.

    What sample n gets depends on the seed, the key and n alone: not on the number of devices, on
    the passes that a batch is split into, or on what else draws. A resumed run needs no random
    state, and a device draws nothing for the samples of the others but what rounds its own up to
    whole chunks of the global batch.

    Args:
        seed: Of the run.
        key: What is drawn for, such as the images shown and the name of a pass.
        first: First sample of the global batch to draw for.
        count: Number of samples.
        device: Where.
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

    def __len__(self) -> int:
        return self._count

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
