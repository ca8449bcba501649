"""The benchmarks of training run, on the smallest of networks."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import re
from pathlib import Path

import pytest
import torch
from helpers.command import blastogan
from helpers.processes import CONTEXT
from PIL import Image

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


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("gpu_check")


@pytest.mark.slow
def test_a_gpu_is_checked_here_a_processor(gpu_check, monkeypatch, tmp_path):
    def fit(options, name, *settings, seconds=None):
        folder = options.out / name
        assert blastogan("fit", "--run_dir", str(folder), *settings) == 0
        return folder

    # in this process: starting one takes longer than the run
    monkeypatch.setattr(gpu_check, "fit", fit)
    assert gpu_check.main([str(tmp_path / "out"), "--device", "cpu", "--small"]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert set(report["seconds"]) == set(gpu_check.CHECKS)
    errors = report["correctness"]["stylegan 32-true"]
    assert errors.keys() == {"loss_d", "loss_g", "r1", "gradient_d", "gradient_g"}
    assert max(errors.values()) < 1e-6
    assert report["correctness"]["progan bf16-mixed"]["gradient_d"] > 0
    assert report["runs"] == {"resumed": 0, "ddp": 0}
    assert all(row["images/s"] > 0 for row in report["speed"]["steps"])
    assert Image.open(tmp_path / "out/samples.png").width > 100
    with pytest.raises(SystemExit):
        gpu_check.main([str(tmp_path / "out"), "--device", "cpu", "--small"])


def test_checks_go_on_after_one_fails_and_a_stop_keeps_the_report(gpu_check, monkeypatch, tmp_path):
    def fail(options):
        raise AssertionError("gradients differ")

    def stop(options):
        raise KeyboardInterrupt

    checks = {"one": (fail, 0), "two": (lambda options: {"rate": 1.5}, 0)}
    monkeypatch.setattr(gpu_check, "CHECKS", checks)
    small = ["--device", "cpu", "--small"]
    assert gpu_check.main([str(tmp_path / "a"), *small]) == 1
    monkeypatch.setattr(gpu_check, "CHECKS", {**checks, "three": (stop, 0)})
    assert gpu_check.main([str(tmp_path / "b"), *small]) == 130
    for name in "ab":
        report = json.loads((tmp_path / name / "report.json").read_text())
        assert "gradients differ" in report["one"]["error"]
        assert report["two"] == {"rate": 1.5}
        assert report["failed"] == ["one"]
    monkeypatch.setattr(gpu_check, "CHECKS", {"long": (fail, 100)})
    late = ["--device", "cpu", "--minutes", "0"]
    assert gpu_check.main([str(tmp_path / "c"), *late]) == 0


def test_peers_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    peers = importlib.import_module("peers")
    setting = peers.Setting(8, 4, 32, 8, 8, torch.device("cpu"))
    with pytest.raises(SystemExit, match="nobody"):
        peers.load_peer("nobody", tmp_path, setting)
    with pytest.raises(SystemExit, match="not a checkout"):
        peers.load_peer("akanimax", tmp_path, setting)
