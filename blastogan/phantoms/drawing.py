"""Drawing of a phantom's anatomy: optical thickness and grey of each part, at its depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blastogan.phantoms.anatomy import Anatomy
from blastogan.phantoms.canvas import Canvas, Clump, around, blurred
from blastogan.phantoms.parts import Floats, Rim, Sheet

SHEET_SIZE = 96
"""Side of the grid on which cells en face are laid out; they are seen through the embryo."""

GRAIN = 0.024
"""Distance of neighbouring granules of the cytoplasm."""


def reach_of(anatomy: Anatomy) -> float:
    """Distance from its centre within which an embryo is visible."""
    return max([1.22, *(math.hypot(rim.x, rim.y) + 1.1 * rim.radius for rim in anatomy.rims)])


@dataclass
class Layer:
    """The parts at one depth.

    Attributes:
        depth: Height over the middle of the embryo, in embryo units.
        height: Optical thickness, (height, width).
        tone: Grey that it adds; negative where it absorbs light.
    """

    depth: float
    height: Floats
    tone: Floats


class Embryo:
    """An embryo on a canvas, its centre in the origin: coverage and appearance of its parts."""

    def __init__(self, canvas: Canvas, anatomy: Anatomy) -> None:
        self.canvas = canvas
        self.anatomy = anatomy
        self.radius = self._normal_radius()
        self.clump = Clump(canvas).add(anatomy.inner)
        self.mass = Clump(canvas).add(anatomy.mass)
        self.rims = [self._placed(rim) for rim in anatomy.rims]
        self.zona = self._zona()

    def regions(self) -> dict[str, Floats]:
        """Coverage of the parts by their names in `MASKS`, 0 to 1, disjoint, (height, width)."""
        te, inside = self.canvas.zeros(), self.canvas.zeros()
        for rim in self.rims:
            # where the hatching part meets the rest, one wall is seen through the other
            te = np.maximum(te, rim.cover)
            inside = np.maximum(inside, rim.inside)
        if len(self.rims) > 1:
            te *= 1 - inside
        icm = np.minimum(self.clump.cover(), inside)
        cavity = inside - icm
        if len(self.anatomy.mass):
            x, y, radius = self.anatomy.cavity.tolist()
            cavity *= self.canvas.step(self.canvas.distance(x, y) - np.float32(radius))
            cavity *= 1 - self.mass.cover()
        zona = self.zona * (1 - np.maximum(te, inside))
        return {"zona": zona, "te": te, "icm": icm, "cavity": cavity}

    def layers(self, sheet_sigmas: Sequence[float], depth: float) -> list[Layer]:
        """Optical thickness and grey of the embryo, by depth.

        Args:
            sheet_sigmas: Blur of the lower and upper trophectoderm, in embryo units.
            depth: Height of the inner cell mass over the middle.
        """
        canvas, anatomy = self.canvas, self.anatomy
        middle = Layer(0.0, canvas.zeros(), canvas.zeros())
        inner = Layer(depth, canvas.zeros(), canvas.zeros())
        grain = self._grain()
        self._add_zona(middle, grain)
        if self.rims:
            middle.height += np.float32(0.1) * np.maximum(1 - self.radius * self.radius, 0)
        inside = canvas.step(self.radius - np.float32(1 - anatomy.zona))
        if self.rims:
            for rim in self.rims:
                rim.add_to(middle, grain)
            inside = self.rims[0].inside
            self._add_sheets(middle, inside, sheet_sigmas)
        if self.rims or anatomy.zona:
            middle.height += inside * grain * np.float32(0.0025)
            middle.tone += inside * np.float32(anatomy.clarity)
        self._add_cells(inner, inside, grain)
        return [middle, inner]

    def _placed(self, rim: Rim) -> RimOnCanvas:
        main = rim is self.anatomy.rims[0]
        # only the embryo itself has an outline that is no circle
        radius = self.radius if main else self.canvas.distance(rim.x, rim.y)
        return RimOnCanvas(self.canvas, rim, radius, self.canvas.turn(rim.x, rim.y))

    def _normal_radius(self) -> Floats:
        """Distance from the centre in units of the outline's radius in that direction."""
        x, y, r = self.canvas.x, self.canvas.y, self.canvas.distance()
        square = r * r
        (second, third), (first_phase, second_phase) = self.anatomy.outline.tolist()
        wide, high = x * x, y * y
        double = (wide - high) * np.float32(second * math.cos(first_phase))
        double -= x * y * np.float32(2 * second * math.sin(first_phase))
        triple = x * (wide - 3 * high) * np.float32(third * math.cos(second_phase))
        triple -= y * (3 * wide - high) * np.float32(third * math.sin(second_phase))
        return np.asarray(r / (1 + double / square + triple / (square * r)))

    def _zona(self) -> Floats:
        thickness = self.anatomy.zona
        if not thickness:
            return self.canvas.zeros()
        cover = self.canvas.step(self.radius - 1)
        cover *= self.canvas.step(np.float32(1 - thickness) - self.radius)
        for rim in self.rims[1:]:
            # torn open where the embryo leaves it
            cover *= 1 - rim.outside
        return cover

    def _grain(self) -> Floats:
        texture = self.anatomy.texture
        fine = self.canvas.texture(texture, GRAIN, shift=0.3)
        fine += np.float32(0.7) * self.canvas.texture(texture[::-1], GRAIN * 0.55, shift=17.1)
        fine += np.float32(0.7) * self.canvas.texture(texture.T, GRAIN * 0.35, shift=5.7)
        return fine

    def _add_zona(self, layer: Layer, grain: Floats) -> None:
        canvas, thickness = self.canvas, self.anatomy.zona
        if self.rims or thickness:
            # light that the whole embryo bends out of the lens
            layer.tone -= np.float32(0.05) * canvas.line(np.maximum(self.radius - 1, 0), 0.12)
        if not thickness:
            return
        across = (self.radius - np.float32(1 - thickness / 2)) * np.float32(2 / thickness)
        bulge = np.maximum(1 - across * across, 0)
        layer.height += self.zona * bulge * np.float32(thickness * 0.45)
        layer.height += self.zona * grain * np.float32(0.003)
        layer.tone -= self.zona * np.float32(0.05)
        torn = self.zona if len(self.rims) > 1 else np.float32(1)
        layer.tone -= torn * np.float32(0.09) * canvas.line(self.radius - 1, 0.022)
        edge = canvas.line(self.radius - np.float32(1 - thickness), 0.018)
        layer.tone -= torn * np.float32(0.2) * edge

    def _add_sheets(self, layer: Layer, inside: Floats, sigmas: Sequence[float]) -> None:
        wall = self.anatomy.rim_radius
        axis = ((np.arange(SHEET_SIZE) + 0.5) * (2 * wall / SHEET_SIZE) - wall).astype(np.float32)
        pitch = 2 * wall / SHEET_SIZE
        heights = sum(
            blurred(_facets(axis, sheet, wall), sigma / pitch)
            for sheet, sigma in zip(self.anatomy.sheets, sigmas, strict=True)
        )
        layer.height += inside * _enlarged(np.asarray(heights), axis, self.canvas)

    def _add_cells(self, layer: Layer, inside: Floats, grain: Floats) -> None:
        canvas, anatomy = self.canvas, self.anatomy
        shown = self.clump.cover()
        shown *= inside
        body = Clump(canvas).add(anatomy.body, roundness=0.4).height if len(anatomy.body) else 0
        layer.height += shown * (self.clump.height + body + grain * np.float32(0.014))
        layer.tone += shown * (self.clump.tone - np.float32(anatomy.density))
        layer.tone -= np.float32(0.1) * inside * canvas.line(self.clump.depth, 0.02)
        if len(anatomy.mass):
            shown = self.mass.cover() * canvas.step(self.radius - np.float32(1 - anatomy.zona))
            layer.height += shown * (self.mass.height + grain * np.float32(0.012))
            layer.tone += shown * (self.mass.tone - np.float32(anatomy.density or 0.04))
            layer.tone -= np.float32(0.08) * canvas.line(self.mass.depth, 0.02)
        for cells in (anatomy.fragments, anatomy.vacuoles):
            if len(cells):
                loose = Clump(canvas).add(cells, roundness=0.05)
                shown = loose.cover()
                layer.height += shown * loose.height
                layer.tone += shown * loose.tone
                layer.tone -= np.float32(0.12) * canvas.line(loose.depth, 0.015)
        for ends in anatomy.strings.tolist():
            self._add_string(layer, inside, *ends)

    def _add_string(
        self, layer: Layer, inside: Floats, x0: float, y0: float, x1: float, y1: float
    ) -> None:
        length = math.hypot(x1 - x0, y1 - y0) + 1e-6
        u, v = (x1 - x0) / length, (y1 - y0) / length
        across, down = self.canvas.x - np.float32(x0), self.canvas.y - np.float32(y0)
        forth = np.clip(across * np.float32(u) + down * np.float32(v), 0, np.float32(length))
        dx, dy = across - forth * np.float32(u), down - forth * np.float32(v)
        ridge = self.canvas.line(np.sqrt(dx * dx + dy * dy), 0.016) * inside
        layer.height += ridge * np.float32(0.012)
        layer.tone -= ridge * np.float32(0.03)


class RimOnCanvas:
    """Trophectoderm cells around a circle.

    Args:
        canvas: The grid.
        rim: The cells.
        radius: Distance of each point from the circle's centre.
        turn: Direction in which it lies from there, see `Canvas.turn`.

    Attributes:
        cover: Coverage by the cells.
        inside: Coverage of the space within them.
        outside: Coverage of the whole disc.
    """

    def __init__(self, canvas: Canvas, rim: Rim, radius: Floats, turn: NDArray[np.intp]) -> None:
        self.canvas, self.rim, self.radius, self.turn = canvas, rim, radius, turn
        thickness, cell, place = rim.profile()
        self.thickness = around(thickness, turn)
        self.cell, self.place = cell, place
        self.outside = canvas.step(radius - np.float32(rim.radius))
        self.inside = canvas.step(radius - np.float32(rim.radius) + self.thickness)
        self.cover = self.outside * (1 - self.inside)

    def add_to(self, layer: Layer, grain: Floats) -> None:
        """Add lens-shaped cells: thick in their middle, thin where they meet."""
        edge = np.float32(self.rim.radius) - self.radius
        across = np.clip(edge / self.thickness, 0, 1)
        lens = across * (1 - across) * 4
        nucleus = np.maximum(1 - 5 * self.place**2, 0) ** 2 * 0.25
        swell = around(0.75 + nucleus, self.turn)
        height = lens * self.thickness * swell * np.float32(0.9 * self.rim.contrast)
        layer.height += self.cover * height
        layer.height += self.cover * grain * np.float32(0.008)
        layer.tone += self.cover * around(self.rim.tones[self.cell], self.turn)
        layer.tone -= np.float32(0.13) * self.canvas.line(edge - self.thickness, 0.016)
        layer.tone -= np.float32(0.1) * self.canvas.line(edge, 0.016)


def _facets(axis: Floats, sheet: Sheet, wall: float) -> Floats:
    """Thickness of polygonal cells on a sphere seen from above, on a grid over its square."""
    x, y = axis[None, :], axis[:, None]
    square = np.minimum((x * x + y * y) * np.float32(1 / wall**2), 1)
    # towards the border the sphere turns away: arc sine over sine, by its series
    stretch = 1 + square * (0.1667 + square * (0.075 + square * (0.0446 + square * 0.25)))
    stretch *= np.float32(1 / sheet.pitch)
    side = len(sheet.jitter)
    u = x * stretch.astype(np.float32) + np.float32(side / 2)
    v = y * stretch.astype(np.float32) + np.float32(side / 2)
    column, row = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    flat = np.clip(row, 1, side - 2) * side + np.clip(column, 1, side - 2)
    u, v = u - np.float32(0.5), v - np.float32(0.5)
    lattice = np.arange(side, dtype=np.float32)
    across = (sheet.jitter[..., 0] + lattice[None, :]).ravel()
    down = (sheet.jitter[..., 1] + lattice[:, None]).ravel()
    nearest = np.full(flat.shape, 9, dtype=np.float32)
    second, tone = nearest.copy(), nearest.copy()
    tones = sheet.tones.ravel()
    for shift in (0, -1, 1, -side, side, -side - 1, -side + 1, side - 1, side + 1):
        place = flat + shift
        dx, dy = across[place] - u, down[place] - v
        distance = dx * dx + dy * dy
        np.minimum(second, np.maximum(nearest, distance), out=second)
        np.copyto(tone, tones[place], where=distance < nearest)
        np.minimum(nearest, distance, out=nearest)
    gap = np.sqrt(second) - np.sqrt(nearest)
    nucleus = np.maximum(1 - nearest * 8, 0)
    dome: Floats = gap / (gap + np.float32(0.15)) + np.float32(0.35) * nucleus * nucleus
    dome *= tone * np.float32(min(sheet.pitch, 0.5) * 0.24)
    return dome


def _enlarged(image: Floats, axis: Floats, canvas: Canvas) -> Floats:
    """A picture on a grid, interpolated on the canvas; its border is continued."""
    pitch = axis[1] - axis[0]
    bands = image
    for number, places in enumerate((canvas.y[:, 0], canvas.x[0])):
        place = np.clip((places - axis[0]) / pitch, 0, len(axis) - 1.001)
        low = place.astype(np.intp)
        share = (place - low).astype(np.float32)
        if number == 0:
            bands = bands[low] + (bands[low + 1] - bands[low]) * share[:, None]
        else:
            bands = bands[:, low] + (bands[:, low + 1] - bands[:, low]) * share
    return bands
