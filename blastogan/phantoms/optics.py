"""From optical thickness to grey: the microscope, the well, and the camera."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blastogan.phantoms.canvas import Canvas, blurred
from blastogan.phantoms.drawing import Layer
from blastogan.phantoms.parts import TURN, Floats
from blastogan.phantoms.pose import Pose, Well
from blastogan.phantoms.styles import Style

DEFOCUS = 0.042
"""Blur of an object one embryo unit out of focus, in embryo units."""

CAMERA = 512
"""Side of the camera's picture, at which its JPEG is compressed."""


def blur_of(style: Style, distance: float) -> float:
    """Standard deviation of the blur at `distance` out of focus, in embryo units."""
    return math.hypot(style.softness, DEFOCUS * distance)


def seen(canvas: Canvas, layer: Layer, style: Style, light: float, focus: float) -> Floats:
    """Grey that a layer adds to the picture.

    Hoffman and DIC show the slope towards the light (Hoffman 1977, Applied Optics 14:1169; Allen
    et al. 1969); bright field shows what absorbs or leaves the lens, and out of focus the curvature
    of the optical thickness (Teague 1983, JOSA 73:1434).
    """
    away = layer.depth - focus
    across, down = canvas.slopes(layer.height)
    steep = across * across + down * down
    result = layer.tone - np.float32(style.edges) * steep / np.sqrt(np.float32(0.3) + steep)
    if style.relief:
        slope = across * np.float32(math.cos(light)) + down * np.float32(math.sin(light))
        # a slope beyond what the slit passes adds no more
        result -= np.float32(style.relief) * slope / np.sqrt(1 + slope * slope * np.float32(0.35))
    else:
        second = canvas.slopes(across)[0] + canvas.slopes(down)[1]
        bend = second * np.float32(away * 0.025)
        result -= bend / np.sqrt(1 + bend * bend * np.float32(20))
    return blurred(result, blur_of(style, away) / canvas.pixel)


def floor(canvas: Canvas, pose: Pose, style: Style) -> Floats:
    """The empty field: even grey that falls off away from the light."""
    base = np.full(canvas.shape, pose.floor, dtype=np.float32)
    reach = np.float32(1 / max(float(np.abs(canvas.x).max()), float(np.abs(canvas.y).max())))
    towards = canvas.x * np.float32(math.cos(pose.tilt_angle))
    towards = towards + canvas.y * np.float32(math.sin(pose.tilt_angle))
    base += towards * (reach * np.float32(pose.tilt))
    base += np.float32(0.02) * canvas.texture(pose.texture, 0.8)
    return base


def add_well(picture: Floats, canvas: Canvas, well: Well, light: float, focus: float) -> None:
    """The edge of the well: a bright arc towards the light, rings beyond it, black opposite."""
    distance = canvas.distance(well.x, well.y)
    towards = (canvas.x - np.float32(well.x)) * np.float32(math.cos(light))
    towards = towards + (canvas.y - np.float32(well.y)) * np.float32(math.sin(light))
    lit = np.clip(np.float32(0.5) + np.float32(0.5) * towards / distance, 0, 1)
    edge = distance - np.float32(well.radius)
    outside = 1 - canvas.step(edge, 0.03)
    turn = canvas.turn(well.x, well.y)
    # rings left by the tool that made the well: random along the radius, slowly changing around
    shift = (turn.astype(np.float32) * np.float32(8 / TURN)) + np.float32(40)
    rings = _lookup(well.rings, shift, edge * np.float32(1 / 0.045) + np.float32(64))
    beyond = lit * np.sqrt(lit) * (np.float32(well.beyond) + np.float32(0.1) * rings)
    beyond *= np.float32(1) / (1 + np.maximum(edge, 0) * np.float32(0.35))
    picture += outside * (beyond - picture)
    # the arc narrows towards the focal plane of the floor
    thickness = well.arc * min(max(0.8 + focus, 0.15), 1.25)
    width = np.float32(thickness) * (np.float32(0.2) + np.float32(0.8) * lit)
    share = (edge + width * np.float32(0.3)) / np.maximum(width, np.float32(1.5 * canvas.pixel))
    bell = np.maximum(1 - share * share, 0)
    arc = np.minimum(bell * (2 - bell) * np.float32(1.15), 1)
    strength = np.clip((lit - np.float32(well.onset)) * np.float32(1.9), 0, 1)
    picture += arc * strength * (np.float32(1.08) - picture)


def _lookup(lattice: Floats, rows: Floats, columns: Floats) -> Floats:
    """Values of a lattice at real places, interpolated along both, repeated beyond its border."""
    low_row, low_column = np.floor(rows), np.floor(columns)
    down, right = rows - low_row, columns - low_column
    row, column = low_row.astype(np.intp) % len(lattice), low_column.astype(np.intp) % len(lattice)
    next_row, next_column = (row + 1) % len(lattice), (column + 1) % len(lattice)
    upper = lattice[row, column] + (lattice[row, next_column] - lattice[row, column]) * right
    lower = lattice[next_row, column]
    lower = lower + (lattice[next_row, next_column] - lower) * right
    return np.asarray(upper + (lower - upper) * down)


def photograph(picture: Floats, style: Style, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture that the camera takes of the light: vignette, noise and JPEG compression."""
    size = len(picture)
    axis = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    corner = axis[None, :] * axis[None, :] + axis[:, None] * axis[:, None]
    light = picture * (1 - np.float32(style.vignette * 0.5) * corner)
    # larger pixels gather more light and are less noisy, as the mean of several small ones is
    noise = rng.standard_normal((size, size), dtype=np.float32)
    light += noise * np.float32(style.noise * size / 256)
    grey = np.clip(light * 255 + np.float32(0.5), 0, 255).astype(np.uint8)
    return compressed(grey, style.quality)


# luminance table of the JPEG standard (ITU-T T.81, table K.1)
_STEPS = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ]
)  # fmt: skip


def compressed(grey: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The picture after JPEG: steps of a camera's picture, finer where it was made smaller."""
    if not quality:
        return grey
    scale = (50 / quality if quality < 50 else 2 - quality / 50) * min(len(grey) / CAMERA, 1)
    steps = np.clip(np.floor(_STEPS * scale + 0.5), 1, 255).astype(int).tolist()
    with io.BytesIO() as file:
        Image.fromarray(grey).save(file, format="JPEG", qtables=[steps])
        return np.array(Image.open(file))
