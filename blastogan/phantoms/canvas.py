"""The grid that phantoms are drawn on, and its drawing primitives.

Pixels go only through operations that every processor rounds alike (basic arithmetic, square
roots, comparisons, table look-ups), so that a picture does not depend on the machine.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from blastogan.phantoms.parts import TURN, Cells, Doubles, Floats

Window = tuple[slice, slice]

# odd polynomial for the arc tangent on -1 to 1, Abramowitz and Stegun 4.4.49, error below 1e-5
_ARC = (0.9998660, -0.3302995, 0.1801410, -0.0851330, 0.0208351)


class Canvas:
    """Square grid of points in embryo units.

    Args:
        size: Points along a side.
        placement: Centre x, y and outer radius of the embryo as shares of the side.

    Attributes:
        x: Distance from the embryo's centre to the right, (1, width).
        y: Distance downwards, (height, 1).
        pixel: Distance of neighbouring points.
    """

    def __init__(self, size: int, placement: tuple[float, float, float]) -> None:
        left, top, radius = placement
        axis = (np.arange(size) + 0.5) / size
        self.x: Floats = ((axis - left) / radius).astype(np.float32)[None, :]
        self.y: Floats = ((axis - top) / radius).astype(np.float32)[:, None]
        self.pixel = 1 / (size * radius)

    @property
    def shape(self) -> tuple[int, int]:
        """Points down and across."""
        return len(self.y), self.x.shape[1]

    def zeros(self) -> Floats:
        """A picture of zeros."""
        return np.zeros(self.shape, dtype=np.float32)

    def window(self, x: float, y: float, reach: float) -> Window:
        """Rows and columns of the square of half side `reach` about a point."""
        return (
            slice(*np.searchsorted(self.y[:, 0], (y - reach, y + reach)).tolist()),
            slice(*np.searchsorted(self.x[0], (x - reach, x + reach)).tolist()),
        )

    def part(self, window: Window) -> Canvas:
        """The canvas of a window."""
        part = object.__new__(Canvas)
        part.x, part.y, part.pixel = self.x[:, window[1]], self.y[window[0]], self.pixel
        return part

    def moved(self, x: float, y: float) -> Canvas:
        """The same grid, seen from another point."""
        other = object.__new__(Canvas)
        other.x, other.y = self.x - np.float32(x), self.y - np.float32(y)
        other.pixel = self.pixel
        return other

    def distance(self, x: float = 0.0, y: float = 0.0) -> Floats:
        """Distance of each point from one, never quite 0."""
        across, down = self.x - np.float32(x), self.y - np.float32(y)
        distance: Floats = np.sqrt(across * across + down * down)
        distance += np.float32(1e-6)
        return distance

    def turn(self, x: float = 0.0, y: float = 0.0) -> NDArray[np.intp]:
        """Direction in which each point lies from one, from 0 to `TURN` - 1."""
        across, down = self.x - np.float32(x), self.y - np.float32(y)
        wide, high = np.abs(across), np.abs(down)
        share = np.minimum(wide, high)
        share /= np.maximum(np.maximum(wide, high), np.float32(1e-6))
        square = share * share
        angle = np.full(share.shape, _ARC[-1], dtype=np.float32)
        for factor in _ARC[-2::-1]:
            angle *= square
            angle += np.float32(factor)
        angle *= share
        angle *= np.float32(TURN / (2 * math.pi))
        np.subtract(np.float32(TURN / 4), angle, out=angle, where=high > wide)
        np.subtract(np.float32(TURN / 2), angle, out=angle, where=across < 0)
        np.negative(angle, out=angle, where=down < 0)
        turn = angle.astype(np.intp)
        turn &= TURN - 1
        return turn

    def step(self, distance: Floats, softness: float = 0.0) -> Floats:
        """Coverage of the region where the signed `distance` from its edge is negative."""
        share: Floats = distance * np.float32(-1 / max(softness, 1.5 * self.pixel))
        share += np.float32(0.5)
        np.clip(share, 0, 1, out=share)
        result: Floats = share * np.float32(-2)
        result += np.float32(3)
        result *= share
        result *= share
        return result

    def line(self, distance: Floats, width: float) -> Floats:
        """Bell-shaped line where `distance` is 0, paler where the grid is too coarse for it."""
        wide = max(width, 1.5 * self.pixel)
        bell: Floats = distance * np.float32(1 / wide)
        bell *= bell
        np.subtract(np.float32(1), bell, out=bell)
        np.maximum(bell, 0, out=bell)
        bell *= bell
        bell *= np.float32(width / wide)
        return bell

    def slopes(self, height: Floats) -> tuple[Floats, Floats]:
        """Slope of a surface to the right and downwards, per embryo unit."""
        across, down = np.zeros_like(height), np.zeros_like(height)
        scale = np.float32(0.5 / self.pixel)
        np.subtract(height[:, 2:], height[:, :-2], out=across[:, 1:-1])
        np.subtract(height[2:], height[:-2], out=down[1:-1])
        across *= scale
        down *= scale
        return across, down

    def texture(self, lattice: Floats, cell: float, shift: float = 0.0) -> Floats:
        """Random numbers on a lattice, smoothly interpolated, repeated beyond its border.

        Args:
            lattice: The numbers, (side, side).
            cell: Distance of neighbours; where the grid is too coarse for it, the texture is paler.
            shift: Place of the lattice.
        """
        # a cell below two pixels averages out within one
        strength = min(1.0, 0.5 * cell / self.pixel) ** 2
        rows, row_share = _places(self.y[:, 0], cell, shift, len(lattice))
        columns, column_share = _places(self.x[0], cell, shift * 1.7, len(lattice))
        following = (rows + 1) % len(lattice), (columns + 1) % len(lattice)
        band = lattice[rows] + (lattice[following[0]] - lattice[rows]) * row_share[:, None]
        near = band[:, columns]
        near += (band[:, following[1]] - near) * column_share
        near *= np.float32(strength)
        return near


def _places(axis: Floats, cell: float, shift: float, count: int) -> tuple[NDArray[np.intp], Floats]:
    place = axis * np.float32(1 / cell) + np.float32(shift + 512)
    low = np.floor(place)
    share = place - low
    share = share * share * (np.float32(3) - np.float32(2) * share)
    return low.astype(np.intp) % count, share


def around(values: Doubles, turn: NDArray[np.intp]) -> Floats:
    """Values of a table of `TURN` entries in the directions of all points."""
    return values.astype(np.float32).take(turn)


def blurred(image: Floats, sigma: float) -> Floats:
    """Near-Gaussian blur with a standard deviation of `sigma` points.

    Kernels (w, 1 - 2 w, w) are applied at doubling distances; the border is extended.
    """
    left, step = sigma * sigma, 1
    while left > 1e-4 and step < min(image.shape):
        weight = min(0.25, left / (2 * step * step))
        left -= 2 * weight * step * step
        for axis in (0, 1):
            image = _spread(image, step, np.float32(weight), axis)
        # a coarse step only after finer ones have smoothed enough for it
        step = step * 2 if left > 1.5 * step * step else step
    return image


def _spread(image: Floats, step: int, weight: np.float32, axis: int) -> Floats:
    moved = np.moveaxis(image, axis, 0)
    result = np.empty_like(image)
    out = np.moveaxis(result, axis, 0)
    np.multiply(moved, np.float32(1) - 2 * weight, out=out)
    weighted = moved * weight
    out[step:] += weighted[:-step]
    out[:step] += weighted[:1]
    out[:-step] += weighted[step:]
    out[-step:] += weighted[-1:]
    return result


class Clump:
    """Overlapping cells: at each point the highest is visible.

    Attributes:
        depth: Distance to the nearest outline, positive within a cell.
        height: Optical thickness.
        tone: Grey of the cell that is seen.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.depth: Floats = np.full(canvas.shape, -1, dtype=np.float32)
        self.height = canvas.zeros()
        self.tone = canvas.zeros()

    def add(self, cells: Cells, roundness: float = 0.2) -> Clump:
        """Add cells.

        Args:
            cells: Ellipsoids; those of negative height are bubbles.
            roundness: How gently they rise at their outline: 0 as steeply as spheres.
        """
        rise = np.float32(roundness)
        top = np.float32(1 / (math.sqrt(1 + roundness) - math.sqrt(roundness)))
        columns = zip(*(getattr(cells, name).tolist() for name in vars(cells)), strict=True)
        for x, y, along, across, angle, height, tone in columns:
            # cells smaller than a point keep what they cover
            wide, high = max(along, 0.7 * self.canvas.pixel), max(across, 0.7 * self.canvas.pixel)
            window = self.canvas.window(x, y, wide + 2 * self.canvas.pixel)
            part = self.canvas.part(window)
            if not part.x.size or not part.y.size:
                continue
            right, down = part.x - np.float32(x), part.y - np.float32(y)
            cosine, sine = math.cos(angle), math.sin(angle)
            u = right * np.float32(cosine / wide) + down * np.float32(sine / wide)
            v = down * np.float32(cosine / high) - right * np.float32(sine / high)
            square = u * u + v * v
            inside = np.maximum(np.float32(1) - square, 0)
            dome = (np.sqrt(inside + rise) - np.sqrt(rise)) * (top * np.float32(height))
            here = self.height[window]
            seen = np.abs(dome) > here if height < 0 else dome > here
            np.copyto(here, dome, where=seen)
            np.copyto(self.tone[window], np.float32(tone), where=seen)
            depth = (np.float32(1) - np.sqrt(square)) * np.float32(high)
            np.maximum(self.depth[window], depth, out=self.depth[window])
        return self

    def cover(self) -> Floats:
        """Coverage by the cells."""
        return self.canvas.step(-self.depth)
