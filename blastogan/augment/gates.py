"""Random choice of the operations that take place on each image, and of their amounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Draws(Protocol):
    """A source of random numbers, a row for each image of a batch."""

    def rand(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), ``(B, *shape)``."""

    def randn(self, *shape: int) -> Tensor:
        """Standard normal ``(B, *shape)``."""


class OperationGates:
    """Random amounts of operations, zero for images on which an operation does not take place.

    Every operation takes place on each image independently, with probability p. All numbers are
    drawn at once, and those of an operation do not depend on which others are in use.

    Args:
        draws: Source of randomness.
        p: Probability of each operation, 0 to 1, a scalar on the device of the draws.
        names: All operations, in an order that never changes.
    """

    WIDTH = 2
    """Largest number of amounts of an operation."""

    def __init__(self, draws: Draws, p: Tensor, names: Sequence[str]) -> None:
        uniform = draws.rand(len(names), 1 + self.WIDTH)
        normal = draws.randn(len(names), self.WIDTH)
        self._place = {name: n for n, name in enumerate(names)}
        self._gates, self._uniform, self._normal = uniform[:, :, 0], uniform[:, :, 1:], normal
        self._p = p
        self.count = len(uniform)
        self.device = uniform.device

    def takes_place(self, name: str, *, half: bool = False) -> Tensor:
        """Mask of images, bool ``(B,)``; with `half`, one or both of two operations have p."""
        p = 1.0 - torch.sqrt(1.0 - self._p) if half else self._p
        return self._gates[:, self._place[name]] < p

    def uniform(self, name: str, count: int, *, half: bool = False) -> Tensor:
        """Amounts ``(B, count)``, uniform on [-1, 1) where the operation takes place."""
        amounts = 2.0 * self._uniform[:, self._place[name], :count] - 1.0
        return self._masked(amounts, name, half)

    def normal(self, name: str, count: int) -> Tensor:
        """Amounts ``(B, count)``, standard normal where the operation takes place."""
        return self._masked(self._normal[:, self._place[name], :count], name, half=False)

    def place(self, name: str) -> Tensor:
        """Points ``(B, 2)``, uniform on the unit square, whether or not it takes place."""
        return self._uniform[:, self._place[name]]

    def pick(self, name: str, choices: int) -> Tensor:
        """One of `choices`, ``(B,)``, 0 where the operation does not take place."""
        picked = (self._uniform[:, self._place[name], 0] * choices).floor()
        return torch.where(self.takes_place(name), picked, 0.0)

    def _masked(self, amounts: Tensor, name: str, half: bool) -> Tensor:
        return torch.where(self.takes_place(name, half=half)[:, None], amounts, 0.0)
