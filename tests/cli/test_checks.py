"""Options that cannot train are refused by one message, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command import blastogan
from pytorch_lightning import Trainer

from blastogan.cli.checks import check_trainer
from blastogan.errors import UserError

NONE_HELD = "--data.val_fraction=0", "--data.test_fraction=0"
TINY_GRADER = "--data.num_phantoms=60", "--data.resolution=32", "--trainer.accelerator=cpu"


def build(**settings):
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16-true"},
        {"precision": "16-true"},
        {"precision": 64},
        {"val_check_interval": 0.5},
        {"limit_train_batches": 0.5},
        {"strategy": "ddp_spawn", "devices": 2},
        {"strategy": "ddp_fork", "devices": 2},
    ],
    ids=str,
)
def test_a_trainer_that_would_fail_in_the_first_step_is_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        check_trainer(build(**settings))


@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "bf16-mixed"}, {"precision": "16"}, {"strategy": "ddp", "devices": 2}],
    ids=str,
)
def test_a_trainer_that_works_is_not_refused(settings):
    check_trainer(build(**settings))


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["fit", "--config=tiny.yaml", "--trainer.precision=64-true"], "precision"),
        (["grade", "fit", *TINY_GRADER, "--trainer.precision=bf16-true"], "precision"),
        (["fit", "--config=tiny.yaml", "--trainer.strategy=fsdp"], "fsdp"),
        (["fit", "--config=tiny.yaml", "--trainer.barebones=true"], "barebones"),
        (["fit", "--config=tiny.yaml", "--trainer.logger=MLFlowLogger"], "mlflow"),
        (["fit", "--config=tiny.yaml", "--data.num_phantoms=1", *NONE_HELD], "training part"),
        (["fit", "--config=tiny.yaml"], "ntasks"),
    ],
)
def test_a_command_leaves_one_message_and_no_folder(args, word, here, capfd, monkeypatch):
    if word == "ntasks":
        job = {"JOB_ID": "1", "NTASKS": "2", "JOB_NAME": "t", "NODELIST": "n"}
        for name in ("PROCID", "LOCALID", "NODEID"):
            job[name] = "0"
        for name, value in job.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
    assert blastogan(*args) == 2
    (message,) = [line for line in capfd.readouterr().err.splitlines() if "blastogan: " in line]
    assert word in message
    assert [path.name for path in Path().iterdir()] == ["tiny.yaml"]
