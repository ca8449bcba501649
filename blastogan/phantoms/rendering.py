"""Pictures of phantoms: drawings with the anatomy that grades describe, of no patient."""

from __future__ import annotations

import operator
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from blastogan.errors import UserError
from blastogan.phantoms.anatomy import Anatomy, draw_anatomy
from blastogan.phantoms.canvas import Canvas, Clump
from blastogan.phantoms.drawing import Embryo, Layer, reach_of
from blastogan.phantoms.optics import add_well, blur_of, floor, photograph, seen
from blastogan.phantoms.parts import Floats
from blastogan.phantoms.pose import Pose, draw_pose
from blastogan.phantoms.ranges import MICROMETRES
from blastogan.phantoms.streams import Stream, generator
from blastogan.phantoms.styles import CLINICS
from blastogan.phantoms.view import Framing, View

RESOLUTIONS = (16, 512)
"""Least and greatest side of a picture, in pixels."""

SUPERSAMPLING = 2
"""Points along the side of a pixel."""

FLOOR_DEPTH = -1.0
"""Height of the floor over the middle of the embryo."""


def anatomy_of(seed: int, view: View) -> Anatomy:
    """The embryo of a view as it lies in the picture, the truth at every resolution.

    Raises:
        UserError: If the view's grade names no expansion.
    """
    if view.grade.expansion is None:
        raise UserError(f"grade {view.grade} names no expansion: a phantom needs one, 1 to 6")
    anatomy = draw_anatomy(generator(seed, view.embryo, Stream.ANATOMY), view.grade)
    return anatomy.turned(pose_of(seed, view).turn)


def pose_of(seed: int, view: View) -> Pose:
    """How a view is taken.

    Raises:
        UserError: If there is no such clinic.
    """
    if view.clinic not in CLINICS:
        raise UserError(f"clinic is {view.clinic!r}: expected one of {', '.join(CLINICS)}")
    return draw_pose(generator(seed, view.embryo, Stream.SHOT, view.shot), CLINICS[view.clinic])


def render_phantom(
    seed: int, view: View, resolution: int = 64, framing: Framing = "embryo"
) -> NDArray[np.uint8]:
    """Draw a view, a pure function of the arguments.

    Args:
        seed: Seed of the set.
        view: What the picture shows.
        resolution: Side of the picture in pixels, 16 to 512.
        framing: ``embryo`` centres the embryo, its outer radius 0.34 to 0.44 of the frame;
            ``well`` shows the whole well with the embryo anywhere within.

    Returns:
        Grey picture (resolution, resolution), 0 to 255.

    Raises:
        UserError: If an argument is out of range.
    """
    resolution = checked_resolution(resolution)
    check_framing(framing)
    scene = Scene(seed, view, framing)
    rng = generator(seed, view.embryo, Stream.NOISE, view.shot, view.plane)
    return photograph(scene.light(resolution), scene.style, rng)


class Scene:
    """An embryo under the microscope; for the arguments see `render_phantom`."""

    def __init__(self, seed: int, view: View, framing: Framing) -> None:
        self.pose, self.anatomy = pose_of(seed, view), anatomy_of(seed, view)
        self.style = CLINICS[view.clinic]
        self.focus = view.focus / MICROMETRES + self.pose.focus
        self.placement = self.pose.placement(framing)

    def light(self, resolution: int) -> Floats:
        """Light on each pixel of the camera, about 0 to 1, (resolution, resolution)."""
        # floor and well are smooth: points of the picture's own grid do for them
        canvas = Canvas(resolution, self.placement)
        light = floor(canvas, self.pose, self.style)
        if self.style.well:
            add_well(light, canvas, self.pose.well, self.pose.light, self.focus)
        self._add_debris(light, canvas)
        canvas = Canvas(resolution * SUPERSAMPLING, self.placement)
        specimen = canvas.zeros()
        self._add_embryo(specimen, canvas, self.anatomy)
        if self.pose.neighbour:
            # a sister of the same make
            x, y, turn = self.pose.neighbour
            self._add_embryo(specimen, canvas.moved(x, y), self.anatomy.turned(turn))
        light += shrunk(specimen)
        return light

    def _add_debris(self, light: Floats, canvas: Canvas) -> None:
        if len(self.pose.debris):
            clump = Clump(canvas).add(self.pose.debris)
            cover = clump.cover()
            layer = Layer(FLOOR_DEPTH, cover * clump.height, cover * clump.tone)
            light += self._seen(canvas, layer)

    def _add_embryo(self, light: Floats, canvas: Canvas, anatomy: Anatomy) -> None:
        window = canvas.window(0, 0, reach_of(anatomy))
        part = canvas.part(window)
        if not part.x.size or not part.y.size:
            return
        depth = 0.75 * anatomy.rim_radius
        sigmas = [blur_of(self.style, place - self.focus) for place in (-depth, depth)]
        for layer in Embryo(part, anatomy).layers(sigmas, self.pose.depth):
            light[window] += self._seen(part, layer)

    def _seen(self, canvas: Canvas, layer: Layer) -> Floats:
        added = seen(canvas, layer, self.style, self.pose.light, self.focus)
        added *= np.float32(self.pose.gain)
        return added


def shrunk(picture: Floats) -> Floats:
    """Mean of the points of each pixel."""
    rows = picture[0::2] + picture[1::2]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25))


def checked_resolution(resolution: int) -> int:
    """The resolution; raises a `UserError` if pictures cannot have it."""
    try:
        side = operator.index(resolution)
    except TypeError:
        side = -1
    if isinstance(resolution, bool) or not RESOLUTIONS[0] <= side <= RESOLUTIONS[1]:
        raise UserError(
            f"resolution of a phantom is {resolution!r}: expected a whole number of pixels "
            f"from {RESOLUTIONS[0]} to {RESOLUTIONS[1]}"
        )
    return side


def check_framing(framing: str) -> None:
    """Raise a `UserError` if there is no such framing."""
    if framing not in get_args(Framing):
        raise UserError(f"framing of a phantom is {framing!r}: expected 'embryo' or 'well'")
