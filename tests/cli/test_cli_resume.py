"""Runs that are stopped and resumed through the command line."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from helpers.command import assert_same_run, blastogan, read_table, weights
from helpers.processes import begin

pytestmark = pytest.mark.slow


def write_stop(name="StopAt", **arguments):
    """Writes ``stop.yaml``, a configuration with a callback of `helpers.command`."""
    callback = {"class_path": f"helpers.command.{name}", "init_args": arguments}
    Path("stop.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))


# other points: tests/runs/test_resume.py, test_endings.py
@pytest.mark.parametrize(
    ("images", "workers"), [(56, 2), (88, 0), (96, 2)], ids=["phase end", "tick end", "mid-fade"]
)
def test_a_run_stopped_anywhere_and_resumed_is_bit_equal(images, workers, trained):
    write_stop(images=images)
    fit = ["fit", "--config", "tiny.yaml", "--data.num_workers", workers]
    handler = signal.getsignal(signal.SIGINT)
    assert blastogan(*fit, "--config", "stop.yaml", "--run_dir", "cut") == 130
    signal.signal(signal.SIGINT, handler)
    cut = Path("cut/checkpoints/last.ckpt")
    assert weights(cut)["blastogan"]["images_shown"] == images + 8
    assert blastogan(*fit, "--ckpt_path", cut) == 0
    # the run that was left alone had no workers
    whole = trained / "runs/tiny"
    assert_same_run(cut, whole / "checkpoints/last.ckpt")
    sheets = [sorted(p.name for p in run.glob("samples/*")) for run in (Path("cut"), whole)]
    assert sheets[0] == sheets[1]
    cut, whole = (read_table(run / "metrics.csv") for run in (Path("cut"), whole))
    ticks = ["0.032", "0.064", "0.096", "0.128", "0.16", "0.192"]
    for column in ("swd", "diversity"):
        assert [row["kimg"] for row in cut if row[column]] == ticks
    assert cut == whole


def test_a_run_that_has_ended_goes_on_for_longer(trained, caplog):
    run, longer = trained / "runs/tiny", ["--schedule.hold_kimg", "{8: 0.064, 16: 0.128}"]
    assert blastogan("fit", "--config", "tiny.yaml", "--run_dir", "whole", *longer) == 0
    caplog.clear()
    fit = ["fit", "--resume", "--run_dir", run]
    assert blastogan(*fit) == 0
    assert "To train it longer, raise --schedule.hold_kimg" in caplog.text
    assert blastogan(*fit, *longer) == 0
    last = run / "checkpoints/last.ckpt"
    assert weights(last)["blastogan"]["images_shown"] == 256
    assert_same_run(last, Path("whole/checkpoints/last.ckpt"))
    assert read_table(run / "fidelity.csv")[-1]["kimg"] == "0.256"
    # the next resume finds the longer schedule by itself
    caplog.clear()
    assert blastogan(*fit) == 0
    assert "has shown all 256 images" in caplog.text


LONG = "--schedule.hold_kimg=64"


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), Path("output.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ctrl_c_leaves_a_checkpoint_says_how_to_go_on_and_exits_with_130(here):
    process = begin("fit", "--config", "tiny.yaml", LONG)
    last = here / "runs/tiny/checkpoints/last.ckpt"
    wait_for(last.exists, process)
    os.kill(process.pid, signal.SIGINT)
    process.join(120)
    output = Path("output.txt").read_text()
    assert process.exitcode == 130, output
    assert "runs/tiny/checkpoints/last.ckpt; the same command with --resume" in output
    assert "Traceback" not in output
    assert weights(last)["blastogan"]["images_shown"] > 0


def test_ctrl_c_during_validation_keeps_its_metrics_and_the_checkpoint(here):
    write_stop("StopInValidation")
    assert blastogan("fit", "--config", "tiny.yaml", "--config", "stop.yaml") == 130
    run = here / "runs/stop"
    assert weights(run / "checkpoints/last.ckpt")["blastogan"]["images_shown"] == 32
    assert [row["kimg"] for row in read_table(run / "metrics.csv") if row["swd"]] == ["0.032"]


def test_ctrl_c_twice_stops_at_once_and_keeps_the_last_checkpoint(here, capfd, caplog):
    write_stop("StopTwiceAt", images=48)
    assert blastogan("fit", "--config", "tiny.yaml", "--config", "stop.yaml") == 130
    assert "interrupted: stopping after this batch" in caplog.text
    assert "stopped at" not in caplog.text
    assert "Traceback" not in capfd.readouterr().err
    last = here / "runs/stop/checkpoints/last.ckpt"
    assert weights(last)["blastogan"]["images_shown"] == 32


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data.num_phantoms", "61"], "trained on other data: images is 60"),
        (["--seed_everything", "1"], "seed is 0 in the checkpoint and 1 here"),
    ],
)
def test_a_run_goes_on_with_its_own_data_only(args, message, trained, capfd):
    last = trained / "runs/tiny/checkpoints/last.ckpt"
    before = sorted(trained.rglob("*"))
    assert blastogan("fit", "--config", "tiny.yaml", *args, "--ckpt_path", last) == 2
    assert message in capfd.readouterr().err
    assert sorted(trained.rglob("*")) == before


def test_a_run_is_branched_off_but_not_rewound(trained, capfd):
    early = trained / "runs/tiny/checkpoints/phase-00-hold-0008.ckpt"
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    assert blastogan("fit", "--ckpt_path", early) == 2
    message = "at 0.064 kimg, but its run has continued to 0.192 kimg"
    assert message in capfd.readouterr().err
    assert blastogan("fit", "--ckpt_path", early, "--run_dir", "branch") == 0
    assert_same_run("branch/checkpoints/last.ckpt", "runs/tiny/checkpoints/last.ckpt")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_run_can_go_on_with_another_learning_rate(here):
    shorter = ["--config", "tiny.yaml", "--config", "stop.yaml"]
    write_stop(images=88)
    assert blastogan("fit", *shorter) == 130
    last = here / "runs/stop/checkpoints/last.ckpt"
    rate = ["--generator_optimizer.init_args.lr", "0.0005"]
    assert blastogan("fit", "--config", "tiny.yaml", *rate, "--ckpt_path", last) == 0
    generator, discriminator = weights(last)["optimizer_states"]
    assert generator["param_groups"][0]["lr"] == 0.0005
    assert discriminator["param_groups"][0]["lr"] == 0.001
    assert "0.0005" in (here / "runs/stop/config-2.yaml").read_text()
    # from now on, that is the configuration of the run
    assert blastogan("fit", "--ckpt_path", last) == 0
    assert weights(last)["optimizer_states"][0]["param_groups"][0]["lr"] == 0.0005
