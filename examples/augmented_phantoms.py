"""Draw phantoms as a discriminator may see them, into `examples/augmented-phantoms.png`.

    python examples/augmented_phantoms.py [OUT.png]

The first row is not augmented; then `grade-preserving` at p = 0.4 and 0.8, `bgc` at 0.8 and
`diffaugment`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from blastogan import PhantomDataset
from blastogan.augment import SETS, augment_images, diff_augment
from blastogan.modules.step.draws import SampleDraws
from blastogan.utils.pixels import to_float, to_uint8
from blastogan.utils.sheets import image_sheet

COLUMNS = 7
PICTURE = Path(__file__).with_name("augmented-phantoms.png")


def main(path: Path = PICTURE) -> None:
    """Draw and write the sheet."""
    phantoms = PhantomDataset(COLUMNS, "balanced", seed=5, resolution=128, style="dic")
    images = to_float(torch.stack([phantoms[n]["image"] for n in range(COLUMNS)]))
    rows = [images]
    for name, p in (("grade-preserving", 0.4), ("grade-preserving", 0.8), ("bgc", 0.8)):
        draws = SampleDraws(0, (name, str(p)), 0, COLUMNS, torch.device("cpu"))
        rows.append(augment_images(images, SETS[name], p, draws))
    draws = SampleDraws(0, ("diffaugment",), 0, COLUMNS, torch.device("cpu"))
    rows.append(diff_augment(images, 1.0, draws))
    caption = (
        "Phantoms: as they are; grade-preserving at p = 0.4 and at 0.8; bgc at 0.8; diffaugment"
    )
    image_sheet(to_uint8(torch.cat(rows)), COLUMNS, caption=caption).save(path)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
