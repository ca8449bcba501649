"""Laws of phantom blastocysts: what each letter and each expansion looks like, in numbers.

What they govern follows Gardner and Schoolcraft (1999). The numbers are ours, ordered by letter
and chosen so that neighbouring letters overlap a little, as they do between embryologists.
Lengths are in embryo units: the outer radius of the zona pellucida is 1.
"""

from __future__ import annotations

from typing import NamedTuple

Span = tuple[float, float]


class InnerLaw(NamedTuple):
    """How an ICM letter looks.

    Attributes:
        cells: Fewest and most inner cells.
        size: Range of the cell radius.
        spacing: Distance between neighbours in cell radii; below 1 the cells overlap.
        spread: Standard deviation of a cell's way from its place, in cell radii.
        body: Opacity of the dark clump behind the cells.
    """

    cells: tuple[int, int]
    size: Span
    spacing: float
    spread: float
    body: float


class RimLaw(NamedTuple):
    """How a TE letter looks.

    Attributes:
        cells: Fewest and most cells seen edge-on in the rim.
        thickness: Range of half the thickness of a rim cell.
        coverage: Length of a cell as a share of its sector; below 1 there are gaps.
        unevenness: Standard deviation of the logarithm of the sectors.
        faces: Cells seen en face, as a share of the rim cells.
    """

    cells: tuple[int, int]
    thickness: Span
    coverage: float
    unevenness: float
    faces: float


class ExpansionLaw(NamedTuple):
    """How an expansion looks.

    Attributes:
        zona: Range of the thickness of the zona pellucida.
        cavity: Radius of the cavity as a share of the inner radius of the rim; 1 fills it.
        hatching: Fewest and most cells outside the zona.
    """

    zona: Span
    cavity: float
    hatching: tuple[int, int]


INNER_LAWS = {
    "A": InnerLaw(cells=(19, 30), size=(0.095, 0.115), spacing=0.78, spread=0.15, body=0.9),
    "B": InnerLaw(cells=(9, 20), size=(0.085, 0.11), spacing=1.05, spread=0.35, body=0.5),
    "C": InnerLaw(cells=(2, 10), size=(0.07, 0.095), spacing=1.7, spread=0.8, body=0.0),
}
"""Law of each ICM letter; D has no inner cells, only `FRAGMENTS`."""

RIM_LAWS = {
    "A": RimLaw(cells=(22, 32), thickness=(0.07, 0.095), coverage=1.12, unevenness=0.08, faces=0.7),
    "B": RimLaw(
        cells=(13, 23), thickness=(0.055, 0.095), coverage=0.92, unevenness=0.22, faces=0.6
    ),
    "C": RimLaw(cells=(5, 14), thickness=(0.03, 0.095), coverage=0.85, unevenness=0.45, faces=0.6),
}
"""Law of each TE letter; D has no rim."""

EXPANSION_LAWS = {
    1: ExpansionLaw(zona=(0.15, 0.18), cavity=0.42, hatching=(0, 0)),
    2: ExpansionLaw(zona=(0.13, 0.16), cavity=0.62, hatching=(0, 0)),
    3: ExpansionLaw(zona=(0.1, 0.13), cavity=1.0, hatching=(0, 0)),
    4: ExpansionLaw(zona=(0.06, 0.085), cavity=1.0, hatching=(0, 0)),
    5: ExpansionLaw(zona=(0.045, 0.06), cavity=1.0, hatching=(4, 8)),
    6: ExpansionLaw(zona=(0.0, 0.0), cavity=1.0, hatching=(0, 0)),
}
"""Law of each expansion; at 6 the embryo has left its zona, and the rim reaches radius 1."""

FRAGMENTS = (14, 34)
"""Fewest and most dark fragments of a degenerate embryo, grade DD."""

EMBRYO_RADIUS = (0.365, 0.435)
"""Range of the outer radius under ``framing="embryo"``, as a share of the frame."""
