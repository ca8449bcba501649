"""States in a checkpoint that Lightning hands to their owners: damaged ones end in one message."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.command import blastogan, weights


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("loops", "fit_loop"), {}),
        (("loops", "fit_loop", "epoch_progress"), "x"),
        (("callbacks", "RandomState", "python"), [1]),
        (("callbacks", "DivergenceWatch", "alarms"), {}),
        (("callbacks", "ProgressiveGrowing", "schedule"), {"unheard_of": 1}),
        (("callbacks", "ProgressiveGrowing", "schedule", "hold_kimg"), "x"),
        (("optimizer_states",), []),
        (("optimizer_states", 0, "param_groups"), []),
        (("BlastocystDataModule",), {}),
    ],
)
def test_a_damaged_state_is_told(way, value, trained, capfd):
    path = Path("runs/tiny/checkpoints/last.ckpt")
    content = place = weights(path)
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = value
    torch.save(content, "damaged.ckpt")
    config = ["--config", "tiny.yaml", "--schedule.hold_kimg", "{8: 0.064, 16: 0.128}"]
    code = blastogan("fit", *config, "--ckpt_path", "damaged.ckpt", "--run_dir", "new")
    said = capfd.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
