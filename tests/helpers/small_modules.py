"""Modules that train in seconds, and comparisons of their weights."""

from __future__ import annotations

from typing import Any

import torch

from blastogan import ProGANModule, StyleGANModule

# ticks of 32 images: hold 8, fade 16, hold 16, with a batch that shrinks on the way
TINY = {
    "start_resolution": 8,
    "final_resolution": 16,
    "fade_kimg": 0.064,
    "hold_kimg": {8: 0.032, 16: 0.064},
    "batch_size": {8: 8, 16: 4},
    "tick_kimg": 0.032,
}


SMALL = {"latent_dim": 8, "channel_base": 64, "channel_cap": 8}


MODULES = {
    "progan": (ProGANModule, SMALL),
    "stylegan": (StyleGANModule, {**SMALL, "w_dim": 8, "mapping_layers": 2}),
}


def blank(module: Any, *args: Any) -> None:
    """Make the averaged generator output grey images."""
    for name, parameter in module.generator_ema.named_parameters():
        if "to_rgb" in name:
            parameter.data.zero_()


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether all weights and buffers are bit-equal."""
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )
