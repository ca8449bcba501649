"""How a phantom is photographed: where it lies, how it is turned, how it is lit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from blastogan.phantoms import ranges
from blastogan.phantoms.parts import Cells, Floats, round_cells
from blastogan.phantoms.styles import Style
from blastogan.phantoms.view import Framing


@dataclass(frozen=True)
class Well:
    """The microwell, seen from the embryo in embryo units.

    Attributes:
        x, y, radius: Centre and radius.
        arc: Greatest thickness of the bright arc.
        onset: How far from the dark side the arc begins: 0 opposite to the light, 1 towards it.
        beyond: Grey of what lies beyond the arc.
        rings: Random numbers of the rings beyond it, (side, side).
    """

    x: float
    y: float
    radius: float
    arc: float
    onset: float
    beyond: float
    rings: Floats


@dataclass(frozen=True)
class Pose:
    """All that belongs to one shot of an embryo.

    Attributes:
        turn: Angle by which the embryo is turned, in radians.
        centred: Centre and radius in the frame under ``framing="embryo"``.
        framed: Centre and radius of the well in the frame under ``framing="well"``.
        well: The well.
        light: Direction from which the relief is lit, in radians.
        floor: Grey of the empty floor, 0 to 1.
        gain: Contrast of the specimen about it.
        tilt: Change of the light from the centre to the border.
        tilt_angle: Direction of that change.
        depth: Height of the inner cell mass over the middle of the embryo.
        focus: Error of the focus, in embryo units.
        debris: Specks on the floor.
        neighbour: Place of another embryo's centre, and the angle by which it is turned.
        texture: Random numbers of the unevenness of the floor, (side, side).
    """

    turn: float
    centred: tuple[float, float, float]
    framed: tuple[float, float, float]
    well: Well
    light: float
    floor: float
    gain: float
    tilt: float
    tilt_angle: float
    depth: float
    focus: float
    debris: Cells
    neighbour: tuple[float, float, float] | None
    texture: Floats

    def placement(self, framing: Framing) -> tuple[float, float, float]:
        """Centre x, y and outer radius of the embryo as shares of the frame, 0 to 1."""
        if framing == "embryo":
            return self.centred
        x, y, share = self.framed
        radius = share / self.well.radius
        return x - self.well.x * radius, y - self.well.y * radius, radius


def draw_pose(rng: np.random.Generator, style: Style) -> Pose:
    """Draw how one shot is taken with a microscope."""
    well = _draw_well(rng)
    away = rng.uniform(0, 2 * math.pi)
    near = 2.03 + 0.35 * rng.uniform()
    neighbour = (near * math.cos(away), near * math.sin(away), rng.uniform(0, 2 * math.pi))
    alone = style.well or rng.uniform() >= ranges.NEIGHBOUR
    return Pose(
        turn=rng.uniform(0, 2 * math.pi),
        centred=(
            *rng.uniform(*ranges.EMBRYO_CENTRE, 2).tolist(),
            rng.uniform(*ranges.EMBRYO_RADIUS),
        ),
        framed=(*rng.uniform(*ranges.WELL_CENTRE, 2).tolist(), rng.uniform(*ranges.WELL_SHARE)),
        well=well,
        light=style.light + rng.normal(0, math.radians(8)),
        floor=rng.uniform(*style.floor),
        gain=rng.uniform(*style.gain),
        tilt=rng.uniform(*style.tilt),
        tilt_angle=rng.uniform(0, 2 * math.pi),
        depth=rng.normal(0, 0.12),
        focus=rng.normal(0, 0.06),
        debris=_draw_debris(rng, well),
        neighbour=None if alone else neighbour,
        texture=rng.standard_normal((16, 16), dtype=np.float32),
    )


def _draw_well(rng: np.random.Generator) -> Well:
    radius = rng.uniform(*ranges.WELL_RADIUS)
    away = rng.uniform(0, 2 * math.pi)
    # embryos roll towards the wall
    distance = (radius - 1.03) * math.sqrt(rng.uniform(0.05, 1))
    return Well(
        x=distance * math.cos(away),
        y=distance * math.sin(away),
        radius=radius,
        arc=rng.uniform(0.1, 0.24),
        onset=rng.uniform(0.05, 0.32),
        beyond=rng.uniform(0.25, 0.5),
        rings=rng.standard_normal((64, 64), dtype=np.float32),
    )


def _draw_debris(rng: np.random.Generator, well: Well) -> Cells:
    specks = int(rng.poisson(12))
    angle = rng.uniform(0, 2 * math.pi, specks)
    distance = well.radius * np.sqrt(rng.uniform(0, 1, specks))
    x, y = well.x + distance * np.cos(angle), well.y + distance * np.sin(angle)
    kept = (np.hypot(x, y) > 1.08) & (distance < well.radius * 0.95)
    return round_cells(rng, np.stack([x, y], axis=1)[kept], (0.02, 0.06), (-0.2, 0.0), oval=0.4)
