"""Training images as a stream indexed by position: what comes n-th depends on (seed, n) alone.

A run that resumes at its number of images shown therefore sees the images it would have seen, and
prefetching cannot run ahead of a change of resolution or batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.seeding import derive_seed

Augmentation = Literal["none", "flip", "dihedral"]

SYMMETRIES: dict[Augmentation, int] = {"none": 1, "flip": 2, "dihedral": 8}
"""Number of symmetries of the square that an augmentation draws from."""


class ImageBatch(TypedDict):
    """A batch: image uint8 ``(B, C, R, R)``, labels int64 ``(B, 2)``, index int64 ``(B,)``."""

    image: Tensor
    labels: Tensor
    index: Tensor


class Draw(NamedTuple):
    """One image of the stream: which, at which resolution in pixels, under which symmetry."""

    image: int
    resolution: int
    symmetry: int


def apply_symmetry(images: Tensor, symmetry: int) -> Tensor:
    """Turn and mirror ``(..., R, R)`` by one of the eight symmetries of the square.

    Args:
        images: Any dtype.
        symmetry: 0 leaves the images; 1 mirrors them; the rest turn by multiples of 90 degrees.
    """
    if symmetry % 2:
        images = images.flip(-1)
    return images.rot90(symmetry // 2, (-2, -1)) if symmetry >= 2 else images


class ImageOrder:
    """An endless order of a set: every pass shows each image once, shuffled anew.

    Args:
        count: Images in the set.
        seed: Another seed, another order.
        symmetries: Each image comes under one of so many symmetries.
    """

    def __init__(self, count: int, seed: int, symmetries: int = 1) -> None:
        if count < 1:
            raise UserError("there are no images to train on")
        self.count = count
        self.seed = seed
        self.symmetries = symmetries
        self._pass = -1
        self._order: list[int] = []
        self._symmetry: list[int] = []

    def at(self, position: int) -> tuple[int, int]:
        """Index and symmetry of the image at a position, 0 being the first of the run."""
        number, place = divmod(position, self.count)
        if number != self._pass:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", number))
            self._order = torch.randperm(self.count, generator=generator).tolist()
            drawn = torch.randint(self.symmetries, (self.count,), generator=generator)
            self._symmetry = drawn.tolist()
            self._pass = number
        return self._order[place], self._symmetry[place]


class PositionedBatchSampler(Sampler[list[Draw]]):
    """Batches from the current position to the next end of a tick.

    Has no length: it ends by itself, and the next iterator goes on from the position of then.
    Each rank takes its contiguous part of every global batch.

    Args:
        order: The stream.
        schedule: Resolution and batch size by position.
        position: Gives the images shown so far, asked when an iterator begins.
        rank: Of this process.
        world_size: Number of processes.

    Raises:
        UserError: If a batch of the schedule does not divide by the number of processes.
    """

    def __init__(
        self,
        order: ImageOrder,
        schedule: GrowthSchedule,
        position: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        sizes = {phase.batch_size for phase in schedule.phases}
        odd = sorted(size for size in sizes if size % world_size)
        if odd:
            raise UserError(
                f"batches of {', '.join(map(str, odd))} images do not divide among {world_size} "
                "processes: change schedule.batch_size or the number of devices"
            )
        self.order = order
        self.schedule = schedule
        self.position = position
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[Draw]]:
        position = self.position()
        end = min(self.schedule.next_tick(position), self.schedule.total_images)
        while position < end:
            state = self.schedule.at(position)
            share = state.batch_size // self.world_size
            first = position + self.rank * share
            yield [
                Draw(image, state.resolution, symmetry)
                for image, symmetry in map(self.order.at, range(first, first + share))
            ]
            position += state.batch_size


class StreamedImages(Dataset[ImageBatch]):
    """Images held as uint8 at every resolution, delivered batch by batch.

    Args:
        pyramid: uint8 ``(N, C, r, r)`` by resolution r in pixels.
        labels: int64 ``(N, 2)``.
    """

    def __init__(self, pyramid: dict[int, Tensor], labels: Tensor) -> None:
        self.pyramid = pyramid
        self.labels = labels

    def __getitems__(self, draws: list[Draw]) -> ImageBatch:
        """The batch of draws of one resolution."""
        index = torch.tensor([draw.image for draw in draws])
        images = self.pyramid[draws[0].resolution][index]
        for position, draw in enumerate(draws):
            if draw.symmetry:
                images[position] = apply_symmetry(images[position], draw.symmetry)
        return ImageBatch(image=images, labels=self.labels[index], index=index)

    def __getitem__(self, draw: Draw) -> ImageBatch:
        return self.__getitems__([draw])
