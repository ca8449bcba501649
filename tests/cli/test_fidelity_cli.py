"""Fidelity by whole commands: a grader's features, several processes, an interrupted evaluation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
from helpers.command import SHORT, TINY, blastogan, read_table
from helpers.processes import run_on_two

from blastogan.modules import GradeClassifier

pytestmark = pytest.mark.slow(seconds=9)

FIDELITY = """
fidelity: {extractor: grader, weights: grader.ckpt, num_fakes: 40, num_test_fakes: 60,
           kid_subset_size: 20, batch_size: 7}
"""


@pytest.fixture
def graded(here, monkeypatch):
    """A folder with a tiny configuration and a grader, trained or not."""
    monkeypatch.setenv("BLASTOGAN_CACHE", str(here / "cache"))
    pl.seed_everything(0)
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(GradeClassifier(resolution=32))
    trainer.save_checkpoint("grader.ckpt")
    lines = [line for line in TINY.splitlines() if not line.startswith("fidelity")]
    Path("tiny.yaml").write_text("\n".join(lines) + FIDELITY)
    return here


def numbers(content):
    """All numbers of a JSON file by their place."""
    if isinstance(content, dict):
        return {f"{k}.{key}": v for k, each in content.items() for key, v in numbers(each).items()}
    return {"": content} if isinstance(content, (int, float)) else {}


def test_several_processes_measure_what_one_does(trained, graded, capfd):
    args = "test", "--config", "tiny.yaml", "--ckpt_path", "runs/tiny/checkpoints/last.ckpt"
    assert blastogan(*args, "--trainer.devices", 1) == 0
    assert capfd.readouterr().out.count("held-out gap") == 1
    code, printed = run_on_two(*args)
    assert code == 0, printed
    assert printed.count("held-out gap") == 1
    one, two = (
        numbers(json.loads(Path(f"runs/tiny/fidelity-test-0.192{name}.json").read_text()))
        for name in ("", "-2")
    )
    assert one.keys() == two.keys()
    assert one["train.n_fake."] == 60
    assert one["train.fid."] > 0
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def test_two_processes_evaluate_within_a_fit(graded):
    code, printed = run_on_two("fit", "--config", "tiny.yaml", SHORT, folder="runs/tiny")
    assert code == 0, printed
    assert [row["n_fake"] for row in read_table(Path("runs/tiny/fidelity.csv"))] == ["40"]


def test_a_grader_of_ones_own_serves_a_run_and_folders_alike(graded):
    assert blastogan("fit", "--config", "tiny.yaml") == 0
    rows = read_table(Path("runs/tiny/fidelity.csv"))
    assert len(rows) == 3
    assert all(re.fullmatch(r"grader \(weights [0-9a-f]{8}\)", row["extractor"]) for row in rows)
    assert all(float(row["fid"]) > 0 for row in rows)
    # the last row of the log has what the table has
    logged = [row for row in read_table(Path("runs/tiny/metrics.csv")) if row["fid"]]
    assert [row["fid"] for row in logged] == [row["fid"] for row in rows]
    last = "runs/tiny/checkpoints/last.ckpt"
    assert blastogan("generate", last, "OUT", "--count", 40) == 0
    assert blastogan("phantom", "REAL", "--count", 40, "--resolution", 16) == 0
    of_grader = ("--extractor", "grader", "--weights", "grader.ckpt")
    assert blastogan("evaluate", "REAL", "OUT", *of_grader, "--json", "found.json") == 0
    found = json.loads(Path("found.json").read_text())
    assert found["fid"] > 0
    assert found["extractor"] == rows[0]["extractor"]


def test_missing_weights_are_reported_once_and_the_run_goes_on(graded, caplog):
    args = "--fidelity.weights=absent.ckpt", "--fidelity.every_kimg=0.032"
    longer = "--schedule.hold_kimg=0.064"
    assert blastogan("fit", "--config", "tiny.yaml", SHORT, longer, *args) == 0
    assert caplog.text.count("there is no file absent.ckpt") == 1
    rows = read_table(Path("runs/tiny/fidelity.csv"))
    assert [row["extractor"] for row in rows] == ["none"] * 2
    assert all(row["swd"] for row in rows)
