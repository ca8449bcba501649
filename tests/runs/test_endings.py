"""However a run ends before its schedule does, it says so, and resumes to the end of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
from helpers.command import assert_same_run, blastogan, read_table, weights

from blastogan.callbacks import FidelityCallback
from blastogan.callbacks.stopping import TimeLimit
from blastogan.modules import BaseGANModule

pytestmark = pytest.mark.slow

LAST = Path("cut/checkpoints/last.ckpt")


def fit(*args):
    return blastogan("fit", "--config", "tiny.yaml", "--run_dir", "cut", "--resume", *args)


def shown():
    return weights(LAST)["blastogan"]["images_shown"]


def assert_complete():
    """The run in ``cut`` has all that a run has which was left alone."""
    whole = Path("runs/tiny")
    assert_same_run(LAST, whole / "checkpoints/last.ckpt")
    for table in ("fidelity.csv", "metrics.csv"):
        assert read_table(Path("cut", table)) == read_table(whole / table)
    for pattern in ("samples/*", "checkpoints/phase*", "checkpoints/best*"):
        mine, theirs = (sorted(run.glob(pattern)) for run in (Path("cut"), whole))
        assert [path.name for path in mine] == [path.name for path in theirs]
        if pattern.startswith("samples"):
            assert [p.read_bytes() for p in mine] == [p.read_bytes() for p in theirs]
    best = [weights(run / "checkpoints/best.ckpt") for run in (Path("cut"), whole)]
    assert best[0]["callbacks"]["GrowthCheckpoint"] == best[1]["callbacks"]["GrowthCheckpoint"]


class Killed(Exception):
    pass


@pytest.mark.parametrize("images", [64, 192])
def test_what_follows_the_last_image_of_a_tick_is_owed(images, trained, monkeypatch):
    record, failed = FidelityCallback._record, []

    def fail_once(self, trainer, module, report):
        if module.images_shown == images and not failed:
            failed.append(images)
            raise Killed
        record(self, trainer, module, report)

    monkeypatch.setattr(FidelityCallback, "_record", fail_once)
    with pytest.raises(Killed):
        fit()
    assert fit() == 0
    assert_complete()


def test_a_scheduler_within_a_resumed_tick_waits_for_the_batch(trained):
    Path("stop.yaml").write_text(
        "trainer: {callbacks: [{class_path: helpers.command.StopAt, init_args: {images: 32}}]}"
    )
    assert fit("--config", "stop.yaml") == 130
    assert shown() == 40
    step = BaseGANModule._step_generator

    def stop(module, *args):
        if module.images_shown == 48:
            os.kill(os.getpid(), signal.SIGTERM)
        step(module, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseGANModule, "_step_generator", stop)
        assert fit() == 75
    assert shown() == 56
    assert fit() == 0
    assert_complete()


class Stop(pl.Callback):
    """Asks to stop, as Lightning's callbacks do."""

    def __init__(self, images: int):
        self.images = images

    def on_train_batch_end(self, trainer, module, *args):
        trainer.should_stop |= module.images_shown == self.images


def add(name, **settings):
    Path("stop.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: {name}, init_args: {settings}}}]}}"
    )
    return "--config", "stop.yaml"


@pytest.mark.parametrize(
    ("asking", "reached"),
    [
        (("runs.test_endings.Stop", {"images": 80}), 80),
        (("runs.test_endings.Stop", {"images": 96}), 96),
        (("EarlyStopping", {"monitor": "swd", "stopping_threshold": 9e9}), 32),
    ],
)
def test_a_callback_that_stops_a_run(asking, reached, trained, capfd, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    name, settings = asking
    assert fit(*add(name, **settings)) == 75
    assert "stopped by a callback" in capfd.readouterr().err
    assert shown() == reached
    assert fit() == 0
    assert_complete()


def test_max_time_stops_each_start_and_says_so(trained, capfd, monkeypatch):
    elapsed = [0.0]
    monkeypatch.setattr(TimeLimit, "time_elapsed", lambda self, stage="train": elapsed[0])

    def count(self, trainer, *args):
        elapsed[0] += 1

    monkeypatch.setattr(TimeLimit, "on_train_batch_start", count)
    monkeypatch.setattr(TimeLimit, "on_train_start", lambda *args: elapsed.__setitem__(0, 0.0))
    limit = "--trainer.max_time", "00:00:00:09"
    for reached in (72, 144):
        elapsed[0] = 0.0
        assert fit(*limit) == 75
        assert "max_time" in capfd.readouterr().err
        assert shown() == reached
    elapsed[0] = 0.0
    assert fit(*limit) == 0
    assert_complete()


# in a script, where Lightning ends a run that was told to stop like a finished one
@pytest.mark.parametrize("stop", [{"limit_train_batches": 3}, {"max_time": {"seconds": 0.001}}])
def test_a_script_resumes_to_the_end(stop, make_module, make_data, make_trainer, tmp_path, caplog):
    last = tmp_path / "run/checkpoints/last.ckpt"
    make_trainer(**stop).fit(make_module(), make_data())
    assert "before the end of its schedule" in caplog.text
    for _ in range(2 if "max_time" in stop else 1):
        module = make_module()
        make_trainer().fit(module, make_data(), ckpt_path=last, weights_only=True)
    assert module.images_shown == 160


def test_max_time_stops_a_grader_after_an_epoch(here, monkeypatch, capfd):
    grader = (
        "grade", "fit", "--data.num_phantoms=60", "--data.resolution=32",
        "--data.epoch_kimg=0.032", "--data.batch_size=16", "--trainer.accelerator=cpu",
        "--trainer.max_epochs=2", "--resume",
    )  # fmt: skip
    started = []
    monkeypatch.setattr(TimeLimit, "on_train_batch_start", lambda *args: started.append(1))
    monkeypatch.setattr(TimeLimit, "time_elapsed", lambda *args: 9.0 * len(started))
    assert blastogan(*grader, "--trainer.max_time=00:00:00:05") == 75
    assert "1 of 2 epochs" in capfd.readouterr().err
    assert blastogan(*grader) == 0
    assert weights("runs/grader/checkpoints/last.ckpt")["blastogan"]["images_shown"] == 64
