"""Training images as a stream: image n depends on the seed and n alone.

A resumed run therefore sees the images that it would have seen, and prefetching cannot run ahead
of a change of resolution or batch size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from blastogan.data.balance import Balance, shares_of_strata, systematic_counts
from blastogan.data.transforms import Transform
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.utils.seeding import derive_seed


class ImageBatch(TypedDict):
    """A batch: image uint8 ``(B, C, R, R)``, labels ``(B, 2)`` and index ``(B,)``, both int64.

    The label of an unknown letter is -1.
    """

    image: Tensor
    labels: Tensor
    index: Tensor


class Draw(NamedTuple):
    """One image of the stream: its position in the training set and how it is shown.

    The side is in pixels; the symmetry of the square is 0 to 7; the position in the stream, 0 for
    the first image of the run, seeds the transform.
    """

    image: int
    resolution: int
    symmetry: int
    position: int


def apply_symmetry(images: Tensor, symmetry: int) -> Tensor:
    """Mirror images ``(..., R, R)`` if `symmetry` is odd, then turn ``symmetry // 2`` quarters."""
    if symmetry % 2:
        images = images.flip(-1)
    return images.rot90(symmetry // 2, (-2, -1)) if symmetry >= 2 else images


class ImageOrder:
    """An endless order of a set, in shuffled passes of the length of the set.

    Without balance, every pass shows each image once. With it, the classes of a pass follow
    `shares_of_strata`, their counts rounded up or down at random so that the mean over passes
    is exact, and the images of a class are shown equally often, to within one.

    Args:
        classes: Class of each image of the set, as an index; -1 if unknown.
        seed: Seed of the order.
        balance: Class distribution.
        symmetries: Number of symmetries to draw from for each image.

    Raises:
        UserError: If there is no image, or the distribution is unknown.
    """

    def __init__(
        self, classes: Sequence[int], seed: int, balance: Balance = "none", symmetries: int = 1
    ) -> None:
        if not classes:
            raise UserError("there are no images to train on")
        self.count = len(classes)
        self.seed = seed
        self.balance = balance
        self.symmetries = symmetries
        shares = shares_of_strata(Counter(classes), balance)
        of = torch.tensor(classes)
        self._shares = list(shares.values())
        self._members = [(of == name).nonzero().flatten() for name in shares]
        self._pass, self._draws = -1, list[tuple[int, int]]()

    def at(self, position: int) -> tuple[int, int]:
        """Index and symmetry of the image at a position, 0 for the first of the run."""
        number, place = divmod(position, self.count)
        if number != self._pass:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", number))
            images = self._shuffled(generator).tolist()
            drawn = torch.randint(self.symmetries, (self.count,), generator=generator)
            self._pass, self._draws = number, list(zip(images, drawn.tolist(), strict=True))
        return self._draws[place]

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        if self.balance == "none":
            return torch.randperm(self.count, generator=generator)
        # + 0.5 avoids ties, which the rounding of the shares would decide
        offset = (int(torch.randint(2**32, (), generator=generator)) + 0.5) / 2**32
        places = systematic_counts(self.count, self._shares, offset)
        shown = []
        for members, number in zip(self._members, places, strict=True):
            each, extra = divmod(number, len(members))
            lucky = torch.randperm(len(members), generator=generator)[:extra]
            shown += [members.repeat(each), members[lucky]]
        return torch.cat(shown)[torch.randperm(self.count, generator=generator)]


class PositionedBatchSampler(Sampler[list[Draw]]):
    """Batches from the current position to the end of the tick.

    The next iterator continues from the position at that time. Each rank takes its contiguous
    part of every global batch.

    Args:
        order: The stream.
        schedule: Resolution and batch size by position.
        position: Returns the images shown so far, called when an iterator begins.
        rank: Rank of this process.
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
                Draw(image, state.resolution, symmetry, place)
                for place in range(first, first + share)
                for image, symmetry in (self.order.at(place),)
            ]
            position += state.batch_size


@dataclass(eq=False)
class StreamedImages(Dataset[ImageBatch]):
    """Training batches, taken from images held as uint8 at every resolution.

    Attributes:
        levels: uint8 ``(M, C, r, r)`` by resolution r in pixels; may be mapped from a file.
        rows: int64 ``(N,)``: image n of the set is row ``rows[n]`` of every level.
        labels: int64 ``(N, 2)``, -1 if unknown.
        transform: Applied to each image after its symmetry.
    """

    levels: Mapping[int, Tensor]
    rows: Tensor
    labels: Tensor
    transform: Transform | None = None

    def __getitems__(self, draws: list[Draw]) -> ImageBatch:
        """Batch of draws that share one resolution."""
        index = torch.tensor([draw.image for draw in draws])
        # copies whole images, ten times as fast as indexing by brackets
        images = self.levels[draws[0].resolution].index_select(0, self.rows[index])
        for place, draw in enumerate(draws):
            if draw.symmetry:
                images[place] = apply_symmetry(images[place], draw.symmetry)
            if self.transform is not None:
                images[place] = self.transform(images[place], draw.position)
        return ImageBatch(image=images, labels=self.labels[index], index=index)

    def __getitem__(self, draw: Draw) -> ImageBatch:
        return self.__getitems__([draw])
