"""What is true of a phantom's picture: where its parts are, how many cells it has, how it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blastogan.phantoms.anatomy import Anatomy
from blastogan.phantoms.canvas import Canvas
from blastogan.phantoms.drawing import Embryo, reach_of
from blastogan.phantoms.pose import Pose
from blastogan.phantoms.ranges import MICROMETRES
from blastogan.phantoms.rendering import (
    SUPERSAMPLING,
    anatomy_of,
    check_framing,
    checked_resolution,
    pose_of,
    shrunk,
)
from blastogan.phantoms.view import Framing, View

MASKS = ("icm", "te", "zona", "cavity")
"""Parts that have a mask: inner cell mass, trophectoderm seen edge-on, zona pellucida, cavity."""


@dataclass(frozen=True)
class Truth:
    """What is true of a picture.

    Attributes:
        masks: For each of `MASKS` a picture (R, R), 255 where more than half of the pixel shows
            the part, else 0. No pixel belongs to two. The trophectoderm below and above the cavity
            is not in its mask, and neither is a neighbouring embryo in any.
        numbers: See `phantom_numbers`.
    """

    masks: dict[str, NDArray[np.uint8]]
    numbers: dict[str, float]


def phantom_truth(
    seed: int, view: View, resolution: int = 64, framing: Framing = "embryo"
) -> Truth:
    """Masks and numbers of the picture that `render_phantom` draws of the same arguments.

    Raises:
        UserError: If an argument is out of range.
    """
    resolution = checked_resolution(resolution)
    check_framing(framing)
    pose, anatomy = pose_of(seed, view), anatomy_of(seed, view)
    canvas = Canvas(resolution * SUPERSAMPLING, pose.placement(framing))
    window = canvas.window(0, 0, reach_of(anatomy))
    regions = Embryo(canvas.part(window), anatomy).regions()
    masks = {}
    for name in MASKS:
        cover = canvas.zeros()
        cover[window] = regions[name]
        masks[name] = np.where(shrunk(cover) > 0.5, 255, 0).astype(np.uint8)
    return Truth(masks, _numbers(view, pose, anatomy, framing))


def phantom_numbers(seed: int, view: View, framing: Framing = "embryo") -> dict[str, float]:
    """Ground truth of a picture in numbers; nothing is drawn.

    Returns:
        ``x``, ``y``, ``radius``: centre and outer radius of the embryo as shares of the frame, 0
        to 1; ``icm_cells``, ``te_cells`` (seen edge-on), ``fragments``, ``vacuoles``: counts;
        ``zona``, ``te_thickness``: mean thickness in micrometres; ``icm_angle``: direction of the
        inner cell mass in degrees, x towards y, y downwards, not a number without one;
        ``focus_um``: height of the focal plane over the middle of the embryo; ``light_angle``:
        direction of the relief in degrees.
    """
    check_framing(framing)
    return _numbers(view, pose_of(seed, view), anatomy_of(seed, view), framing)


def _numbers(view: View, pose: Pose, anatomy: Anatomy, framing: Framing) -> dict[str, float]:
    x, y, radius = pose.placement(framing)
    inner = anatomy.inner
    thickness = anatomy.rims[0].profile()[0].mean() if anatomy.rims else 0.0
    towards = math.atan2(inner.y.mean(), inner.x.mean()) if len(inner) else math.nan
    return {
        "x": x,
        "y": y,
        "radius": radius,
        "icm_cells": len(inner),
        "te_cells": sum(len(rim) for rim in anatomy.rims),
        "fragments": len(anatomy.fragments) + (len(anatomy.mass) if not anatomy.rims else 0),
        "vacuoles": len(anatomy.vacuoles),
        "zona": anatomy.zona * MICROMETRES,
        "te_thickness": float(thickness) * MICROMETRES,
        "icm_angle": math.degrees(towards),
        "focus_um": view.focus + pose.focus * MICROMETRES,
        "light_angle": math.degrees(pose.light),
    }
