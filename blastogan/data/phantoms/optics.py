"""Drawing of phantoms in the look of a Hoffman or DIC microscope.

Both turn the slope of the specimen along one direction into grey: one flank of a cell is bright,
the other dark. Everything here is computed on the grid that is asked for; no picture is drawn
large and shrunk.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from blastogan.data.phantom_anatomy import Cells, Doubles, Floats

Window = tuple[slice, slice]


class Canvas:
    """Square picture in the making, in embryo units.

    Attributes:
        tone: Grey, 0 to 1, (size, size).
        grain: Strength of the granularity, 0 to 1, (size, size).
        x: Distance from the embryo's centre to the right, (1, size).
        y: Distance downwards, (size, 1).
        pixel: Side of a pixel.
        light: Unit vector from which the relief is lit.
    """

    def __init__(
        self, size: int, placement: tuple[float, float, float], light: float, blur: float
    ) -> None:
        left, top, radius = placement
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size
        self.x: Floats = ((axis - left) / radius).astype(np.float32)[None, :]
        self.y: Floats = ((axis - top) / radius).astype(np.float32)[:, None]
        self.pixel = 1 / (size * radius)
        self.size = size
        self.light = (math.cos(light), math.sin(light))
        self.blur = blur
        self.tone: Floats = np.full((size, size), 0.5, dtype=np.float32)
        self.grain: Floats = np.zeros((size, size), dtype=np.float32)

    def distance(self, x: float = 0.0, y: float = 0.0) -> Floats:
        """Distance of each pixel from a point, never quite 0."""
        return np.asarray(np.hypot(self.x - x, self.y - y) + 1e-6, dtype=np.float32)

    def lit(self, x: float = 0.0, y: float = 0.0) -> Floats:
        """How far each pixel lies towards the light, seen from a point: cosine, -1 to 1."""
        towards = (self.x - x) * self.light[0] + (self.y - y) * self.light[1]
        return np.asarray(towards / self.distance(x, y), dtype=np.float32)

    def width(self, softness: float) -> float:
        """Width of an edge: as soft as the focus makes it, never below what the grid can hold."""
        return max(softness * self.blur, 1.2 * self.pixel)

    def disc(self, distance: Floats, softness: float) -> Floats:
        """Coverage of the region where the signed `distance` from its edge is negative."""
        return np.asarray(np.clip(0.5 - distance / self.width(softness), 0, 1), dtype=np.float32)

    def line(self, distance: Floats, softness: float) -> Floats:
        """Bell-shaped line where `distance` is 0, paler where the grid is too coarse for it."""
        width = self.width(softness)
        height = softness * self.blur / width
        return np.asarray(height * np.exp(-((distance / width) ** 2)), dtype=np.float32)

    def slope(self, height: Floats) -> Floats:
        """Slope of a surface towards the light, per embryo unit."""
        result = np.zeros_like(height)
        step = 2 * self.pixel
        result[:, 1:-1] = (height[:, :-2] - height[:, 2:]) * (self.light[0] / step)
        result[1:-1] += (height[:-2] - height[2:]) * (self.light[1] / step)
        return result

    def paint(
        self, cells: Cells, *, relief: float, membrane: float, opacity: float, grain: float
    ) -> None:
        """Paint cells one over the other, as low domes with a membrane.

        Args:
            cells: What to paint, in this order.
            relief: Grey between the middle and the bright flank of a cell.
            membrane: Grey by which its outline is darker.
            opacity: Of the cells, 0 to 1.
            grain: Strength of their granularity, 0 to 1.
        """
        if not len(cells):
            return
        cover, shade, tops, lefts = self._domes(cells, relief, membrane)
        cover *= opacity
        side = cover.shape[1]
        for index, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            here, there = self._overlap(top, left, side)
            part = cover[index][there]
            tone, grains = self.tone[here], self.grain[here]
            tone += part * (shade[index][there] - tone)
            grains += part * (grain - grains)

    def _overlap(self, top: int, left: int, side: int) -> tuple[Window, Window]:
        """The part of a box that lies on the canvas: its window there, and within the box."""
        ends = [
            (min(max(start, 0), self.size), min(max(start + side, 0), self.size))
            for start in (top, left)
        ]
        (first_row, last_row), (first_column, last_column) = ends
        return (
            (slice(first_row, last_row), slice(first_column, last_column)),
            (
                slice(first_row - top, last_row - top),
                slice(first_column - left, last_column - left),
            ),
        )

    def _domes(
        self, cells: Cells, relief: float, membrane: float
    ) -> tuple[Floats, Floats, list[int], list[int]]:
        """Coverage and grey of each cell in its own box (N, side, side); the boxes' corners."""

        def column(values: Doubles | Floats) -> Floats:
            return values.astype(np.float32)[:, None, None]

        width = self.width(0.025)
        along = np.maximum(cells.along, 0.6 * self.pixel)
        across = np.maximum(cells.across, 0.6 * self.pixel)
        reach = np.hypot(along, np.maximum(across, along**2 * cells.bend / 2)).max() + width
        side = 2 * math.ceil(reach / self.pixel) + 1
        lefts = np.floor((cells.x - self.x[0, 0]) / self.pixel).astype(int) - side // 2
        tops = np.floor((cells.y - self.y[0, 0]) / self.pixel).astype(int) - side // 2
        box = (np.arange(side) * self.pixel).astype(np.float32)
        dx = column(self.x[0, 0] + lefts * self.pixel - cells.x) + box[None, None, :]
        dy = column(self.y[0, 0] + tops * self.pixel - cells.y) + box[None, :, None]
        cosine, sine = column(np.cos(cells.angle)), column(np.sin(cells.angle))
        forth = dx * cosine + dy * sine
        u = forth / column(along)
        v = dy * cosine - dx * sine + forth * forth * column(cells.bend / 2)
        v /= column(across)
        square = u * u + v * v
        edge = (np.sqrt(square) - 1) * column(across)
        cover: Floats = np.clip(0.5 - edge / width, 0, 1)
        towards_u = cosine * self.light[0] + sine * self.light[1]
        towards_v = cosine * self.light[1] - sine * self.light[0]
        shade = np.asarray(u * towards_u + v * towards_v, dtype=np.float32)
        shade *= relief * (0.3 + 0.7 * np.minimum(square, 1))
        shade += column(cells.tone)
        shade -= membrane * np.maximum(1 - np.abs(edge + 0.3 * width) / width, 0)
        return cover, shade, tops.tolist(), lefts.tolist()

    def facets(self, centres: Doubles, warp: Floats) -> Floats:
        """Domes of the polygons nearest to each of the `centres` (N, 2), 0 at their borders.

        Args:
            centres: Centres of the polygons, (N, 2).
            warp: Shift (size, size) by which the straight borders are bent.
        """
        across, down = self.x + warp, self.y + warp.T
        nearest: Floats = np.full(self.tone.shape, 9, dtype=np.float32)
        second = nearest
        for x, y in centres.astype(np.float32):
            distance = np.sqrt((across - x) ** 2 + (down - y) ** 2)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
        return np.asarray(1 - np.exp((nearest - second) / self.width(0.07)), dtype=np.float32)

    def texture(self, lattice: Floats, extent: float) -> Floats:
        """Bilinear interpolation of random numbers laid over the square -`extent` to `extent`."""
        count = len(lattice) - 1
        rows, row_share = self._lattice_places(self.y[:, 0], count, extent)
        columns, column_share = self._lattice_places(self.x[0], count, extent)
        band = lattice[rows] + (lattice[rows + 1] - lattice[rows]) * row_share[:, None]
        return np.asarray(
            band[:, columns] + (band[:, columns + 1] - band[:, columns]) * column_share
        )

    @staticmethod
    def _lattice_places(
        axis: Floats, count: int, extent: float
    ) -> tuple[NDArray[np.int64], Floats]:
        place = np.clip((axis / extent + 1) * (count / 2), 0, count - 1e-3)
        low = place.astype(np.int64)
        return low, (place - low).astype(np.float32)
