"""Draw pictures of the demo: `python examples/demo_pictures.py [RUN]`, after `fit --config demo`.

Writes `demo-growth.png`, one latent through all grades at the end of each phase of growth, and
`demo-between.png`, latents on the way from grade AA to DD.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from blastogan.grades import CLASSES, Grade
from blastogan.modules import BaseGANModule, load_module
from blastogan.utils.sheets import image_sheet

FOLDER = Path(__file__).parent
TILE, STEPS, LATENTS = 96, 10, 3


def grown(module: BaseGANModule) -> torch.Tensor:
    """One latent through all grades (10, C, R, R), enlarged to the final resolution R."""
    labels = torch.tensor([Grade.parse(name).labels for name in CLASSES])
    return module.sample_enlarged([0] * len(CLASSES), labels, seed=0)


def main(run: str = "runs/demo") -> None:
    """Draw both pictures."""
    checkpoints = Path(run, "checkpoints")
    phases = sorted(checkpoints.glob("*hold*.ckpt"))
    modules = [load_module(str(path)) for path in phases]
    sizes = ", ".join(f"{module.resolution}x{module.resolution}" for module in modules)
    sheet = image_sheet(
        torch.cat([grown(module) for module in modules]),
        len(CLASSES),
        caption=f"Generated, at {sizes}",
        titles=CLASSES,
        tile=TILE,
    )
    sheet.save(FOLDER / "demo-growth.png")
    module = load_module(str(checkpoints / "last.ckpt"))
    path = module.interpolate("AA", "DD", steps=STEPS, count=LATENTS, seed=0)
    sheet = image_sheet(path.flatten(0, 1), STEPS, caption="Generated, from AA to DD", tile=TILE)
    sheet.save(FOLDER / "demo-between.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
