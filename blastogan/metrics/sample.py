"""Rows in one tensor and a random sample of images, both of a stream; numbers of groups."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch
from torch import Tensor

from blastogan.utils.seeding import derive_seed


class Rows:
    """Rows in one tensor that doubles when it is full.

    A list of small tensors would fragment the heap and cost many times its size.
    """

    def __init__(self) -> None:
        self._count = 0
        self._rows = torch.empty(0, 0)

    def extend(self, rows: Tensor) -> None:
        """Add rows ``(B, ...)``, all of one shape and type."""
        needed = self._count + len(rows)
        if needed > len(self._rows):
            larger = rows.new_empty(max(needed, 2 * len(self._rows)), *rows.shape[1:])
            if self._count:
                larger[: self._count] = self._rows[: self._count]
            self._rows = larger
        self._rows[self._count : needed] = rows
        self._count = needed

    def all(self) -> Tensor:
        """All rows so far, ``(N, ...)``, as a view."""
        return self._rows[: self._count]


class Sample:
    """The images with the smallest random keys: a sample that depends on no order or split."""

    def __init__(self, max_images: int, seed: int) -> None:
        self._max_images, self._seed = max_images, seed
        self._kept: list[tuple[int, int, int]] = []  # a heap, largest key on top
        self._images = Rows()

    def add(self, images: Tensor, numbers: Tensor) -> None:
        """Add images ``(B, C, H, W)`` with their numbers ``(B,)``."""
        for image, number in zip(images, numbers.tolist(), strict=True):
            key = -derive_seed(self._seed, "kept", number)
            if len(self._kept) < self._max_images:
                heapq.heappush(self._kept, (key, number, len(self._kept)))
                self._images.extend(image[None].cpu())
            elif self._kept and (key, number) > self._kept[0][:2]:
                _, _, place = self._kept[0]
                heapq.heapreplace(self._kept, (key, number, place))
                self._images.all()[place] = image.cpu()

    def sorted(self) -> tuple[Tensor | None, Tensor | None]:
        """Images and their numbers, ascending."""
        if not self._kept:
            return None, None
        numbers, places = zip(*sorted(item[1:] for item in self._kept), strict=True)
        return self._images.all()[list(places)], torch.tensor(numbers)


def number_groups(names: Sequence[str]) -> Tensor:
    """Number of the group of each image, int64 ``(N,)``, by first appearance."""
    numbers = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([numbers[name] for name in names])
