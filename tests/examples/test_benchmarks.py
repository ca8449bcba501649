"""The benchmarks of training run, on the smallest of networks."""

from __future__ import annotations

import importlib
import multiprocessing
import re
from pathlib import Path

import pytest
import torch
from helpers.processes import CONTEXT

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
SMALL = ["--channel-base", "512", "--channel-cap", "64", "--latent-dim", "8", "--batch", "4"]
SHORT = ["--resolutions", "8", "--rounds", "1", "--seconds", "0"]


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)

    def run(name, *args):
        monkeypatch.setattr("sys.argv", [name, *SMALL, *args])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_training_steps_are_measured_with_their_operations_profile_and_memory(run, monkeypatch):
    # a new process that has nothing to import
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: CONTEXT)
    said = run("training_step", *SHORT, "--architectures", "progan", "--profile", "--memory")
    row = re.search(r"progan 32-true +\S+ \+ \S+ +([\d.]+) .*?\) +([\d.]+) ", said)
    assert float(row[1]) > 0
    assert 0.01 < float(row[2]) < 1
    parts = re.findall(r"([\d.]+)%  ((?:generator|discriminator): \w+)", said)
    assert {name.split(": ")[1] for _, name in parts} >= {"forward", "backward", "optimizer"}
    assert 50 < sum(float(share) for share, _ in parts) <= 110
    assert re.search(r"memory +progan 32-true +peak +[\d.,]+ MB +kept +[\d.,]+ MB", said)


def test_samples_are_measured(run):
    said = run("sampling", *SHORT, "--architectures", "stylegan")
    assert re.search(r"stylegan +[\d.]+ images/s", said)


@pytest.mark.slow
def test_what_lightning_adds_is_measured(run):
    said = run("lightning_overhead", "--resolution", "8", "--steps", "4", "--phantoms", "60")
    assert re.search(r"the fit takes [+-][\d.]+% more than its bare step \(4 steps\)", said)


def test_peers_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    peers = importlib.import_module("peers")
    setting = peers.Setting(8, 4, 32, 8, 8, torch.device("cpu"))
    with pytest.raises(SystemExit, match="nobody"):
        peers.load_peer("nobody", tmp_path, setting)
    with pytest.raises(SystemExit, match="not a checkout"):
        peers.load_peer("akanimax", tmp_path, setting)
