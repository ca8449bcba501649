"""Draw the sheets of phantoms in the documentation: `python examples/phantom_gallery.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blastogan.grades import CLASSES, Grade
from blastogan.phantoms import View, phantom_truth, render_phantom
from blastogan.phantoms.ranges import PLANE_STEP
from blastogan.phantoms.styles import CLINICS
from blastogan.utils.files import atomic_write
from blastogan.utils.sheets import image_sheet

SEED = 2
SIDE = 160
COLOURS = {"icm": (230, 80, 60), "te": (70, 150, 230), "zona": (240, 190, 60)}


def view(embryo: int, name: str, expansion: int = 4, **more: object) -> View:
    """A view of an embryo of a class such as AB."""
    return View(embryo, Grade(name[0], name[1], expansion), **more)  # type: ignore[arg-type]


def drawn(views: Sequence[View], framing: str = "embryo") -> Tensor:
    """Images (N, 1, SIDE, SIDE) of views."""
    pictures = [render_phantom(SEED, each, SIDE, framing) for each in views]  # type: ignore[arg-type]
    return torch.from_numpy(np.stack(pictures))[:, None]


def coloured(shown: View) -> list[NDArray[np.uint8]]:
    """An image, and the same image with its masks overlaid, each (3, SIDE, SIDE)."""
    picture = np.repeat(render_phantom(SEED, shown, SIDE)[..., None], 3, axis=2)
    over = picture.astype(float)
    masks = phantom_truth(SEED, shown, SIDE).masks
    for name, colour in COLOURS.items():
        part = masks[name] > 0
        over[part] = 0.55 * over[part] + 0.45 * np.array(colour)
    return [np.moveaxis(each.astype(np.uint8), 2, 0) for each in (picture, over)]


def main() -> None:
    """Write the four sheets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    expansions = (4, 3, 5, 4, 6, 3, 4, 5, 3, 4)
    classes = [
        view(10 * row + n, name, expansions[(n + row) % 10])
        for row in range(2)
        for n, name in enumerate(CLASSES)
    ]
    planes = [view(3, "AB", 4, plane=n, focus=(n - 3) * PLANE_STEP) for n in range(7)]
    styles = [
        view(n, name, 4, clinic=clinic) for n, name in ((3, "AA"), (5, "BB")) for clinic in CLINICS
    ]
    masked = [
        picture
        for n, name, expansion in ((1, "AA", 3), (2, "BB", 5), (4, "CA", 2), (6, "CC", 4))
        for picture in coloured(view(n, name, expansion))
    ]
    sheets = {
        "classes": image_sheet(
            drawn(classes), 10, caption="Phantoms, two of each class", titles=CLASSES, tile=SIDE
        ),
        "planes": image_sheet(
            drawn(planes, "well"),
            7,
            caption="A phantom in its well through seven focal planes (4AB)",
            titles=[f"{each.focus:+.0f} um" for each in planes],
            tile=SIDE,
        ),
        "styles": image_sheet(
            drawn(styles),
            len(CLINICS),
            caption="Phantoms as the microscopes of six clinics show them (4AA, 4BB)",
            titles=list(CLINICS),
            tile=SIDE,
        ),
        "masks": image_sheet(
            torch.from_numpy(np.stack(masked)),
            8,
            caption="Phantoms (3AA, 5BB, 2CA, 4CC) with their masks: inner cell mass red, "
            "trophectoderm blue, zona yellow",
            tile=SIDE,
        ),
    }
    for name, sheet in sheets.items():
        with atomic_write(out / f"phantom-{name}.png") as part:
            sheet.save(part, format="PNG")


if __name__ == "__main__":
    main()
