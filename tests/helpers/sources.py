"""Modules as they may come out of a run, for tests of what another begins with."""

from __future__ import annotations

import torch

from blastogan import Grade
from helpers.small_modules import MODULES

NONE = {"conditional": False}


def make(name="progan", seed=0, **settings):
    """A module all of whose weights are drawn, also those that begin at 0 or 1."""
    kind, small = MODULES[name]
    module = kind(**{"resolution": 16, "start_resolution": 8, **small, **settings})
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        weight.data.normal_(generator=generator)
    return module


def saved(module, shown=1000, **growth):
    """A checkpoint of it, as plain values."""
    module.images_shown = shown
    for name, value in growth.items():
        setattr(module, name, value)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    checkpoint = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": weights,
        "hyper_parameters": dict(module.hparams),
    }
    module.on_save_checkpoint(checkpoint)
    return checkpoint


def labels_of(grade, count=4):
    return torch.tensor([Grade.parse(grade).labels] * count)


def drawn(*shape, seed=9):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
