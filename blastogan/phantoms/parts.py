"""Parts of a phantom embryo: single cells, cells along a rim, a sheet of cells.

Lengths are in embryo units, angles in radians from x towards y, y downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blastogan.phantoms.ranges import Span

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

TURN = 4096
"""Directions in which the thickness of a rim is known."""


@dataclass(frozen=True)
class Cells:
    """Cells as ellipses in the picture's plane. All arrays are (N,).

    Attributes:
        x, y: Centre.
        along: Half length along `angle`.
        across: Half length across it.
        angle: Direction of the long axis.
        height: Optical thickness in the middle.
        tone: Grey that it adds; negative where it absorbs light.
    """

    x: Doubles
    y: Doubles
    along: Doubles
    across: Doubles
    angle: Doubles
    height: Doubles
    tone: Doubles

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def joined(cls, *parts: Cells) -> Cells:
        """All of these cells."""
        arrays = zip(*([getattr(part, name) for name in vars(part)] for part in parts), strict=True)
        return cls(*(np.concatenate(each) for each in arrays))

    def turned(self, angle: float) -> Cells:
        """The cells turned about the origin."""
        x, y = turned(np.stack([self.x, self.y]), angle)
        return replace(self, x=x, y=y, angle=self.angle + angle)


NO_CELLS = Cells(*np.zeros((7, 0)))


@dataclass(frozen=True)
class Rim:
    """Trophectoderm cells side by side along a circle, seen edge-on.

    Attributes:
        x, y, radius: Centre and radius of the circle, the outer border of the cells.
        starts: Angle where each cell begins, ascending within one turn, (N,).
        heights: Thickness in the middle of each cell, (N,).
        junction: Thickness between cells as a share of that in their middle.
        shapes: How each cell rises: below 1 it is rounded, above 1 it is flat with a bulge, (N,).
        skews: Place of the middle of each cell, from -1 at its begin to 1 at its end, (N,).
        contrast: Optical thickness of the cells as a multiple of their thickness.
        tones: Grey that each cell adds, (N,).
    """

    x: float
    y: float
    radius: float
    starts: Doubles
    heights: Doubles
    junction: float
    shapes: Doubles
    skews: Doubles
    contrast: float
    tones: Doubles

    def __len__(self) -> int:
        return len(self.starts)

    def profile(self) -> tuple[Doubles, NDArray[np.intp], Doubles]:
        """The rim around the circle.

        Returns:
            Thickness, number of the cell, and place within it from -1 to 1, each in `TURN`
            directions from 0 on, (TURN,).
        """
        angles = np.arange(TURN) * (2 * math.pi / TURN)
        behind = (angles - self.starts[0]) % (2 * math.pi)
        edges = np.append(self.starts - self.starts[0], 2 * math.pi)
        cell = np.clip(np.searchsorted(edges, behind, side="right") - 1, 0, len(self) - 1)
        place = 2 * (behind - edges[cell]) / (edges[cell + 1] - edges[cell]) - 1
        aside = place - self.skews[cell]
        aside /= np.where(aside < 0, 1 + self.skews[cell], 1 - self.skews[cell])
        rise = np.maximum(1 - aside**2, 0) ** self.shapes[cell]
        bulge = self.junction + (1 - self.junction) * rise
        return self.heights[cell] * bulge, cell, place

    def turned(self, angle: float) -> Rim:
        """The rim turned about the origin."""
        x, y = turned(np.array([self.x, self.y]), angle).tolist()
        return replace(self, x=x, y=y, starts=self.starts + angle)


@dataclass(frozen=True)
class Sheet:
    """Trophectoderm cells en face: those nearest to the points of a shaken lattice.

    Attributes:
        pitch: Distance of neighbouring cells on the sphere.
        jitter: Way of each point from its place in units of the pitch, (side, side, 2).
        tones: Thickness of each cell, about 1, (side, side).
    """

    pitch: float
    jitter: Floats
    tones: Floats


def round_cells(
    rng: np.random.Generator, places: Doubles, size: Span, tone: Span, oval: float = 0.78
) -> Cells:
    """Slightly oval cells of any direction at `places` (N, 2), as thick as wide."""
    count = len(places)
    along = rng.uniform(*size, count)
    across = along * rng.uniform(oval, 1.0, count)
    return Cells(
        x=places[:, 0],
        y=places[:, 1],
        along=along,
        across=across,
        angle=rng.uniform(0, math.pi, count),
        height=across * rng.uniform(0.7, 1.1, count),
        tone=rng.uniform(*tone, count),
    )


def turned(points: Doubles, angle: float) -> Doubles:
    """Points (2, ...) turned about the origin."""
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = points
    return np.stack([x * cosine - y * sine, x * sine + y * cosine])
