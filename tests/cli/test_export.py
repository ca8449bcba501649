"""``blastogan export``, and the commands that use what it writes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from helpers.command import blastogan
from helpers.small_modules import MODULES
from helpers.sources import make, saved

from blastogan import pretrained
from blastogan.cli import TOOLS
from blastogan.errors import UserError
from blastogan.modules import GradeClassifier
from blastogan.modules.transfer import TransferOptions, initialize_from, read_source


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a checkpoint, ``last.ckpt``, whose growth is in the middle of a fade."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "shipped")
    torch.save(saved(make("stylegan"), alpha=0.5), "last.ckpt")
    return tmp_path


def pictures(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*.png")}


def test_checkpoint_export_and_name_give_the_same_files(here, caplog):
    audit = {"copies": 0}
    Path("audit.json").write_text(json.dumps(audit))
    given = ["--licence", "CC-BY-4.0", "--note", "made by hand", "--audit-of-copies", "audit.json"]
    with caplog.at_level(logging.WARNING, "blastogan"):
        assert blastogan("export", "last.ckpt", "out", *given) == 0
    assert "fade" in caplog.text
    card = json.loads(Path("out/generator.json").read_text())
    assert (card["licence"], card["stated"]) == ("CC-BY-4.0", ["made by hand"])
    assert card["audit_of_copies"] == audit
    Path("shipped").mkdir()
    shutil.copy("out/generator.safetensors", "shipped/small.safetensors")
    sources = "last.ckpt", "out", "out/generator.safetensors", "small"
    for n, source in enumerate(sources):
        assert blastogan("generate", source, f"images-{n}", "--grades", "AB:2,DD:1") == 0
    first, *others = (pictures(f"images-{n}") for n in range(len(sources)))
    assert len(first) == 3
    assert all(each == first for each in others)
    # an export can be exported again
    assert blastogan("export", "small", "again") == 0
    assert (
        Path("again/generator.safetensors").read_bytes()
        == Path("out/generator.safetensors").read_bytes()
    )


@pytest.mark.parametrize("with_discriminator", [False, True])
@pytest.mark.parametrize("name", list(MODULES))
def test_a_run_starts_from_an_export(name, with_discriminator, here, caplog):
    source, new = make(name), make(name, seed=1)
    torch.save(saved(source), "last.ckpt")
    flags = ["--with-discriminator"] if with_discriminator else []
    assert blastogan("export", "last.ckpt", "out", *flags) == 0
    before = new.discriminator.blocks["16"].conv.weight.clone()
    with caplog.at_level(logging.WARNING, "blastogan"):
        initialize_from(new, read_source("out"), TransferOptions("out"))
    for key, value in source.generator_ema.state_dict().items():
        assert torch.equal(new.generator.state_dict()[key], value)
    taken = source.discriminator.blocks["16"].conv.weight if with_discriminator else before
    assert torch.equal(new.discriminator.blocks["16"].conv.weight, taken)
    assert ("no discriminator" in caplog.text) is not with_discriminator


def test_a_generator_of_another_architecture_leaves_nothing_to_start_from(here):
    assert blastogan("export", "last.ckpt", "out") == 0
    with pytest.raises(UserError, match="no block of the checkpoint fits"):
        initialize_from(make("progan"), read_source("out"), TransferOptions("out"))


def test_a_grader_can_be_handed_on(here):
    grader = GradeClassifier(resolution=32)
    content = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": grader.state_dict(),
        "hyper_parameters": dict(grader.hparams),
    }
    grader.on_save_checkpoint(content)
    torch.save(content, "best.ckpt")
    assert blastogan("export", "best.ckpt", "out") == 0
    loaded = GradeClassifier.load_from_checkpoint("out/grader.safetensors")
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(loaded.features(images), grader.eval().features(images))
    assert blastogan("generate", "out", "images") == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["last.ckpt", "out", "--opset", "18"], "--opset is for onnx"),
        (["last.ckpt", "out", "--noise", "off"], "--noise"),
        (["last.ckpt", "out", "--format", "onnx", "--with-discriminator"], "safetensors"),
        (["last.ckpt", "out", "--format", "onnx", "--opset", "3"], "opset is 3"),
        (["last.ckpt", "out", "--audit-of-copies", "none.json"], "none.json"),
        (["last.ckpt", "last.ckpt/out"], "last.ckpt"),
        (["nothing", "out"], "nothing"),
        (["last.ckpt", "."], "not empty"),
    ],
)
def test_wrong_use_is_one_message_and_writes_nothing(arguments, word, here, capsys):
    assert blastogan("export", *arguments) in (1, 2)
    text = capsys.readouterr().err
    assert word in text
    assert "Traceback" not in text
    assert not Path("out").exists() or not any(Path("out").iterdir())


def test_the_command_is_listed():
    assert "export" in TOOLS
