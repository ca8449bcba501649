"""Framing: the square of a micrograph that is shown, at the centre or around the embryo."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blastogan.errors import UserError, check_choice

CropKind = Literal["centre", "embryo"]

MAX_MARGIN = 1.0
"""Largest margin around an embryo, in units of its radius."""

_VERSION = 1
"""Version of `find_embryo` and `Crop.box`; raised by every change that moves a crop."""

_MAP_SIDE = 64
_RADII = np.geomspace(0.18, 0.52, 14)
"""Searched radii in shorter sides of the image: embryos of 0.2 to 0.5, with slack."""

_MIN_SHARE = 0.35
"""Smallest share of the variance of the texture that the disc of an embryo explains."""

_MIN_WITHIN = 0.6
"""Smallest part of a disc within the image: an embryo may be cut, a corner is none."""

_Floats = NDArray[np.float32]


class Circle(NamedTuple):
    """A circle in pixels from the upper left corner; the centre of the first pixel is 0.5."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Crop:
    """The square that is cut out of an image.

    Attributes:
        kind: ``centre`` for the largest square in the middle, ``embryo`` for a square around the
            embryo's circle.
        margin: Space around the circle, in units of its radius, 0 to `MAX_MARGIN`; used by
            ``embryo`` only.

    Raises:
        UserError: If an attribute is out of range.
    """

    kind: CropKind = "centre"
    margin: float = 0.1

    def __post_init__(self) -> None:
        check_choice("crop", self.kind, CropKind)
        if not 0 <= self.margin <= MAX_MARGIN:
            raise UserError(
                f"margin around the embryo is {self.margin}: expected 0 to {MAX_MARGIN:g}, "
                "in units of the embryo's radius"
            )

    def box(self, width: int, height: int, circle: Circle | None = None) -> tuple[int, int, int]:
        """Left, top and side of the square, in whole pixels, always within the image.

        Without the circle of an embryo, and for ``centre``, it is central.
        """
        side = min(width, height)
        if self.kind == "centre" or circle is None:
            return (width - side) // 2, (height - side) // 2, side
        side = max(1, min(side, math.ceil(2 * circle.radius * (1 + self.margin))))
        left = min(max(round(circle.x - side / 2), 0), width - side)
        top = min(max(round(circle.y - side / 2), 0), height - side)
        return left, top, side

    def key(self) -> str:
        """Text that is equal for two crops exactly if they cut out the same squares."""
        return "centre" if self.kind == "centre" else f"embryo-{_VERSION}-{float(self.margin)!r}"


def find_embryo(grey: NDArray[np.uint8]) -> Circle | None:
    """Outer circle of the embryo, the outside of the zona pellucida.

    An embryo has texture in all directions, the edge of a well and the rings around it in one,
    and the medium none. At each place the smaller eigenvalue of the structure tensor (Shi and
    Tomasi 1994) is computed, and the disc is sought that best separates these values by Otsu's
    criterion (1979), the variance between inside and outside. Cells that have left the zona, and
    specks on the floor, hardly move a disc.

    Args:
        grey: Image (H, W), 0 to 255, of any size.

    Returns:
        The circle; ``None`` if no disc explains enough of the texture.

    Raises:
        UserError: If `grey` has another shape or type.
    """
    if grey.ndim != 2 or grey.dtype != np.uint8:
        raise UserError(
            f"got an image of {grey.dtype} and shape {grey.shape}: expected uint8 (H, W)"
        )
    if min(grey.shape) < 8:
        return None
    with one_thread():
        texture = texture_map(texture_strength(grey))
        found = _best_disc(texture)
    if found is None:
        return None
    x, y, radius = _refined(texture, *found)
    rows, columns = texture.shape
    height, width = grey.shape
    return Circle(
        (x + 0.5) * width / columns,
        (y + 0.5) * height / rows,
        radius * max(width, height) / max(rows, columns),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Restrict OpenCV to the calling thread, as its other threads do not survive a fork."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def texture_strength(grey: NDArray[np.uint8]) -> _Floats:
    """Strength of the undirected texture, in greys, on a map of up to 128 pixels a side."""
    import cv2

    scale = _MAP_SIDE / max(grey.shape)
    columns, rows = (max(1, round(side * scale)) for side in grey.shape[::-1])
    method = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    shrunken = cv2.resize(grey, (2 * columns, 2 * rows), interpolation=method)
    tone = cv2.GaussianBlur(shrunken.astype(np.float32), (0, 0), 0.8)
    along_x = cv2.Sobel(tone, cv2.CV_32F, 1, 0, scale=1 / 8)
    along_y = cv2.Sobel(tone, cv2.CV_32F, 0, 1, scale=1 / 8)
    xx, xy, yy = (
        cv2.GaussianBlur(product, (0, 0), 2.0)
        for product in (along_x * along_x, along_x * along_y, along_y * along_y)
    )
    smaller = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
    return np.asarray(np.sqrt(np.maximum(smaller, 0)), np.float32)


def texture_map(strength: _Floats) -> _Floats:
    """Logarithm of `texture_strength`, halved in size, of mean 0 and variance 1; else zeros."""
    import cv2

    # texture below a share of the strongest, or below rounding to 8 bits, is medium
    floor = max(0.3, 0.2 * float(np.percentile(strength, 95)))
    fine = np.log(strength + floor)
    rows, columns = (side // 2 for side in strength.shape)
    texture = np.asarray(cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA))
    # so that the few most granular cells do not outweigh the rest of the embryo
    return _standardised(np.minimum(texture, np.percentile(texture, 90)))


def _standardised(texture: _Floats) -> _Floats:
    texture = texture - texture.mean()
    deviation = float(texture.std())
    return np.asarray(texture / deviation if deviation > 1e-3 else texture * 0, np.float32)


def _best_disc(texture: _Floats) -> tuple[float, float, float] | None:
    """Centre and radius of the best disc on the grid of the map; None if it explains too little."""
    import cv2

    best = _MIN_SHARE
    found = None
    ones = np.ones_like(texture)
    for radius in _RADII * min(texture.shape):
        reach = math.ceil(radius)
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
        total, area = (
            np.asarray(cv2.filter2D(values, -1, disc, borderType=cv2.BORDER_CONSTANT), np.float32)
            for values in (texture, ones)
        )
        share = _share(total, area, texture.size)
        share[area < _MIN_WITHIN * disc.sum()] = 0
        place = int(share.argmax())
        if share.flat[place] > best:
            best = float(share.flat[place])
            row, column = divmod(place, texture.shape[1])
            found = float(column), float(row), float(radius)
    return found


def _share(total: _Floats, area: _Floats, size: int) -> _Floats:
    """Share of the variance between a disc, over which a map sums to `total`, and the rest."""
    rest = np.maximum(size - area, 1)
    return np.where(total > 0, total * total / (np.maximum(area, 1) * rest), 0)


def _refined(texture: _Floats, x: float, y: float, radius: float) -> tuple[float, float, float]:
    """Improve a disc by steps of fractions of a pixel of the map."""
    # clipped at the median, so that the faint texture of the zona weighs as much as the cells
    rows, columns = np.mgrid[: texture.shape[0], : texture.shape[1]].astype(np.float32)
    median = np.median(texture[np.hypot(columns - x, rows - y) < radius])
    texture = _standardised(np.minimum(texture, median))

    def quality(x: float, y: float, radius: float) -> float:
        disc = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)
        return float(_share((texture * disc).sum(), disc.sum(), texture.size))

    best = [x, y, radius]
    highest = quality(x, y, radius)
    for step in (1.0, 0.5, 0.25):
        for axis in (0, 1, 2) * 4:
            for move in (step, -step):
                moved = [*best]
                moved[axis] += move
                value = quality(*moved)
                if value > highest:
                    best, highest = moved, value
    return best[0], best[1], best[2]
