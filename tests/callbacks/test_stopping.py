"""Runs that a scheduler stops, or that lose a loader process, continue from there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from helpers.command import assert_same_run, blastogan, read_table, weights

pytestmark = pytest.mark.slow

LAST = Path("cut/checkpoints/last.ckpt")


def fit(*args):
    return blastogan("fit", "--config", "tiny.yaml", "--run_dir", "cut", "--resume", *args)


def add_callback(name, **settings):
    Path("stop.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: helpers.command.{name}, init_args: {settings}}}]}}"
    )
    return "--config", "stop.yaml"


@pytest.mark.parametrize(
    ("callback", "reached"),
    [
        (("StopAt", {"images": 88, "number": int(signal.SIGTERM)}), 96),
        (("StopAt", {"images": 72, "number": int(signal.SIGUSR1)}), 80),
        # the last batch of a tick does not wait for its validation
        (("StopAt", {"images": 56, "number": int(signal.SIGTERM)}), 64),
        (("StopAt", {"images": 184, "number": int(signal.SIGTERM)}), 192),
        (("StopInValidation", {"number": int(signal.SIGTERM)}), 32),
        (("StopInSaving", {"images": 96}), 96),
    ],
    ids=["end of a tick", "within a tick", "end of a phase", "end", "validation", "saving"],
)
def test_a_run_that_a_scheduler_stops_exits_with_75_and_resumes(callback, reached, trained, capfd):
    name, settings = callback
    handler = signal.getsignal(signal.SIGTERM)
    assert fit(*add_callback(name, **settings)) == 75
    output = capfd.readouterr().err
    assert "stopped by a scheduler" in output
    assert "Traceback" not in output
    assert weights(LAST)["blastogan"]["images_shown"] == reached
    assert signal.getsignal(signal.SIGTERM) == handler
    assert not list(Path("cut").rglob("*.part"))
    assert fit() == 0
    assert_same_run(LAST, "runs/tiny/checkpoints/last.ckpt")
    for table in ("fidelity.csv", "metrics.csv"):
        cut, whole = (read_table(Path(run, table)) for run in ("cut", "runs/tiny"))
        assert cut == whole


def test_a_run_stopped_before_training_can_start_again(trained):
    handler = signal.getsignal(signal.SIGINT)
    assert fit(*add_callback("StopInSetup")) == 75
    assert signal.getsignal(signal.SIGINT) == handler
    assert not LAST.exists()
    assert fit() == 0
    assert_same_run(LAST, "runs/tiny/checkpoints/last.ckpt")


def test_a_killed_loader_ends_the_run_with_a_message_and_the_run_resumes(trained, capfd):
    workers = ("--data.num_workers", 1)
    assert fit(*workers, *add_callback("KillWorkerAt", images=72)) == 1
    output = capfd.readouterr().err
    assert "DataLoader worker (pid" in output
    assert "perhaps for lack of memory. The run in cut stopped" in output
    assert f"{LAST}, at 0.064 kimg" in output
    assert "set fewer --data.num_workers and add --resume" in output
    assert "Traceback" not in output
    assert fit(*workers) == 0
    assert_same_run(LAST, "runs/tiny/checkpoints/last.ckpt")
