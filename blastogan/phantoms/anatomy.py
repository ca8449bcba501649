"""Anatomy of phantom blastocysts: which cells of which shape lie where.

Nothing is rendered here. Lengths are in embryo units: the outer radius of the zona pellucida is 1
and its centre the origin, x to the right, y downwards, angles from x towards y in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from blastogan.grades import Grade
from blastogan.phantoms import ranges
from blastogan.phantoms.parts import (
    NO_CELLS,
    Cells,
    Doubles,
    Floats,
    Rim,
    Sheet,
    round_cells,
    turned,
)

TEXTURE_SIZE = 96
"""Side of the lattice of random numbers that granularity interpolates."""

_GOLDEN_ANGLE = 2.39996


@dataclass(frozen=True)
class Anatomy:
    """An embryo in numbers, before anything is drawn.

    Attributes:
        outline: Amplitude and phase of the second and third harmonic of the outline, (2, 2).
        zona: Thickness of the zona pellucida.
        gap: Perivitelline space within it.
        rim_radius: Outer radius of the trophectoderm.
        clarity: Grey by which what lies within the zona is brighter than the background.
        texture: Random numbers of granularity, (`TEXTURE_SIZE`, `TEXTURE_SIZE`).
        rims: The rim, and that of the part that hatches; none where it is degenerate.
        cavity: Centre and radius of the cavity, (3,); radius 0 where there is none.
        sheets: The trophectoderm below and above the cavity; none where it is degenerate.
        mass: Undivided cells of an early blastocyst, or the collapsed ones of a degenerate embryo.
        body: The clump that they form together, one ellipse or none.
        density: Grey by which the inner cell mass is darker.
        strings: Ends of cytoplasmic strings, (N, 4).
    """

    grade: Grade
    outline: Doubles
    zona: float
    gap: float
    rim_radius: float
    clarity: float
    texture: Floats
    rims: tuple[Rim, ...] = ()
    cavity: Doubles = field(default_factory=lambda: np.zeros(3))
    sheets: tuple[Sheet, ...] = ()
    mass: Cells = NO_CELLS
    inner: Cells = NO_CELLS
    body: Cells = NO_CELLS
    density: float = 0.0
    strings: Doubles = field(default_factory=lambda: np.zeros((0, 4)))
    fragments: Cells = NO_CELLS
    vacuoles: Cells = NO_CELLS

    def turned(self, angle: float) -> Anatomy:
        """The embryo turned about its centre."""
        cavity = self.cavity.copy()
        cavity[:2] = turned(cavity[:2], angle)
        outline = self.outline.copy()
        outline[1] -= np.array([2, 3]) * angle
        ends = [turned(self.strings[:, pair : pair + 2].T, angle).T for pair in (0, 2)]
        return replace(
            self,
            outline=outline,
            rims=tuple(rim.turned(angle) for rim in self.rims),
            cavity=cavity,
            mass=self.mass.turned(angle),
            inner=self.inner.turned(angle),
            body=self.body.turned(angle),
            strings=np.concatenate(ends, axis=1),
            fragments=self.fragments.turned(angle),
            vacuoles=self.vacuoles.turned(angle),
        )


def draw_anatomy(rng: np.random.Generator, grade: Grade) -> Anatomy:
    """Draw the anatomy of one phantom; the grade must name the expansion."""
    expansion = ranges.EXPANSION_RANGES[grade.expansion or 3]
    outline = np.stack([rng.normal(0, 0.012, 2), rng.uniform(0, 2 * math.pi, 2)])
    zona, gap = rng.uniform(*expansion.zona), rng.uniform(*expansion.gap)
    radius = 1.0 - zona - gap
    texture = rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32)
    anatomy = Anatomy(
        grade=grade,
        outline=outline,
        zona=zona,
        gap=gap,
        rim_radius=radius,
        clarity=rng.uniform(*ranges.CLARITY),
        texture=texture * np.float32(rng.uniform(*ranges.GRANULARITY)),
    )
    if grade.te == "D":
        return _degenerate(rng, anatomy)
    rim = _draw_rim(rng, ranges.TE_RANGES[grade.te], radius)
    wall = radius - float(rim.heights.mean())
    site = rng.uniform(-math.pi, math.pi)
    room = wall * expansion.cavity
    icm_ranges = ranges.ICM_RANGES[grade.icm]
    inner, body = _draw_inner(rng, icm_ranges, wall, site)
    cavity = np.array([*_polar(site + math.pi, wall - room), room])
    pitch = 2 * math.pi * radius / len(rim)
    hernia = _draw_hernia(rng, rim, expansion.hernia, site)
    return replace(
        anatomy,
        rims=(rim, *hernia),
        cavity=cavity,
        sheets=tuple(_draw_sheet(rng, pitch, wall) for _ in range(2)),
        mass=_draw_mass(rng, wall, cavity) if expansion.cavity < 1 else NO_CELLS,
        inner=inner,
        body=body,
        density=rng.uniform(*ranges.DENSITY),
        strings=_draw_strings(rng, inner, wall),
        fragments=Cells.joined(_draw_loose(rng, radius, wall), *_draw_hatched(rng, hernia)),
        vacuoles=_draw_vacuoles(rng, wall),
    )


def _polar(angle: float, radius: float) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)


def _sunflower(rng: np.random.Generator, count: int, pitch: float, spread: float) -> Doubles:
    """Places that fill a disc of radius `pitch` * sqrt(`count`), inner ones last, (count, 2)."""
    rank = np.arange(count)[::-1] + 0.5
    angle = rank * _GOLDEN_ANGLE + rng.uniform(0, 2 * math.pi)
    radius = pitch * np.sqrt(rank)
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return np.asarray(places + rng.normal(0, spread * pitch, places.shape))


def _anywhere(rng: np.random.Generator, count: int, inner: float, outer: float) -> Doubles:
    """Places in a ring, even by area, (count, 2)."""
    angle = rng.uniform(0, 2 * math.pi, count)
    radius = np.sqrt(rng.uniform(inner**2, outer**2, count))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _draw_widths(rng: np.random.Generator, count: int, unevenness: float) -> Doubles:
    """Angles that cells around a circle take up, (count,)."""
    widths = np.exp(rng.normal(0, unevenness, count))
    return np.asarray(widths * (2 * math.pi / widths.sum()))


def _draw_rim(rng: np.random.Generator, te: ranges.TERanges, radius: float) -> Rim:
    """Rim cells along the circle; their mean thickness is exactly the one drawn."""
    count = int(rng.integers(te.cells[0], te.cells[1], endpoint=True))
    widths = _draw_widths(rng, count, te.unevenness)
    starts = rng.uniform(0, 2 * math.pi) + np.cumsum(widths) - widths
    # wider cells are thicker, and none is a spike
    heights = np.sqrt(widths * count) * np.exp(rng.normal(0, te.variety, count))
    rim = Rim(
        x=0.0,
        y=0.0,
        radius=radius,
        starts=starts,
        heights=heights,
        junction=te.junction * rng.uniform(0.8, 1.2),
        shapes=rng.uniform(0.4, 0.95, count),
        skews=rng.uniform(-0.45, 0.45, count),
        contrast=rng.uniform(*ranges.CONTRAST),
        tones=rng.uniform(-0.06, 0.02, count),
    )
    mean = float(rim.profile()[0].mean())
    return replace(rim, heights=heights * (rng.uniform(*te.thickness) / mean))


def _draw_hernia(
    rng: np.random.Generator, rim: Rim, span: ranges.Span | None, site: float
) -> tuple[Rim, ...]:
    """The part of the trophectoderm that has left the zona."""
    angle, share = site + math.pi + rng.normal(0, 0.8), rng.uniform(0.5, 0.9)
    if span is None:
        return ()
    radius = rng.uniform(*span)
    height = min(float(rim.heights.mean()), 0.3 * radius)
    x, y = _polar(angle, 1.0 + radius * (share - 0.55))
    count = max(5, round(len(rim) * radius * 1.3))
    widths = _draw_widths(rng, count, 0.2)
    return (
        Rim(
            x=x,
            y=y,
            radius=radius,
            starts=angle + np.cumsum(widths) - widths,
            heights=height * np.exp(rng.normal(0, 0.2, count)),
            junction=rim.junction,
            shapes=rng.uniform(0.5, 1.2, count),
            skews=rng.uniform(-0.3, 0.3, count),
            contrast=rim.contrast,
            tones=rng.uniform(-0.06, 0.02, count),
        ),
    )


def _draw_hatched(rng: np.random.Generator, hernia: tuple[Rim, ...]) -> list[Cells]:
    """Cells in the part outside the zona, which is rarely hollow."""
    filled = []
    for rim in hernia:
        count = int(rng.integers(5, 12))
        places = _sunflower(rng, count, 0.8 * rim.radius / math.sqrt(count), 0.3)
        places += (rim.x, rim.y)
        size = (0.2 * rim.radius, 0.42 * rim.radius)
        cells = round_cells(rng, places, size, (-0.06, 0.02))
        if rng.uniform() < ranges.HATCHING_CELLS:
            filled.append(cells)
    return filled


def _draw_inner(
    rng: np.random.Generator, icm: ranges.ICMRanges, wall: float, site: float
) -> tuple[Cells, Cells]:
    """The inner cells, attached to the wall at the angle `site`, and the clump they form."""
    count = int(rng.integers(icm.cells[0], icm.cells[1], endpoint=True))
    size = rng.uniform(*icm.size)
    places = _sunflower(rng, count, icm.spacing * size, icm.spread)
    extent = icm.spacing * size * math.sqrt(count)
    across = rng.uniform(0.8, 1.05)
    deep = wall - extent * across * 0.9
    radial = np.minimum(deep + places[:, 0] * across, wall - size * 0.6)
    tangential = places[:, 1] / across
    cosine, sine = math.cos(site), math.sin(site)
    x, y = radial * cosine - tangential * sine, radial * sine + tangential * cosine
    # cells at the ends of a wide clump follow the curve of the wall
    excess = np.maximum(np.hypot(x, y) / (wall - size * 0.6), 1)
    cells = round_cells(
        rng, np.stack([x / excess, y / excess], axis=1), (size * 0.8, size * 1.2), (-0.08, 0.02)
    )
    middle = 1 - (places**2).sum(axis=1) / max(extent**2, 1e-6)
    contrast = rng.uniform(*ranges.CONTRAST)
    swell = contrast * (1 - icm.fusion) * (0.9 + 0.5 * np.clip(middle, 0, 1))
    cells = replace(cells, height=cells.height * swell)
    if not icm.fusion:
        return cells, NO_CELLS
    wide, deep_half = extent / across + size, extent * across + size
    height = contrast * icm.fusion * 1.3 * min(wide, deep_half)
    ellipse = [*_polar(site, deep), wide, deep_half, site + math.pi / 2, height, 0.0]
    return cells, Cells(*np.array(ellipse)[:, None])


def _draw_sheet(rng: np.random.Generator, pitch: float, wall: float) -> Sheet:
    # the sphere's half circumference lies on the lattice, with a border of neighbours
    pitch = max(pitch * rng.uniform(0.9, 1.25), 0.16)
    side = 2 * math.ceil(wall * math.pi / 2 / pitch) + 5
    return Sheet(
        pitch=pitch,
        jitter=rng.uniform(-0.42, 0.42, (side, side, 2)).astype(np.float32),
        tones=(rng.uniform(*ranges.CONTRAST) * rng.uniform(0.6, 1.2, (side, side))).astype(
            np.float32
        ),
    )


def _draw_mass(rng: np.random.Generator, wall: float, cavity: Doubles) -> Cells:
    places = _sunflower(rng, 44, wall / math.sqrt(44), 0.4)
    gap = np.hypot(places[:, 0] - cavity[0], places[:, 1] - cavity[1])
    places = places[(gap > cavity[2] * 1.02) & (np.hypot(*places.T) < wall * 0.95)]
    return round_cells(rng, places, (0.12, 0.2), (-0.07, 0.03))


def _draw_strings(rng: np.random.Generator, inner: Cells, wall: float) -> Doubles:
    """Strings from an inner cell to the wall across the cavity."""
    count = int(rng.poisson(ranges.STRINGS))
    roots = rng.integers(len(inner), size=count)
    starts = np.stack([inner.x[roots], inner.y[roots]], axis=1) * 0.9
    away = np.arctan2(-starts[:, 1], -starts[:, 0]) + rng.normal(0, 0.9, count)
    ends = np.stack([np.cos(away), np.sin(away)], axis=1) * wall
    return np.concatenate([starts, ends], axis=1)


def _draw_loose(rng: np.random.Generator, radius: float, wall: float) -> Cells:
    """Fragments under the zona or in the cavity."""
    count = int(rng.poisson(ranges.LOOSE_CELLS))
    places = _anywhere(rng, count, wall * 0.6, radius * 0.97)
    return round_cells(rng, places, (0.03, 0.075), (-0.05, 0.05), oval=0.9)


def _draw_vacuoles(rng: np.random.Generator, wall: float) -> Cells:
    """Clear bubbles: thinner than what surrounds them."""
    count = int(rng.poisson(ranges.VACUOLES))
    cells = round_cells(rng, _anywhere(rng, count, 0, wall), (0.05, 0.12), (0.02, 0.07), oval=0.92)
    return replace(cells, height=-0.7 * cells.height)


def _degenerate(rng: np.random.Generator, anatomy: Anatomy) -> Anatomy:
    """A collapsed embryo: unequal dark fragments, shrunken within the zona."""
    space = 1.0 - anatomy.zona
    extent = space * rng.uniform(*ranges.COLLAPSE)
    count = int(rng.integers(*ranges.FRAGMENTS, endpoint=True))
    places = _sunflower(rng, count, extent / math.sqrt(count), 0.45)
    places += _polar(rng.uniform(0, 2 * math.pi), (space - extent) * rng.uniform(0, 0.9))
    places *= np.minimum(0.88 * space / np.maximum(np.hypot(*places.T), 1e-6), 1)[:, None]
    mass = round_cells(rng, places, (0.06, 0.26), (-0.1, 0.04), oval=0.55)
    mass = replace(mass, height=mass.height * rng.uniform(*ranges.CONTRAST))
    scattered = _anywhere(rng, int(rng.poisson(5)), extent * 0.8, space * 0.94)
    loose = round_cells(rng, scattered, (0.02, 0.07), (-0.1, 0.04))
    return replace(
        anatomy,
        gap=space - extent,
        rim_radius=extent,
        mass=mass,
        density=rng.uniform(*ranges.DENSITY),
        fragments=loose,
        vacuoles=_draw_vacuoles(rng, extent),
    )
