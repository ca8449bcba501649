"""Checkpoints of modules whose noise and grades have an effect, and their exports."""

from __future__ import annotations

import pytest
import torch

from blastogan.generators.generator import read_with_card
from blastogan.generators.weights import write_trained
from blastogan.networks.synthesis import NoiseInput


@pytest.fixture
def save_checkpoint(make_module, tmp_path):
    """Write a checkpoint of a module whose noise and grades have an effect; returns its path."""

    def write(name="stylegan", *, final=16, resolution=None, alpha=1.0, shown=5000, **settings):
        module = make_module(name, resolution=final, **settings)
        for part in module.generator_ema.modules():
            if isinstance(part, NoiseInput):
                torch.nn.init.normal_(part.strength)
        if name == "stylegan":
            torch.nn.init.normal_(module.generator_ema.synthesis.blocks["4"].constant)
        module.grade_counts[0, 1], module.grade_counts[2, 2] = 30, 10
        module.resolution, module.alpha = resolution or final, alpha
        module.images_shown = shown
        content = {
            "pytorch-lightning_version": "2.6.6",
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams),
        }
        module.on_save_checkpoint(content)
        path = tmp_path / "run/checkpoints/last.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)
        return path

    return write


@pytest.fixture
def export(tmp_path):
    """Write the weights of a checkpoint; returns the file."""

    def write(path, **options):
        return write_trained(read_with_card(path), tmp_path / "out", str(path), **options)

    return write
