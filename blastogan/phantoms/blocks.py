"""How the pictures of a set of phantoms are shared out to embryos, block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blastogan.grades import CLASSES
from blastogan.phantoms.streams import Stream, generator


class BlockLaw(NamedTuple):
    """How pictures and embryos of a block are shared out.

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


def draw_layout(law: BlockLaw, seed: int, number: int) -> Layout:
    """Share out the pictures of a block.

    Args:
        law: How.
        seed: Seed of the set.
        number: Number of the block.
    """
    rng = generator(seed, number, Stream.PLAN)
    shares = [_shares(rng, law, pictures) for pictures in law.pictures.values()]
    kind = np.repeat([CLASSES.index(name) for name in law.pictures], [len(own) for own in shares])
    # what `permutation` makes of a seed may differ between releases of numpy
    order = np.argsort(rng.random((law.rounds, len(kind))), axis=1, kind="stable").ravel()
    share = np.concatenate(shares)[order]
    before = np.cumsum(share) - share
    return Layout(
        kind=kind[order].tolist(),
        embryo=np.repeat(np.arange(len(order)), share).tolist(),
        number=(np.arange(law.size) - np.repeat(before, share)).tolist(),
    )


def _shares(rng: np.random.Generator, law: BlockLaw, pictures: int) -> NDArray[np.int64]:
    """Pictures of each embryo of a class, (E,); the last may lack some."""
    steps = np.cumsum(law.shots)
    draws = rng.random(math.ceil(pictures / law.planes))
    shots = 1 + np.searchsorted(steps / steps[-1], draws, side="right")
    upto = np.minimum(np.cumsum(shots * law.planes), pictures)
    return np.diff(upto[: np.searchsorted(upto, pictures) + 1], prepend=0)


def embryo_numbers(seed: int, embryos: range) -> NDArray[np.float64]:
    """The first three numbers of the generator of `Stream.GRADE` of each embryo, (E, 3)."""
    # making a generator costs more than all else; one is set to the start of each stream instead
    bits = generator(seed, embryos.start, Stream.GRADE).bit_generator
    start, rng = bits.state, np.random.Generator(bits)
    numbers = np.empty((len(embryos), 3))
    for row, embryo in enumerate(embryos):
        start["state"]["key"][1] = embryo
        bits.state = start
        numbers[row] = rng.random(3)
    return numbers
