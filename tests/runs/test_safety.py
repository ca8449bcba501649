"""Checkpoints and configurations of strangers: nothing of them runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from helpers.command import blastogan, weights

from blastogan import ProGANModule
from blastogan.errors import UserError

pytestmark = pytest.mark.slow


class Intruder:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch intruded",)


@pytest.fixture
def hostile(trained):
    """A checkpoint of ours, in its run, with an intruder among what it holds."""
    path = Path("runs/tiny/checkpoints/last.ckpt")
    content = weights(path)
    content["callbacks"]["RandomState"]["python"] = Intruder()
    path.unlink()
    torch.save(content, path)
    return path


def test_the_intruder_would_run_if_it_were_let(hostile):
    torch.load(hostile, weights_only=False)
    assert Path("intruded").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("fit", "--ckpt_path", "{}", "--run_dir", "new"),
        ("test", "--ckpt_path", "{}"),
        ("validate", "--config", "tiny.yaml", "--ckpt_path", "{}"),
        ("predict", "--ckpt_path", "{}"),
        ("generate", "{}", "OUT"),
        ("grade", "test", "--ckpt_path", "{}"),
        ("evaluate", "IMAGES", "{}"),
        ("evaluate", "IMAGES", "IMAGES", "--extractor", "grader", "--weights", "{}"),
    ],
    ids=lambda args: " ".join(arg for arg in args if arg.isalpha() and arg.islower()),
)
def test_a_hostile_checkpoint_is_refused_and_does_not_run(args, hostile, capfd):
    blastogan("phantom", "IMAGES", "--count", 4, "--resolution", 16)
    capfd.readouterr()
    assert blastogan(*(arg.format(hostile) for arg in args)) == 2
    said = capfd.readouterr().err
    assert "contains more than tensors and plain values" in " ".join(said.split())
    assert "Traceback" not in said
    assert not Path("intruded").exists()


def test_a_hostile_checkpoint_is_passed_over_by_resume(hostile, caplog):
    assert blastogan("fit", "--config", "tiny.yaml", "--resume") == 0
    assert "last.ckpt is damaged; used instead" in caplog.text
    assert not Path("intruded").exists()


def test_a_hostile_checkpoint_is_refused_in_python(hostile):
    with pytest.raises(UserError, match="contains more than tensors"):
        ProGANModule.load_from_checkpoint(hostile)
    assert not Path("intruded").exists()


INTRUDER = "{class_path: subprocess.Popen, init_args: {args: [touch, intruded]}}"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (f"model: {INTRUDER}", "BaseGANModule"),
        (f"trainer: {{callbacks: [{INTRUDER}]}}", "Callback"),
        (f"trainer: {{logger: [{INTRUDER}]}}", "Logger"),
        (f"trainer: {{strategy: {INTRUDER}}}", "Strategy"),
        (f"trainer: {{profiler: {INTRUDER}}}", "Profiler"),
        (f"trainer: {{plugins: [{INTRUDER}]}}", "Precision"),
        (f"generator_optimizer: {INTRUDER}", "Optimizer"),
        (f"data: {{augment: [{INTRUDER}]}}", "albumentations"),
    ],
    ids=lambda text: text if text.isalpha() else "",
)
def test_a_class_of_another_kind_is_refused_by_message(config, expected, here, capfd):
    Path("hostile.yaml").write_text(config + "\n")
    assert blastogan("fit", "--config", "tiny.yaml", "--config", "hostile.yaml") == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert expected in said
    assert "Popen" in said
    assert not Path("intruded").exists()
    assert not Path("runs").exists()
