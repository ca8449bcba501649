"""Distribution of the pictures of a set of phantoms over embryos, block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blastogan.grades import CLASSES
from blastogan.phantoms.streams import Stream, generator


class BlockPlan(NamedTuple):
    """Numbers of pictures and embryos of a block.

    Attributes:
        pictures: Pictures of each class in a round.
        shots: Weights of the numbers of shots of an embryo, from 1 on.
        planes: Focal planes of a shot.
        rounds: Rounds of a block; embryos are shuffled within each.
    """

    pictures: Mapping[str, int]
    shots: tuple[float, ...]
    planes: int
    rounds: int = 1

    @property
    def size(self) -> int:
        """Pictures of a block."""
        return sum(self.pictures.values()) * self.rounds


class Layout(NamedTuple):
    """Embryos and pictures of a block.

    Attributes:
        kind: Position in `CLASSES` of each embryo.
        embryo: Embryo of each picture, from 0 on.
        number: Number of each picture among those of its embryo.
    """

    kind: list[int]
    embryo: list[int]
    number: list[int]


def draw_layout(plan: BlockPlan, seed: int, number: int) -> Layout:
    """Distribute the pictures of a block over embryos and shuffle the embryos."""
    rng = generator(seed, number, Stream.PLAN)
    shares = [_shares(rng, plan, pictures) for pictures in plan.pictures.values()]
    kind = np.repeat([CLASSES.index(name) for name in plan.pictures], [len(own) for own in shares])
    # the result of `permutation` may differ between releases of numpy
    order = np.argsort(rng.random((plan.rounds, len(kind))), axis=1, kind="stable").ravel()
    share = np.concatenate(shares)[order]
    before = np.cumsum(share) - share
    return Layout(
        kind=kind[order].tolist(),
        embryo=np.repeat(np.arange(len(order)), share).tolist(),
        number=(np.arange(plan.size) - np.repeat(before, share)).tolist(),
    )


def _shares(rng: np.random.Generator, plan: BlockPlan, pictures: int) -> NDArray[np.int64]:
    """Pictures of each embryo of a class, (E,); the last embryo may have fewer."""
    steps = np.cumsum(plan.shots)
    draws = rng.random(math.ceil(pictures / plan.planes))
    shots = 1 + np.searchsorted(steps / steps[-1], draws, side="right")
    upto = np.minimum(np.cumsum(shots * plan.planes), pictures)
    return np.diff(upto[: np.searchsorted(upto, pictures) + 1], prepend=0)


def embryo_numbers(seed: int, embryos: range) -> NDArray[np.float64]:
    """The first three numbers of the generator of `Stream.GRADE` of each embryo, (E, 3)."""
    # making a generator is the most expensive part: set one to the start of each stream instead
    bits = generator(seed, embryos.start, Stream.GRADE).bit_generator
    start, rng = bits.state, np.random.Generator(bits)
    numbers = np.empty((len(embryos), 3))
    for row, embryo in enumerate(embryos):
        start["state"]["key"][1] = embryo
        bits.state = start
        numbers[row] = rng.random(3)
    return numbers
