"""Configurations found in a run folder: nothing of a stranger's is imported, called or followed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from helpers.command import blastogan

from blastogan.cli.found import check_found, place_of_run
from blastogan.errors import ProblemList
from blastogan.runs.trust import remember

SOUND = {
    "run_dir": "/elsewhere/run",
    "wandb": "off",
    "trainer": {
        "accelerator": "auto",
        "strategy": "growing_ddp",
        "default_root_dir": "/elsewhere/run",
        "callbacks": [
            {"class_path": "pytorch_lightning.callbacks.Timer", "init_args": {"duration": "1"}},
            {"class_path": "blastogan.callbacks.SplitRecord"},
            "RichProgressBar",
        ],
    },
    "model": {"class_path": "blastogan.ProGANModule", "init_args": {"latent_dim": 8}},
    "data": {
        "root": "images",
        "embryo_pattern": r"(\d+)/.*",
        "grade_pattern": r"/(?P<embryo>[^/]+)/day5\.(?P<grade>..)",
        "grade_map": "4.0=AB,../x=ND",
        "augment": [{"class_path": "albumentations.Rotate", "init_args": {"limit": 10}}],
    },
    "schedule": {"hold_kimg": {"8": 0.3, 16: 0.3}},
    "generator_optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}},
    "discriminator_optimizer": {"class_path": "torch.optim.adamw.AdamW"},
}  # fmt: skip
POPEN = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "intruded"]}}
LAMBDA = {
    "class_path": "pytorch_lightning.callbacks.LambdaCallback",
    "init_args": {"setup": "os.system"},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "images").mkdir(parents=True)
    monkeypatch.chdir(run)
    return run


def write(run, *changes):
    config = copy.deepcopy(SOUND)
    for option, value in changes:
        *way, last = option.split("/")
        place = config
        for key in way:
            place = place.setdefault(key, {})
        place[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run / "config.yaml"


def test_known_classes_and_files_of_the_run_are_taken(run):
    check_found(write(run))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model", POPEN),
        ("model", "model.yaml"),
        ("model/class_path", "evil.ProGANModule"),
        ("model/init_args/generator_optimizer", POPEN),
        ("model/init_args/generator_optimizer.class_path", "os.system"),
        ("model.class_path", "os.system"),
        ("generator_optimizer", POPEN),
        ("generator_optimizer/class_path", "torch.optim.lr_scheduler.LambdaLR"),
        ("generator_optimizer/dict_kwargs", {"lr": 1}),
        ("trainer", "/etc/passwd"),
        ("trainer/callbacks", [LAMBDA]),
        ("trainer/callbacks", LAMBDA),
        ("trainer/callbacks", ["os.system"]),
        ("trainer/callbacks", ["helpers.command.StopAt"]),
        ("trainer/callbacks+", ["helpers.command.StopAt"]),
        ("trainer/logger", [{"class_path": "pytorch_lightning.loggers.CSVLogger"}]),
        ("trainer/profiler", POPEN),
        ("trainer/strategy", "helpers.command.StopAt"),
        ("trainer/accelerator", POPEN),
        ("data", {"class_path": "helpers.command.StopAt"}),
        ("data/root", "/"),
        ("data/root", "../other"),
        ("data/cache_dir", "~/cache"),
        ("data/split_file", "/etc/passwd"),
        ("data/schedule", "somewhere.yaml"),
        ("data/augment", "../flips.yaml"),
        (
            "data/augment",
            [{"class_path": "albumentations.FDA", "init_args": {"images": ["/1.png"]}}],
        ),
        ("schedule/hold_kimg", "../hold.yaml"),
        ("fidelity/weights", "../weights.pth"),
        ("fidelity/weights", "a\0b"),
        ("transfer/checkpoint", "/other/last.ckpt"),
        ("samples", "/samples.yaml"),
        ("config", "/other.yaml"),
        ("ckpt_path", "/other.ckpt"),
    ],
)
def test_all_else_is_refused_by_name(option, value, run):
    (run / "a").mkdir()
    with pytest.raises(ProblemList) as caught:
        check_found(write(run, (option, value)))
    (problem,) = caught.value.problems
    assert option.replace("/", ".") in problem
    assert "--config" in str(caught.value)


def test_a_value_that_is_typed_is_the_users(run):
    path = write(run, ("data/root", "/"), ("fidelity/weights", "/w.pth"))
    with pytest.raises(ProblemList) as caught:
        check_found(path, {"--data.root"})
    assert len(caught.value.problems) == 1
    # a class would be imported before the value that is typed replaces it
    with pytest.raises(ProblemList, match="LambdaCallback"):
        check_found(write(run, ("trainer/callbacks", [LAMBDA])), {"--trainer.callbacks"})


def test_what_a_run_of_ones_own_has_written_is_trusted_until_it_changes(run):
    path = write(run, ("trainer/callbacks", [LAMBDA]))
    remember(path)
    check_found(path)
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ProblemList, match="LambdaCallback"):
        check_found(path)


def test_a_run_is_where_it_is_found(run):
    assert place_of_run(write(run)) == ["--run_dir=null", "--trainer.default_root_dir=null"]
    trainer = ("trainer/default_root_dir", None)
    assert place_of_run(write(run, ("run_dir", str(run)), trainer)) == []
    assert place_of_run(write(run, ("run_dir", "a\0b"), trainer)) == ["--run_dir=null"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ("fit", "--ckpt_path", "{}/checkpoints/last.ckpt", "--run_dir", "new"),
        ("fit", "--resume", "--run_dir", "{}"),
        ("fit", "--config", "tiny.yaml", "--recipe", "--resume", "--run_dir", "{}"),
        ("test", "--ckpt_path", "{}/checkpoints/last.ckpt"),
        ("predict", "--ckpt_path", "{}/checkpoints/last.ckpt"),
    ],
)
def test_no_command_runs_what_lies_beside_a_checkpoint(args, trained, capfd):
    config = trained / "runs/tiny/config.yaml"
    hostile = {"class_path": "helpers.command.Intruder"}
    content = yaml.safe_load(config.read_text())
    content["trainer"]["callbacks"] = [hostile]
    config.write_text(yaml.safe_dump(content))
    assert blastogan(*(arg.format("runs/tiny") for arg in args)) == 2
    assert "helpers.command.Intruder" in capfd.readouterr().err
    assert not Path("new").exists()
