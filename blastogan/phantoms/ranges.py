"""The numbers behind phantom blastocysts: ranges of anatomy by letter and by expansion.

The features that a letter governs follow Gardner and Schoolcraft (1999). The numbers are ours,
ordered by letter and chosen so that neighbouring letters overlap a little, as they do between
embryologists. Lengths are in embryo units: the outer radius of the zona pellucida is 1. A span is
the range of a uniform distribution.
"""

from __future__ import annotations

from typing import NamedTuple

from blastogan.grades import CLASSES

Span = tuple[float, float]

MICROMETRES = 90.0
"""Length of the embryo unit: a blastocyst is about 180 micrometres wide."""

PLANE_STEP = 15.0
"""Distance of neighbouring focal planes in micrometres, as in time-lapse incubators."""

STUDY_COUNTS = dict(zip(CLASSES, (1933, 856, 82, 422, 269, 56, 23, 21, 23, 115), strict=True))
"""Pictures of each class in a block of 3,800: long-tailed, in the shape of public counts.

The first eight are in the proportions of the silver labels of Kromp et al. (2023, Scientific Data
10:271), which have no CC and do not label degenerate embryos; here CC is as rare as CA, and one
picture in 33 is DD.
"""

IMAGES_PER_EMBRYO = {shots: 0.66**shots for shots in range(1, 12)}
"""Weights of the numbers of shots of one embryo: 1 to 11, 2.8 on average, as in public data."""

EXPANSION_FREQUENCIES: dict[int, float] = {3: 0.3, 4: 0.4, 5: 0.15, 6: 0.15}
"""Frequency of the expansions of phantoms whose grade names none."""


class ICMRanges(NamedTuple):
    """Appearance of an ICM letter.

    Attributes:
        cells: Smallest and largest number of inner cells.
        size: Range of the cell radius.
        spacing: Distance between neighbours in cell radii; below 1 the cells overlap.
        spread: Standard deviation of a cell's offset from its place, in cell radii.
        fusion: Share of the thickness that belongs to the clump as a whole, not to single cells.
    """

    cells: tuple[int, int]
    size: Span
    spacing: float
    spread: float
    fusion: float


class TERanges(NamedTuple):
    """Appearance of a TE letter.

    Attributes:
        cells: Smallest and largest number of cells seen edge-on in the rim.
        thickness: Range of the mean thickness of the rim.
        junction: Thickness between two cells as a share of that in their middle.
        unevenness: Standard deviation of the logarithm of the widths of the cells.
        variety: Standard deviation of the logarithm of the heights of the cells.
    """

    cells: tuple[int, int]
    thickness: Span
    junction: float
    unevenness: float
    variety: float


class ExpansionRanges(NamedTuple):
    """Appearance of an expansion.

    Attributes:
        zona: Range of the thickness of the zona pellucida.
        gap: Range of the perivitelline space between zona and trophectoderm.
        cavity: Radius of the cavity as a share of the inner radius of the rim; 1 fills it.
        hernia: Range of the radius of the part that hatches through the zona.
    """

    zona: Span
    gap: Span
    cavity: float
    hernia: Span | None = None


ICM_RANGES = {
    "A": ICMRanges((19, 30), (0.095, 0.115), spacing=0.72, spread=0.12, fusion=0.6),
    "B": ICMRanges((9, 20), (0.085, 0.11), spacing=0.98, spread=0.28, fusion=0.25),
    "C": ICMRanges((2, 10), (0.065, 0.09), spacing=1.7, spread=0.7, fusion=0.0),
}
"""Ranges of each ICM letter; D has no inner cells, only `FRAGMENTS`."""

TE_RANGES = {
    "A": TERanges((18, 28), thickness=(0.115, 0.15), junction=0.5, unevenness=0.18, variety=0.16),
    "B": TERanges((11, 19), thickness=(0.08, 0.125), junction=0.25, unevenness=0.28, variety=0.24),
    "C": TERanges((4, 12), thickness=(0.035, 0.085), junction=0.08, unevenness=0.42, variety=0.4),
}
"""Ranges of each TE letter; D has no rim."""

EXPANSION_RANGES = {
    1: ExpansionRanges(zona=(0.15, 0.18), gap=(0.01, 0.03), cavity=0.42),
    2: ExpansionRanges(zona=(0.13, 0.16), gap=(0.005, 0.02), cavity=0.62),
    3: ExpansionRanges(zona=(0.1, 0.13), gap=(0.0, 0.015), cavity=1.0),
    4: ExpansionRanges(zona=(0.06, 0.085), gap=(0.0, 0.0), cavity=1.0),
    5: ExpansionRanges(zona=(0.045, 0.06), gap=(0.0, 0.0), cavity=1.0, hernia=(0.2, 0.42)),
    6: ExpansionRanges(zona=(0.0, 0.0), gap=(0.0, 0.0), cavity=1.0),
}
"""Ranges of each expansion; at 6 the embryo has left its zona, and the rim reaches radius 1."""

CONTRAST = (0.55, 1.35)
"""Range of the optical thickness of cells as a multiple of their thickness.

It varies by embryo, not by grade, and is drawn separately for the rim, the sheets and the inner
cells: grades are in the shapes, not in how many pixels are dark.
"""

GRANULARITY = (0.5, 1.5)  # range of the strength of the granules, which varies by embryo too
# range of the grey by which inner cells, or the fragments of a degenerate embryo, are darker
DENSITY = (0.0, 0.13)
# range of the grey by which what lies within the zona is brighter than the background
CLARITY = (-0.04, 0.1)

FRAGMENTS = (16, 40)  # smallest and largest number of fragments of a degenerate embryo
COLLAPSE = (0.55, 0.85)  # range of its extent as a share of the space in its zona

HATCHING_CELLS = 0.7  # share of the hatching parts that are filled with cells, not hollow
VACUOLES = 0.25  # mean number in an embryo
STRINGS = 0.25  # mean number of cytoplasmic strings across the cavity
LOOSE_CELLS = 0.8  # mean number of fragments within the zona unless the embryo is degenerate
NEIGHBOUR = 0.06  # share of the shots without a well that have another embryo at the edge

# ranges under framing="embryo", as shares of the frame: the embryo's centre and outer radius
EMBRYO_CENTRE = (0.46, 0.54)
EMBRYO_RADIUS = (0.34, 0.44)
# ranges under framing="well", as shares of the frame: centre and radius of the well
WELL_CENTRE = (0.45, 0.55)
WELL_SHARE = (0.4, 0.48)
WELL_RADIUS = (1.25, 2.1)  # range of the radius of the well in embryo units
