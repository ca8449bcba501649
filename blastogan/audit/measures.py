"""Measures of an image: its light and colour, and what is in the frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blastogan.data.images.framing import (
    Circle,
    find_embryo,
    one_thread,
    texture_map,
    texture_strength,
)

_SIDE = 256
"""Shorter side in pixels, about, of the small copy in which embryos are sought."""

_COLOUR_SIDE = 400
"""Longer side in pixels of the copy in which drawn lines are sought."""

_DIAMETER = 96
"""Diameter in pixels to which an embryo is shrunk before its sharpness is measured."""

_PURE = 90
"""Least difference of the channels of a drawn line, once the cast is removed."""

_COLOURFUL = 60
"""Least difference of the channels of a pixel of another colour than the light."""

_EMPTY = 2.5
"""Strength of texture that the strongest twentieth of an image with an embryo exceeds."""

_LEAST_RADIUS = 4
"""Least radius of the larger of two embryos on the map of texture, in pixels."""

_Floats = NDArray[np.float32]


class Measures(NamedTuple):
    """Measures of one image; tones are 0 to 255.

    Attributes:
        empty: Whether no embryo was found, nor much texture, which one in part would have.
        outside: How far its circle reaches beyond the frame, in units of its radius.
        sharpness: Ratio of its fine structure, of 1/100 of its diameter, to structure four times
            as coarse; 0 without an embryo.
        two: Whether there are two round areas of texture of similar size.
        drawn: Share of pixels of a pure colour, as of a crosshair or coloured text.
        colourful: Share of pixels of other colours than the light.
        flat: Share of pixels of the most frequent grey.
        tint: Medians of red, green and blue; three times that of grey for a grey image.
        contrast: Range of greys from the 10th to the 90th percentile.
    """

    empty: bool
    outside: float
    sharpness: float
    two: bool
    drawn: float
    colourful: float
    flat: float
    tint: tuple[float, float, float]
    contrast: float

    @property
    def light(self) -> float:
        """Lightness of the tint, 0 to 255."""
        return sum(self.tint) / 3


class ColourSample:
    """Every so many pixels of the planes of an image, which come one by one."""

    def __init__(self) -> None:
        self._planes: dict[str, NDArray[np.uint8]] = {}

    def add(self, band: str, plane: Image.Image) -> None:
        """Take the pixels of one plane; without averages, which would dilute thin lines."""
        step = -(-max(plane.size) // _COLOUR_SIDE)
        size = (-(-plane.width // step), -(-plane.height // step))
        self._planes[band] = np.asarray(plane.resize(size, Image.Resampling.NEAREST))

    @property
    def planes(self) -> Mapping[str, NDArray[np.uint8]]:
        """The sampled planes by band."""
        return self._planes


def measure_image(grey: Image.Image, sample: ColourSample) -> Measures:
    """Measure an image by its upright grey plane and a sample of its colours."""
    small = np.asarray(grey.reduce(max(1, round(min(grey.size) / _SIDE))))
    counts = np.bincount(small.ravel(), minlength=256)
    low, high = _quantiles(counts, 0.1, 0.9)
    circle = find_embryo(small)
    drawn, colourful, tint = _colours(sample)
    with one_thread():
        sharpness = _sharpness(small, circle) if circle else 0.0
        strength = texture_strength(small)
        two = min(small.shape) >= 8 and _has_two(texture_map(strength))
    return Measures(
        empty=circle is None and float(np.percentile(strength, 95)) < _EMPTY,
        outside=_outside(small.shape, circle) if circle else 0.0,
        sharpness=sharpness,
        two=two,
        drawn=drawn,
        colourful=colourful,
        flat=float(counts.max() / counts.sum()),
        tint=tint,
        contrast=high - low,
    )


def _outside(shape: tuple[int, ...], circle: Circle) -> float:
    x, y, radius = circle
    reach = radius + max(-x, -y, x - shape[1], y - shape[0])
    return float(max(reach / radius, 0.0))


def _colours(sample: ColourSample) -> tuple[float, float, tuple[float, float, float]]:
    """`Measures.drawn`, `Measures.colourful` and `Measures.tint`."""
    medians = []
    for plane in sample.planes.values():
        medians += _quantiles(np.bincount(plane.ravel(), minlength=256), 0.5)
    planes = [plane.astype(np.float32) for plane in sample.planes.values()]
    if len(planes) != 3:
        return 0.0, 0.0, (medians[0],) * 3
    tint = (medians[0], medians[1], medians[2])
    light = sum(tint) / 3
    cast_free = [plane * (light / max(tone, 1.0)) for plane, tone in zip(planes, tint, strict=True)]
    span, most = _span(planes)
    span_free, most_free = _span(cast_free)
    # pure both as it is, and for the light: shadows of a blue image are a pure blue
    drawn = (span > 0.7 * most) & (span_free > 0.75 * most_free) & (span_free > _PURE)
    if max(tint) - min(tint) > 0.3 * max(tint):
        drawn &= planes[int(np.argmax(tint))] < most
    return float(drawn.mean()), float((span_free > _COLOURFUL).mean()), tint


def _quantiles(counts: NDArray[np.intp], *shares: float) -> list[float]:
    """Tones below which these shares of the pixels are, by the counts of the tones."""
    below = np.cumsum(counts)
    return [float(np.searchsorted(below, share * below[-1])) for share in shares]


def _span(planes: list[_Floats]) -> tuple[_Floats, _Floats]:
    """Largest difference of the channels of each pixel, and its largest channel."""
    most = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    least = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    return most - least, most


def _sharpness(small: NDArray[np.uint8], circle: Circle) -> float:
    """`Measures.sharpness`: 95th percentiles of differences of Gaussians within the embryo."""
    x, y, radius = circle
    rows, columns = small.shape
    left, top = max(0, int(x - radius)), max(0, int(y - radius))
    right, bottom = min(columns, int(x + radius) + 1), min(rows, int(y + radius) + 1)
    cut = small[top:bottom, left:right].astype(np.float32)
    scale = min(1.0, _DIAMETER / (2 * radius))
    if scale < 1:
        # at least one pixel is left of a narrow strip
        size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
        cut = np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA), np.float32)
    down, right_ = np.mgrid[: cut.shape[0], : cut.shape[1]].astype(np.float32) + 0.5
    # without the rim, where the bright ring of a well may shine through
    inside = np.hypot(right_ / scale + left - x, down / scale + top - y) < 0.92 * radius
    fine, medium, coarse, coarsest = (
        np.asarray(cv2.GaussianBlur(cut, (0, 0), sigma))[inside] for sigma in (0.7, 1.4, 2.8, 5.6)
    )
    if not fine.size:
        return 0.0
    strength = float(np.percentile(np.abs(coarse - coarsest), 95))
    return float(np.percentile(np.abs(fine - medium), 95)) / max(strength, 1e-3)


def _has_two(texture: _Floats) -> bool:
    """Whether a map of texture shows two discs of similar size that hardly overlap."""
    low, high = float(texture.min()), float(texture.max())
    if high - low < 1e-3:
        return False
    levels = ((texture - low) * (255 / (high - low))).astype(np.uint8)
    _, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    # with their holes: the cavity of an embryo has little texture
    cv2.drawContours(filled, outlines, -1, 1, -1)
    depth = cv2.distanceTransform(np.pad(filled, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    discs = []
    rows, columns = np.mgrid[: depth.shape[0], : depth.shape[1]]
    for _ in range(2):
        row, column = divmod(int(depth.argmax()), depth.shape[1])
        radius = float(depth[row, column])
        discs.append((column, row, radius))
        depth = np.where(np.hypot(columns - column, rows - row) > 1.5 * radius, depth, 0)
    (x1, y1, first), (x2, y2, second) = discs
    apart = float(np.hypot(x2 - x1, y2 - y1)) / max(first + second, 1e-6)
    share = np.pi * (first**2 + second**2) / max(int(filled.sum()), 1)
    within = all(
        min(x, y, depth.shape[1] - 1 - x, depth.shape[0] - 1 - y) > 0.6 * radius
        for x, y, radius in discs
    )
    alike = second > 0.7 * first and first >= _LEAST_RADIUS
    return bool(alike and apart > 0.85 and share > 0.75 and within)
