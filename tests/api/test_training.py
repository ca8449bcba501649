from __future__ import annotations

import logging
import signal
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from helpers.command import assert_same_run

import blastogan
from blastogan.api import training
from blastogan.api.training import arguments
from blastogan.callbacks import default_callbacks
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.runs.loggers import CSVLog
from blastogan.utils.quiet import LOGGERS


@pytest.mark.parametrize(
    ("name", "value", "argument"),
    [
        ("schedule__final_resolution", 16, "--schedule.final_resolution=16"),
        ("model__init_args__r1_gamma", np.float32(0.5), "--model.init_args.r1_gamma=0.5"),
        ("schedule__batch_size", {8: np.int64(16)}, '--schedule.batch_size={"8": 16}'),
        ("model__ramp_kimg", (1, 2.5), "--model.ramp_kimg=[1, 2.5]"),
        ("scale_batch", True, "--scale_batch=true"),
        ("data__embryo_pattern", r"(E\d+)_", r"--data.embryo_pattern=(E\d+)_"),
        ("transfer__checkpoint", Path("a") / "b.ckpt", f"--transfer.checkpoint={Path('a/b.ckpt')}"),
        ("trainer__max_time", None, "--trainer.max_time=null"),
        ("schedule", GrowthSchedule(8, 8), None),
    ],
)
def test_options_are_those_of_the_command_line(name, value, argument):
    (found,) = arguments({}, {name: value})
    assert found == argument or (argument is None and '"final_resolution": 8,' in found)


def test_all_wrong_options_are_named_at_once():
    options = {"data__root": "b", "dry_run": True, "model__help": True, "data__columns": object()}
    with pytest.raises(UserError) as error:
        arguments({"data.root": "a"}, options)
    assert all(
        name in str(error.value) for name in ("data.root", "dry_run", "model.help", "object")
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule__final_resolutoin": 8}, "mean --schedule.final_resolution"),
        ({"samples__rows": "many"}, "samples.rows"),
        ({"trainer__max_epochs": 1}, "hold_kimg"),
    ],
)
def test_wrong_use_is_an_error_of_python_and_writes_nothing(here, options, message):
    with pytest.raises(UserError, match=message):
        blastogan.train("tiny.yaml", **options)
    assert [path.name for path in here.iterdir()] == ["tiny.yaml"]


def settings_of_the_process():
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    loggers = [logging.getLogger(name) for name in ("", "blastogan", *LOGGERS)]
    return handlers, [(each.level, each.handlers[:]) for each in loggers], warnings.filters[:]


def test_runs_in_any_thread_equal_the_command_and_change_no_settings(trained, monkeypatch):
    # a command has run in this process
    for name in LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    warnings.simplefilter("default")
    before, runs = settings_of_the_process(), []
    runs.append(blastogan.train("tiny.yaml"))
    thread = threading.Thread(target=lambda: runs.append(blastogan.train("tiny.yaml")))
    thread.start()
    thread.join()
    assert settings_of_the_process() == before
    assert [run.folder for run in runs] == [Path("runs/tiny-2"), Path("runs/tiny-3")]
    for run in runs:
        assert run.finished
        assert_same_run(run.checkpoint, trained / "runs/tiny/checkpoints/last.ckpt")
    with pytest.raises(UserError, match="overwritten"):
        blastogan.train("tiny.yaml", run_dir=runs[0].folder)
    images = runs[0].generator.generate(2, grade="AB")
    assert [picture.size for picture in blastogan.to_pil(images)] == [(16, 16)] * 2


def test_only_one_run_trains_in_a_process_at_a_time(here, monkeypatch):
    with training._one_at_a_time, pytest.raises(UserError, match="another run"):
        blastogan.train("tiny.yaml")


def test_a_stopped_run_is_open_and_continues(trained):
    run = blastogan.train("tiny.yaml", run_dir="run", trainer__max_time="00:00:00:00")
    assert not run.finished
    stop = {"class_path": "helpers.command.StopAt", "init_args": {"images": 96}}
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        blastogan.train("tiny.yaml", run_dir="run", resume=True, trainer__callbacks=[stop])
    assert not blastogan.open_run("run").finished
    # the configuration of the run, which has the callback too
    run = blastogan.train(run_dir="run", resume=True)
    assert run.finished
    assert_same_run(run.checkpoint, trained / "runs/tiny/checkpoints/last.ckpt")


def test_a_script_with_the_default_callbacks_equals_the_command(trained):
    schedule = blastogan.open_run("runs/tiny").schedule
    pl.seed_everything(0)
    data = blastogan.BlastocystDataModule(schedule, num_phantoms=60, phantom_counts="balanced")
    sizes = {"latent_dim": 8, "channel_base": 64, "channel_cap": 8}
    module = blastogan.ProGANModule(resolution=16, start_resolution=8, **sizes)
    trainer = pl.Trainer(
        max_epochs=schedule.total_ticks,
        accelerator="cpu",
        default_root_dir="script",
        logger=CSVLog("script"),
        num_sanity_val_steps=0,
        callbacks=default_callbacks(schedule, samples={"rows": 1}, fidelity=None),
    )
    trainer.fit(module, data)
    run, command = blastogan.open_run("script"), blastogan.open_run("runs/tiny")
    assert_same_run(run.checkpoint, command.checkpoint)
    # without a configuration, of the checkpoint
    assert run.schedule == schedule
    assert run.finished
    assert run.samples().tobytes() == command.samples().tobytes()
    assert run.metrics.column("swd") == command.metrics.column("swd")
