"""Appearance of microscopes, and the clinics that own them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from blastogan.phantoms.ranges import Span

Optics = Literal["hoffman", "dic", "brightfield"]

STYLES: tuple[Optics, ...] = ("hoffman", "dic", "brightfield")


@dataclass(frozen=True)
class Style:
    """Appearance of pictures from one clinic's microscope. Grey is 0 to 1 of the camera's range.

    Attributes:
        optics: Hoffman modulation contrast and DIC turn the slope of the specimen into grey, DIC
            more finely; bright field shows what absorbs, dark edges, and rings out of focus.
        well: Whether embryos lie in microwells, whose edge is seen.
        light: Direction of the relief in radians, x towards y, y downwards.
        relief: Grey of a slope of 1.
        softness: Width of the sharpest edge, in embryo units.
        edges: Grey by which a slope of 1 is darker, whatever its direction.
        floor: Range of the grey of the empty floor.
        gain: Range of the contrast of the specimen.
        tilt: Range of the change of the light across the frame.
        vignette: Loss of light in the corners.
        noise: Standard deviation of the noise in a picture of 256x256.
        quality: Quality of the camera's JPEG at 512x512, 1 to 100; 0 for none.
    """

    optics: Optics
    well: bool = False
    light: float = math.radians(-118)
    relief: float = 0.37
    softness: float = 0.006
    edges: float = 0.03
    floor: Span = (0.38, 0.6)
    gain: Span = (0.7, 1.3)
    tilt: Span = (0.0, 0.2)
    vignette: float = 0.06
    noise: float = 0.014
    quality: int = 90


_HOFFMAN = Style(optics="hoffman", well=True)
_DIC = Style(
    optics="dic",
    light=math.radians(-45),
    relief=0.5,
    softness=0.005,
    edges=0.02,
    vignette=0.02,
    tilt=(0.0, 0.12),
    quality=0,
)
_BRIGHT = Style(
    optics="brightfield", relief=0.0, edges=0.16, floor=(0.6, 0.75), vignette=0.12, quality=92
)

CLINICS: dict[str, Style] = {
    "hoffman-1": _HOFFMAN,
    "hoffman-2": replace(
        _HOFFMAN,
        well=False,
        light=math.radians(150),
        relief=0.34,
        softness=0.015,
        floor=(0.52, 0.68),
        vignette=0.16,
        noise=0.02,
        quality=75,
    ),
    "dic-1": _DIC,
    "dic-2": replace(
        _DIC, light=math.radians(-135), relief=0.4, softness=0.011, floor=(0.38, 0.5), noise=0.018
    ),
    "brightfield-1": _BRIGHT,
    "brightfield-2": replace(
        _BRIGHT, edges=0.12, softness=0.02, floor=(0.68, 0.82), noise=0.02, quality=75
    ),
}
"""Two clinics of each style; a classifier trained on one meets a shift in the other."""
