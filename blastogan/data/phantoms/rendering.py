"""Phantoms: procedural blastocysts that are the package's embedded data.

Public images of blastocysts cannot be shipped, so the package draws its own, with the anatomy
that grades describe. Image n of seed s is always the same image. Phantoms are drawings; they are
labelled as such wherever they are shown and stand for no patient.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from blastogan.data.phantom_anatomy import Anatomy, Floats, Framing, draw_anatomy
from blastogan.data.phantom_optics import Canvas
from blastogan.errors import UserError
from blastogan.grades import Grade

PHANTOM_LAW: dict[str, float] = {
    "AA": 1007,
    "AB": 446,
    "AC": 43,
    "BA": 220,
    "BB": 140,
    "BC": 29,
    "CA": 12,
    "CB": 11,
    "CC": 12,
    "DD": 60,
}
"""Relative frequency of the ten classes, long-tailed, shaped after counts of public data."""

EXPANSION_LAW: dict[int, float] = {3: 0.3, 4: 0.4, 5: 0.15, 6: 0.15}
"""Frequency of the expansions of phantoms whose grade names none."""

RESOLUTIONS = (16, 512)
"""Least and greatest side of a picture, in pixels."""

NOISE = 0.012
"""Standard deviation of the sensor's noise per pixel, as a share of the grey range."""

GAIN = 1.3
"""Contrast of the camera about mid-grey."""

_GRADE_STREAM, _ANATOMY_STREAM, _NOISE_STREAM = range(3)
_CLASS_STEPS = np.cumsum(list(PHANTOM_LAW.values())) / sum(PHANTOM_LAW.values())
_EXPANSION_STEPS = np.cumsum(list(EXPANSION_LAW.values())) / sum(EXPANSION_LAW.values())


def _generator(seed: int, index: int, stream: int) -> np.random.Generator:
    """Generator of one stream of one phantom; Philox jumps there at no cost."""
    for name, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 2**64:
            raise UserError(f"{name} of a phantom is {value}: expected 0 to 2**64 - 1")
    key = np.array([seed, index], dtype=np.uint64)
    counter = np.array([0, 0, 0, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def phantom_grade(seed: int, index: int) -> Grade:
    """Grade of a phantom, without drawing it.

    The class follows `PHANTOM_LAW`, the expansion `EXPANSION_LAW`.

    Raises:
        UserError: If `seed` or `index` is negative or beyond 64 bits.
    """
    first, second = _generator(seed, index, _GRADE_STREAM).random(2)
    name = list(PHANTOM_LAW)[int(np.searchsorted(_CLASS_STEPS, first, side="right"))]
    place = int(np.searchsorted(_EXPANSION_STEPS, second, side="right"))
    return Grade(name[0], name[1], expansion=list(EXPANSION_LAW)[place])


def phantom_anatomy(seed: int, index: int, grade: Grade | None = None) -> Anatomy:
    """Anatomy of a phantom: the truth behind its picture, the same at every resolution.

    Args:
        seed: Seed of the set.
        index: Number of the phantom in the set.
        grade: Grade to draw instead of `phantom_grade`; where it names no expansion, that of
            `phantom_grade` is kept.
    """
    own = phantom_grade(seed, index)
    grade = grade or own
    grade = Grade(grade.icm, grade.te, expansion=grade.expansion or own.expansion)
    return draw_anatomy(_generator(seed, index, _ANATOMY_STREAM), grade)


def render_phantom(
    seed: int,
    index: int,
    resolution: int = 64,
    *,
    grade: Grade | None = None,
    framing: Framing = "embryo",
) -> NDArray[np.uint8]:
    """Draw a phantom, a pure function of the arguments.

    Args:
        seed: Seed of the set.
        index: Number of the phantom in the set.
        resolution: Side of the picture in pixels, 16 to 512.
        grade: As in `phantom_anatomy`.
        framing: ``embryo`` centres the embryo, its outer radius 0.36 to 0.44 of the frame;
            ``well`` shows the whole well with the embryo anywhere within.

    Returns:
        Grey picture (resolution, resolution), 0 to 255.

    Raises:
        UserError: If `resolution` or `framing` is out of range.
    """
    resolution = _checked(resolution, framing)
    anatomy = phantom_anatomy(seed, index, grade)
    factor = 2 if resolution < 128 else 1
    canvas = Canvas(resolution * factor, anatomy.placement(framing), anatomy.light, anatomy.blur)
    _draw_floor(canvas, anatomy)
    _draw_embryo(canvas, anatomy)
    if framing == "well":
        _draw_well_edge(canvas, anatomy)
    tone = canvas.tone
    if factor > 1:
        tone = tone.reshape(resolution, factor, resolution, factor).mean(axis=(1, 3))
    tone = 0.5 + GAIN * (tone - 0.5)
    noise = _generator(seed, index, _NOISE_STREAM).standard_normal(tone.shape, dtype=np.float32)
    return np.clip((tone + noise * NOISE) * 255 + 0.5, 0, 255).astype(np.uint8)


def _checked(resolution: int, framing: str) -> int:
    try:
        side = operator.index(resolution)
    except TypeError:
        side = -1
    if isinstance(resolution, bool) or not RESOLUTIONS[0] <= side <= RESOLUTIONS[1]:
        raise UserError(
            f"resolution of a phantom is {resolution!r}: expected a whole number of pixels "
            f"from {RESOLUTIONS[0]} to {RESOLUTIONS[1]}"
        )
    if framing not in get_args(Framing):
        raise UserError(f"framing of a phantom is {framing!r}: expected 'embryo' or 'well'")
    return side


def _draw_floor(canvas: Canvas, anatomy: Anatomy) -> None:
    """The floor of the well: an even grey that falls off away from the light, with specks."""
    towards = canvas.x * canvas.light[0] + canvas.y * canvas.light[1]
    canvas.tone += 0.05 * np.clip(towards, -1.5, 1.5)
    canvas.tone += 0.02 * canvas.texture(anatomy.texture[:6, :6], 2.0)
    canvas.paint(anatomy.well.debris, relief=0.15, membrane=0.2, opacity=0.8, grain=0.0)


def _draw_embryo(canvas: Canvas, anatomy: Anatomy) -> None:
    """The embryo from the outside in: halo, zona, cavity, rim, inner cells."""
    outer = canvas.distance() / _outline(canvas, anatomy)
    _draw_zona(canvas, anatomy, outer)
    _draw_interior(canvas, anatomy, outer)
    relief = 0.42 * anatomy.contrast
    canvas.paint(anatomy.mass, relief=relief * 0.8, membrane=0.2, opacity=0.85, grain=0.7)
    canvas.paint(anatomy.rim, relief=relief, membrane=0.3, opacity=0.9, grain=0.6)
    canvas.paint(anatomy.body, relief=0.12, membrane=0.2, opacity=anatomy.body_opacity, grain=1.0)
    canvas.paint(anatomy.inner, relief=relief, membrane=0.22, opacity=0.85, grain=1.0)
    canvas.paint(anatomy.fragments, relief=relief * 0.7, membrane=0.15, opacity=0.85, grain=1.0)
    canvas.paint(anatomy.hatching, relief=relief, membrane=0.25, opacity=0.9, grain=0.5)
    canvas.tone += 0.06 * canvas.grain * canvas.texture(anatomy.texture, 1.3)


def _outline(canvas: Canvas, anatomy: Anatomy) -> Floats:
    """Outer radius in each direction, about 1."""
    angle = np.arctan2(canvas.y, canvas.x)
    (second, third), (phase_second, phase_third) = anatomy.outline.tolist()
    return np.asarray(
        1 + second * np.cos(2 * angle + phase_second) + third * np.cos(3 * angle + phase_third)
    )


def _draw_zona(canvas: Canvas, anatomy: Anatomy, outer: Floats) -> None:
    """The zona pellucida: a pale band between two edges, in a dark halo."""
    lit = anatomy.contrast * canvas.lit()
    canvas.tone -= 0.1 * canvas.line(np.maximum(outer - 1, 0), 0.14)
    if not anatomy.zona:
        return
    inner = 1 - anatomy.zona
    band = canvas.disc(outer - 1, 0.02) * canvas.disc(inner - outer, 0.02)
    canvas.tone += band * (0.22 + 0.12 * lit)
    canvas.tone -= 0.22 * canvas.line(outer - 1, 0.022)
    canvas.tone += (0.2 * lit - 0.16) * canvas.line(outer - inner, 0.02)


def _draw_interior(canvas: Canvas, anatomy: Anatomy, outer: Floats) -> None:
    """What lies inside the zona: darker substance, the pale smooth cavity, cells seen en face."""
    inside = canvas.disc(outer - anatomy.rim_radius, 0.03)
    degenerate = anatomy.grade.te == "D"
    canvas.tone += inside * ((0.42 if degenerate else 0.46) - canvas.tone)
    canvas.grain += inside * (0.5 if degenerate else 0.25)
    x, y, radius = anatomy.cavity.tolist()
    if not radius:
        return
    distance = canvas.distance(x, y) - radius
    cavity = canvas.disc(distance, 0.06)
    canvas.tone += cavity * (0.66 - canvas.tone)
    canvas.grain *= 1 - 0.6 * cavity
    warp = 0.05 * canvas.texture(anatomy.texture[:12, :12], 1.3)
    facets = canvas.facets(anatomy.faces, warp)
    canvas.tone += inside * 0.011 * anatomy.contrast * canvas.slope(facets)


def _draw_well_edge(canvas: Canvas, anatomy: Anatomy) -> None:
    """The edge of the well: a bright arc on the lit side, rings beyond it, black opposite."""
    well = anatomy.well
    distance = canvas.distance(well.x, well.y) - well.radius
    lit = 0.5 + 0.5 * canvas.lit(well.x, well.y)
    outside = 1 - canvas.disc(distance, 0.03)
    rings = 0.05 * np.sin(distance * (2 * np.pi / 0.22))
    canvas.tone += outside * (lit**1.5 * (0.4 + rings) - canvas.tone)
    canvas.tone += 0.75 * lit**2 * canvas.line(distance, well.arc)
    canvas.tone += 0.15 * canvas.line(distance, 0.02)


class PhantomImages:
    """Sequence of phantoms, each drawn when it is asked for.

    Args:
        count: Number of phantoms.
        seed: Seed of the set.
        resolution: Side of the pictures in pixels, 16 to 512.
        framing: As in `render_phantom`.
        grades: Grade of each phantom, `count` of them; by default `phantom_grade`.

    Raises:
        UserError: If an argument is out of range, or `grades` has another length.
    """

    def __init__(
        self,
        count: int,
        seed: int = 0,
        resolution: int = 64,
        framing: Framing = "embryo",
        grades: Sequence[Grade] | None = None,
    ) -> None:
        if count < 0:
            raise UserError(f"count of phantoms is {count}: expected 0 or more")
        if grades is not None and len(grades) != count:
            raise UserError(f"{len(grades)} grades for {count} phantoms: expected one for each")
        self.count = count
        self.seed = seed
        self.resolution = _checked(resolution, framing)
        self.framing: Framing = framing
        self.grades = grades

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], Grade]:
        """Picture (resolution, resolution), 0 to 255, and its grade; negative counts from the end.

        Raises:
            IndexError: If there is no such phantom.
        """
        place = index + self.count if index < 0 else index
        if not 0 <= place < self.count:
            raise IndexError(f"phantom {index} of {self.count}")
        grade = self.grades[place] if self.grades else phantom_grade(self.seed, place)
        picture = render_phantom(
            self.seed, place, self.resolution, grade=grade, framing=self.framing
        )
        return picture, grade
