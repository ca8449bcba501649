"""Training steps without a trainer."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric

ARCHITECTURES = ("progan", "stylegan")


def batches(count, resolution=16, size=4):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        shape = (size, 1, resolution, resolution)
        yield {
            "image": torch.randint(256, shape, dtype=torch.uint8, generator=generator),
            "labels": torch.randint(4, (size, 2), generator=generator),
        }


def run_steps(module, count, after=lambda: None, **kwargs):
    """Run steps without a trainer; returns their logged terms."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.setup(module, *module.configure_optimizers())
    module.train()
    torch.manual_seed(2)
    logged = []
    for n, batch in enumerate(batches(count, **kwargs)):
        logged.append(module.training_step(batch, n))
        after()
    return logged
