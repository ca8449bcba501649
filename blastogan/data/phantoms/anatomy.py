"""Anatomy of phantom blastocysts: which cells of which shape lie where.

Nothing is rendered here. Lengths are in embryo units: the outer radius of the zona pellucida is 1
and its centre the origin, x to the right, y downwards, angles from x towards y in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blastogan.data.phantom_laws import (
    EMBRYO_RADIUS,
    EXPANSION_LAWS,
    FRAGMENTS,
    INNER_LAWS,
    RIM_LAWS,
    InnerLaw,
    RimLaw,
    Span,
)
from blastogan.grades import Grade

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Framing = Literal["embryo", "well"]


LONGEST = 0.5
"""Greatest half length of a rim cell: a bent ellipse follows the rim no further."""

TEXTURE_SIZE = 64
"""Side of the grid of random numbers from which granularity is interpolated."""


@dataclass(frozen=True)
class Cells:
    """Ellipses to be painted in order, each bent along a circle. All arrays are (N,).

    Attributes:
        x: Centre.
        y: Centre.
        along: Half length along `angle`.
        across: Half length across it.
        angle: Direction of the long axis.
        bend: Curvature of the long axis, 1 / radius; its circle lies on the side of `angle` - 90
            degrees.
        tone: Grey of the cell, 0 to 1.
    """

    x: Doubles
    y: Doubles
    along: Doubles
    across: Doubles
    angle: Doubles
    bend: Doubles
    tone: Doubles

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Well:
    """The microwell, and how the embryo lies in it.

    Attributes:
        x: Centre of the well seen from the embryo.
        y: Centre of the well seen from the embryo.
        radius: Radius of the well.
        arc: Thickness of the bright arc on its lit side.
        debris: Specks on the floor.
    """

    x: float
    y: float
    radius: float
    arc: float
    debris: Cells


@dataclass(frozen=True)
class Anatomy:
    """All that a phantom is, before any pixel.

    Attributes:
        grade: Its grade, with the expansion.
        outline: Amplitude and phase of the second and third harmonic of the outline, (2, 2).
        zona: Thickness of the zona pellucida.
        rim_radius: Outer radius of the trophectoderm.
        cavity: Centre and radius of the cavity, (3,); radius 0 where there is none.
        faces: Centres of the trophectoderm cells seen en face, (N, 2).
        mass: Undivided cells that fill the rest of an early blastocyst, expansion 1 and 2.
        rim: Trophectoderm cells seen edge-on.
        body: The clump behind the inner cells, one or none.
        body_opacity: Opacity of `body`.
        inner: Inner cells.
        fragments: Degenerate fragments.
        hatching: Cells that have left the zona.
        well: The well.
        light: Direction from which the relief is lit.
        contrast: Factor on all relief.
        blur: Factor on the softness of all edges, the focus.
        texture: Random numbers of granularity, (`TEXTURE_SIZE`, `TEXTURE_SIZE`).
        centred: Centre and radius in the frame under ``framing="embryo"``, (3,).
    """

    grade: Grade
    outline: Doubles
    zona: float
    rim_radius: float
    cavity: Doubles
    faces: Doubles
    mass: Cells
    rim: Cells
    body: Cells
    body_opacity: float
    inner: Cells
    fragments: Cells
    hatching: Cells
    well: Well
    light: float
    contrast: float
    blur: float
    texture: Floats
    centred: Doubles

    def placement(self, framing: Framing) -> tuple[float, float, float]:
        """Centre x, y and outer radius of the embryo as shares of the frame, 0 to 1."""
        if framing == "embryo":
            x, y, radius = self.centred.tolist()
            return x, y, radius
        radius = 0.455 / self.well.radius
        return 0.5 - self.well.x * radius, 0.5 - self.well.y * radius, radius


def draw_anatomy(rng: np.random.Generator, grade: Grade) -> Anatomy:
    """Draw the anatomy of one phantom.

    Args:
        rng: Generator that is used for this phantom alone.
        grade: Its grade; the expansion must be given.
    """
    expansion = EXPANSION_LAWS[grade.expansion or 3]
    well = _draw_well(rng)
    degenerate = grade.te == "D"
    zona = rng.uniform(*(EXPANSION_LAWS[3] if degenerate else expansion).zona)
    rim_radius = 1.0 - zona - (0.015 if zona else 0.0)
    rim, wall = _no_cells(), rim_radius
    if not degenerate:
        rim, wall = _draw_rim(rng, RIM_LAWS[grade.te], rim_radius)
    site = rng.uniform(-math.pi, math.pi)
    cavity = np.array([0.0, 0.0, 0.0 if degenerate else wall * expansion.cavity])
    if expansion.cavity < 1:
        cavity[:2] = _polar(site + math.pi, wall - cavity[2])
    body, inner = _no_cells(), _no_cells()
    if grade.icm in INNER_LAWS:
        body, inner = _draw_inner(rng, INNER_LAWS[grade.icm], wall, site)
    faces = np.zeros((0, 2))
    if not degenerate:
        count = max(3, round(len(rim) * RIM_LAWS[grade.te].faces))
        faces = _sunflower(rng, count, wall / math.sqrt(count), 0.3)
    fill = not degenerate and expansion.cavity < 1
    return Anatomy(
        grade=grade,
        outline=np.stack([rng.normal(0, 0.012, 2), rng.uniform(0, 2 * math.pi, 2)]),
        zona=zona,
        rim_radius=rim_radius,
        cavity=cavity,
        faces=faces,
        mass=_draw_mass(rng, wall, cavity) if fill else _no_cells(),
        rim=rim,
        body=body,
        body_opacity=INNER_LAWS[grade.icm].body if grade.icm in INNER_LAWS else 0.0,
        inner=inner,
        fragments=_draw_fragments(rng, rim_radius) if degenerate else _no_cells(),
        hatching=_no_cells() if degenerate else _draw_hatching(rng, expansion.hatching),
        well=well,
        light=rng.normal(math.radians(-118), math.radians(4)),
        contrast=rng.uniform(0.9, 1.15),
        blur=rng.uniform(0.9, 1.5),
        texture=rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32),
        centred=np.array([*rng.uniform(0.488, 0.512, 2), rng.uniform(*EMBRYO_RADIUS)]),
    )


def _polar(angle: float, radius: float) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)


def _round_cells(rng: np.random.Generator, places: Doubles, size: Span, tone: Span) -> Cells:
    """Slightly oval cells of any direction at `places` (N, 2)."""
    count = len(places)
    along = rng.uniform(*size, count)
    return Cells(
        x=places[:, 0],
        y=places[:, 1],
        along=along,
        across=along * rng.uniform(0.72, 1.0, count),
        angle=rng.uniform(0, math.pi, count),
        bend=np.zeros(count),
        tone=rng.uniform(*tone, count),
    )


def _no_cells() -> Cells:
    return Cells(*np.zeros((7, 0)))


def _sunflower(rng: np.random.Generator, count: int, pitch: float, spread: float) -> Doubles:
    """Places that fill a disc of radius `pitch` * sqrt(`count`), inner ones last, (count, 2)."""
    rank = np.arange(count)[::-1] + 0.5
    angle = rank * 2.39996 + rng.uniform(0, 2 * math.pi)
    radius = pitch * np.sqrt(rank)
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return np.asarray(places + rng.normal(0, spread * pitch, places.shape))


def _draw_rim(rng: np.random.Generator, law: RimLaw, radius: float) -> tuple[Cells, float]:
    """Rim cells along the circle of `radius`, and the radius of the wall inside them."""
    count = int(rng.integers(law.cells[0], law.cells[1], endpoint=True))
    sector = np.exp(rng.normal(0, law.unevenness, count))
    sector *= 2 * math.pi / sector.sum()
    angle = np.cumsum(sector) - sector / 2 + rng.uniform(0, 2 * math.pi)
    across = rng.uniform(*law.thickness, count)
    middle = radius - across * rng.uniform(0.95, 1.1, count)
    cells = Cells(
        x=middle * np.cos(angle),
        y=middle * np.sin(angle),
        along=np.minimum(sector / 2 * middle * law.coverage, LONGEST),
        across=across,
        angle=angle - math.pi / 2,
        bend=1 / middle,
        tone=rng.uniform(0.46, 0.6, count),
    )
    order = rng.permutation(count)
    return Cells(*(getattr(cells, name)[order] for name in vars(cells))), radius - across.mean() * 2


def _draw_inner(
    rng: np.random.Generator, law: InnerLaw, wall: float, site: float
) -> tuple[Cells, Cells]:
    """The clump and the inner cells, attached to the wall at the angle `site`."""
    count = int(rng.integers(law.cells[0], law.cells[1], endpoint=True))
    size = rng.uniform(*law.size)
    places = _sunflower(rng, count, law.spacing * size, law.spread)
    extent = law.spacing * size * math.sqrt(count)
    across = rng.uniform(0.75, 0.95)
    deep = wall - extent * across * 0.85
    radial = np.minimum(deep + places[:, 0] * across, wall - size * 0.7)
    tangential = places[:, 1] / across
    cosine, sine = math.cos(site), math.sin(site)
    x, y = radial * cosine - tangential * sine, radial * sine + tangential * cosine
    # cells at the ends of a wide clump follow the curve of the wall
    excess = np.maximum(np.hypot(x, y) / (wall - size * 0.7), 1)
    inner = _round_cells(
        rng, np.stack([x / excess, y / excess], axis=1), (size * 0.85, size * 1.2), (0.4, 0.56)
    )
    if not law.body:
        return _no_cells(), inner
    middle = deep - extent * 0.05
    body = Cells(
        *np.array(
            [
                *_polar(site, middle),
                extent / across,
                extent * across,
                site - math.pi / 2,
                0.45,
                0.36,
            ]
        )[:, None]
    )
    return body, inner


def _draw_mass(rng: np.random.Generator, wall: float, cavity: Doubles) -> Cells:
    places = _sunflower(rng, 40, wall / math.sqrt(40), 0.35)
    gap = np.hypot(places[:, 0] - cavity[0], places[:, 1] - cavity[1])
    places = places[(gap > cavity[2]) & (np.hypot(*places.T) < wall * 0.97)]
    return _round_cells(rng, places, (0.13, 0.19), (0.42, 0.58))


def _draw_fragments(rng: np.random.Generator, radius: float) -> Cells:
    """Dark debris of unequal size in the middle of an empty zona."""
    count = int(rng.integers(*FRAGMENTS, endpoint=True))
    extent = radius * rng.uniform(0.5, 0.8)
    places = _sunflower(rng, count, extent / math.sqrt(count), 0.5)
    places += _polar(rng.uniform(0, 2 * math.pi), (radius - extent) * 0.5)
    places *= np.minimum(0.85 * radius / np.hypot(*places.T), 1)[:, None]
    cells = _round_cells(rng, places, (0.07, 0.24), (0.14, 0.42))
    return replace(cells, across=cells.along * rng.uniform(0.45, 1.0, count))


def _draw_hatching(rng: np.random.Generator, cells: tuple[int, int]) -> Cells:
    count = int(rng.integers(*cells, endpoint=True))
    angle = rng.uniform(0, 2 * math.pi) + rng.normal(0, 0.16, count)
    radius = rng.uniform(0.98, 1.13, count)
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _round_cells(rng, places, (0.07, 0.12), (0.45, 0.6))


def _draw_well(rng: np.random.Generator) -> Well:
    radius = rng.uniform(1.55, 2.2)
    x, y = _polar(rng.uniform(0, 2 * math.pi), (radius - 1.04) * math.sqrt(rng.uniform(0.02, 1)))
    specks = int(rng.poisson(7))
    angle, distance = (
        rng.uniform(0, 2 * math.pi, specks),
        radius * np.sqrt(rng.uniform(0, 1, specks)),
    )
    places = np.stack([x + distance * np.cos(angle), y + distance * np.sin(angle)], axis=1)
    places = places[(np.hypot(*places.T) > 1.12) & (distance < radius * 0.96)]
    debris = _round_cells(rng, places, (0.015, 0.045), (0.3, 0.6))
    return Well(x=x, y=y, radius=radius, arc=rng.uniform(0.05, 0.16), debris=debris)
