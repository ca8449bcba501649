"""The experiments on small data run, on the shortest of trainings."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.command import blastogan
from PIL import Image

from blastogan.grades import CLASSES
from blastogan.modules import load_module

FOLDER = Path(__file__).parents[2] / "examples" / "small_data"


class InTurn:
    """Runs what a pool is given one by one, in this thread."""

    def __init__(self, jobs: int) -> None:
        self.map = map

    def __enter__(self) -> InTurn:
        return self

    def __exit__(self, *error: object) -> None:
        pass


run_elsewhere = subprocess.run


def run_here(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command of the package in this process: it would load for longer than it takes."""
    if command[1:3] != ["-m", "blastogan"]:
        # git, asked for the version
        return run_elsewhere(command, **settings)
    code = blastogan(*command[3:])
    assert code == 0
    return subprocess.CompletedProcess(command, code)


def saved(path: str) -> dict[str, Any]:
    """The numbers in a file, without the version that wrote them."""
    content: dict[str, Any] = json.loads(Path(path).read_text())
    assert content.pop("blastogan")
    return content


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder that all share, so that one grader is trained."""
    return tmp_path_factory.mktemp("small-data")


@pytest.fixture
def experiment(home, monkeypatch):
    """Runs an experiment with few images."""
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("BLASTOGAN_CACHE", str(home / "cache"))
    shared = importlib.import_module("experiment")
    monkeypatch.setattr(shared, "ThreadPoolExecutor", InTurn)
    monkeypatch.setattr(subprocess, "run", run_here)
    monkeypatch.setattr(shared, "GRADER_IMAGES", 48)
    monkeypatch.setattr(shared, "GRADER_EPOCHS", 1)
    phantoms, settings = shared.reference, shared.settings

    def few(count, *args):
        return phantoms(min(count, 40), *args)

    monkeypatch.setattr(shared, "reference", few)

    def short(options):
        small = {"schedule.hold_kimg": 0.064, "schedule.fade_kimg": 0.064, "watch.num_images": 16}
        networks = {"model.init_args.channel_base": 64, "model.init_args.latent_dim": 8}
        growth = {"schedule.start_resolution": 16, "schedule.tick_kimg": 0.064}
        return {**settings(options), **small, **networks, **growth}

    def run(name, *arguments):
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "settings", short)
        for size, few in {"EMBRYOS": 60, "IMAGES": 60, "GRADED": 30}.items():
            if hasattr(module, size):
                monkeypatch.setattr(module, size, few)
        return module.main(["--folder", "runs", *arguments])

    return run


@pytest.mark.slow(seconds=15)
def test_the_experiments_train_measure_and_go_on(experiment, capsys):
    rows = experiment("overfitting", "--seeds", "1")
    assert rows.keys() == {"none", "adaptive"}
    assert all({"kid", "fid", "swd"} <= row[0].keys() for row in rows.values())
    said = capsys.readouterr().out
    assert "kid x 1000" in said
    assert Image.open("runs/overfitting-0.02.png").width > 1000
    assert saved("runs/overfitting-0.02.json") == rows
    checkpoint = Path("runs/overfitting-0.02-none-0/checkpoints/last.ckpt")
    before = checkpoint.stat().st_mtime_ns
    # what has ended is measured again, and not trained
    assert experiment("overfitting", "--seeds", "1") == rows
    assert checkpoint.stat().st_mtime_ns == before


@pytest.mark.slow(seconds=15)
def test_grades_and_architectures_train_and_measure(experiment, capsys):
    rows = experiment("grades", "--only", "neither", "--count", "4")
    assert rows.keys() == {"neither"}
    classes = rows["neither"]["classes"]
    assert classes.keys() == set(CLASSES)
    assert all(0 <= share <= 1 for row in classes.values() for share in row.values())
    said = capsys.readouterr().out
    assert "ICM A" in said
    assert "mean ratio ICM" in said
    assert saved("runs/grades-0.json") == rows
    sides = experiment("architectures", "--seeds", "1", "--count", "4")
    assert sides.keys() == {"ProGANModule", "StyleGANModule"}
    said = capsys.readouterr().out
    assert "swd x 1" in said
    assert "ICM letters ProGANModule" in said
    assert Image.open("runs/architectures.png").height > 6 * 96


@pytest.mark.slow(seconds=15)
def test_the_worth_of_ungraded_images_is_measured(experiment, capsys):
    rows = experiment("ungraded", "--seeds", "1", "--count", "4")
    assert rows.keys() == {"300 alone", "300 of 3,000", "3,000"}
    assert saved("runs/ungraded.json") == rows
    assert "ICM letters found" in capsys.readouterr().out
    # one model each, conditioned on the grade, of 30 graded images, 60 with 30 graded, and 60
    seen = {}
    for name in ("300-alone", "300-of-3000", "3000"):
        module = load_module(f"runs/ungraded-{name}-0/checkpoints/last.ckpt")
        assert module.conditional
        seen[name] = int(module.grade_counts.sum()) / module.images_shown
    assert seen["300-alone"] == seen["3000"] == 1.0
    assert 0.3 < seen["300-of-3000"] < 0.7
