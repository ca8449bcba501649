"""Random numbers of phantoms: a stream for each embryo and purpose, none depends on another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from blastogan.errors import UserError


class Stream(IntEnum):
    """Purposes of random numbers."""

    GRADE = 0
    ANATOMY = 1
    SHOT = 2
    NOISE = 3
    PLAN = 4


def generator(
    seed: int, embryo: int, stream: Stream, shot: int = 0, plane: int = 0
) -> np.random.Generator:
    """Generator of one purpose; Philox jumps there at no cost.

    Args:
        seed: Seed of the set.
        embryo: Number of the embryo in the set.
        stream: What the numbers are for.
        shot: Number of the shot of this embryo, where they differ by shot.
        plane: Number of the focal plane, where they differ by plane.

    Raises:
        UserError: If a number is negative or beyond 64 bits.
    """
    for name, value in {"seed": seed, "embryo": embryo, "shot": shot, "plane": plane}.items():
        if not 0 <= value < 2**64:
            raise UserError(f"{name} of a phantom is {value}: expected 0 to 2**64 - 1")
    key = np.array([seed, embryo], dtype=np.uint64)
    counter = np.array([0, plane, shot, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
