"""A view: the contents of one picture of a phantom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blastogan.grades import Grade

Framing = Literal["embryo", "well"]
"""``embryo`` centres the embryo; ``well`` shows the whole well, the embryo anywhere within."""


@dataclass(frozen=True)
class View:
    """One picture to be taken of a phantom embryo.

    Attributes:
        embryo: Number of the embryo in its set.
        grade: Its grade, with the expansion.
        shot: Number of the shot: the same embryo, with another orientation, position and light.
        plane: Number of the focal plane, lowest first.
        focus: Height of the focal plane over the middle of the embryo, in micrometres.
        clinic: Name of the clinic whose microscope it is, one of `CLINICS`.
    """

    embryo: int
    grade: Grade
    shot: int = 0
    plane: int = 0
    focus: float = 0.0
    clinic: str = "hoffman-1"
