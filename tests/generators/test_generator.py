"""Generators apart from their runs: equal images, sound files, names that ship."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.small_modules import MODULES
from safetensors.torch import load, save, save_file

import blastogan.pretrained
from blastogan import load_generator
from blastogan.errors import UserError
from blastogan.generators.files import CARD, DIGEST, _digest
from blastogan.generators.settings import NETWORKS, OLDER
from blastogan.modules import ARCHITECTURES, load_module

BOTH = pytest.mark.parametrize("name", list(MODULES))
ASKED = {"seed": 3, "batch_size": 3}


@BOTH
@pytest.mark.parametrize(
    "state",
    [
        {"alpha": 0.25},
        {"resolution": 8, "ramp_kimg": [4.0, 8.0]},
        {"conditional": False, "img_channels": 3},
        {"factorised": False, "channels_last": False},
    ],
)
def test_exports_give_the_same_images_in_every_state(name, state, save_checkpoint, export):
    path = save_checkpoint(name, **state)
    module, here = load_module(path), load_generator(path)
    there = load_generator(export(path).parent)
    grades = None if "conditional" in state else "xC"
    expected = module.generate(4, grades, **ASKED)
    for generator in (here, there):
        assert torch.equal(generator.generate(4, grades, **ASKED), expected)
        assert not any(each.requires_grad for each in generator.parameters())
    if name == "stylegan":
        truncated = [each.generate(2, truncation_psi=0.5) for each in (module, there)]
        assert torch.equal(*truncated)
    if grades:
        between = [each.interpolate("AB", "CC", steps=3) for each in (module, there)]
        assert torch.equal(*between)


def test_an_export_needs_neither_lightning_nor_the_run(save_checkpoint, export):
    path = export(save_checkpoint())
    shutil.rmtree(path.parents[1] / "run")
    code = (
        "import sys, torch, time; start = time.process_time()\n"
        f"from blastogan import load_generator; load_generator({str(path)!r}).generate(2)\n"
        "unneeded = {'pytorch_lightning', 'lightning_fabric', 'matplotlib', 'torch._dynamo'}\n"
        "assert not unneeded & {*sys.modules}\n"
        "assert time.process_time() - start < 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_architectures_and_defaults_are_those_of_the_modules():
    assert NETWORKS.keys() == ARCHITECTURES.keys()
    for name, kind in ARCHITECTURES.items():
        module = kind(16, latent_dim=8, channel_base=64, channel_cap=8)
        assert {key: module.hparams[key] for key in OLDER} == OLDER
        assert type(module.generator) is NETWORKS[name].generator
        assert type(module.discriminator) is NETWORKS[name].discriminator


# -- the card -------------------------------------------------------------------------------------


def test_the_card_says_what_is_known(save_checkpoint, export):
    path = save_checkpoint(alpha=0.5, ramp_kimg=[4.0, 8.0])
    content = torch.load(path, weights_only=True)
    content["Data"] = {"source": "phantoms", "fingerprint": "f", "images": 4, "seed": 7}
    torch.save(content, path)
    run = path.parents[1]
    (run / "config.yaml").write_text("seed_everything: 7\n")
    (run / "split.csv").write_text(
        "image,embryo,grade,part\na,a,3AB,train\nb,b,AB,train\nc,c,,train\nd,d,CC,val\n"
    )
    (run / "fidelity.csv").write_text("kimg,extractor,n_fake,fid\n4.0,x,9,8.0\n5.0,x,9,7.5\n")
    test = {"kid": 0.1, "n_fake": 50, "extractor": "x", "classes": {}}
    (run / "fidelity-test-5.json").write_text(
        json.dumps({"kimg": 5.0, "train": test, "held_out": test})
    )
    (run / "fidelity-test-5-2.json").write_text("{")
    written = export(path)
    card = json.loads(written.with_suffix(".json").read_text())
    assert card["trained_on"]["source"] == "phantoms"
    assert card["trained_on"]["parts"] == {"train": 3, "val": 1}
    assert card["trained_on"]["classes"] == {"AB": 2, "not fully graded": 1}
    assert card["classes_shown"] == {"AB": 30, "CC": 10}
    assert card["seed"] == 7
    assert len(card["config"]["blake2b"]) == 40
    assert [(f["against"], f["n_fake"]) for f in card["figures"]] == [
        ("images trained on", 9.0),
        ("images trained on", 50),
        ("held-out images", 50),
    ]
    assert card["training"]["loss"] == "logistic"
    assert card["audit_of_copies"] == "unaudited"
    assert card["licence"] is None
    fade, ramp = card["notes"]
    assert "fade" in fade
    assert "ramp" in ramp
    # the file alone has the short form
    written.with_suffix(".json").unlink()
    assert load_generator(written).card["notes"] == card["notes"]


def test_a_card_of_other_weights_is_not_used(save_checkpoint, export, caplog):
    path = export(save_checkpoint())
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), "weights": {"digest": "x"}}))
    assert "figures" not in load_generator(path).card
    assert "other weights" in caplog.text


# -- damaged and foreign files --------------------------------------------------------------------


def forge(path, change_state=lambda state: None, **card):
    """Write a file as a stranger might, with a digest that is right."""
    state = load(path.read_bytes())
    change_state(state)
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    short = json.loads(header["__metadata__"][CARD])
    del short[DIGEST]
    for key, value in card.items():
        target = short["settings"] if key in short["settings"] and key != "resolution" else short
        target[key] = value
    short[DIGEST] = _digest(json.dumps(short), state)
    save_file(state, path, {CARD: json.dumps(short)})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"architecture": "Other"}, "Other"),
        ({"architecture": None}, "architecture"),
        ({"architecture": "GradeClassifier"}, "GradeClassifier"),
        ({"resolution": 12}, "power of two"),
        ({"resolution": 32}, "resolution is 32"),
        ({"alpha": 7}, "alpha"),
        ({"images_shown": -1}, "images_shown"),
        ({"settings": None}, "hyper_parameters"),
        ({"settings": {}}, "lack"),
        ({"latent_dim": 10**30}, "latent_dim"),
        ({"channel_cap": 4096, "channel_base": 2**20}, "another shape"),
        ({"mapping_layers": 10**6}, "mapping_layers"),
        ({"conditional": "x"}, "conditional"),
        ({"ramp_kimg": 5}, "ramp_kimg"),
        ({"trained_on": "x", "settings": [1]}, "hyper_parameters"),
        ({"change_state": lambda s: s.pop("grade_counts")}, "missing"),
        ({"change_state": lambda s: s.update(grade_counts=-s["grade_counts"])}, "negative"),
        ({"change_state": lambda s: s["generator_ema.w_avg"].fill_(math.nan)}, "not finite"),
        ({"change_state": lambda s: s.update({"generator_ema.x": torch.zeros(1)})}, "unknown"),
    ],
)
def test_a_strangers_file_ends_in_one_message(change, word, save_checkpoint, export):
    path = export(save_checkpoint())
    forge(path, **change)
    with pytest.raises(UserError, match=word):
        load_generator(path)


def test_a_strangers_checkpoint_ends_in_one_message(save_checkpoint):
    path = save_checkpoint()
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["ramp_kimg"] = 5
    torch.save(content, path)
    with pytest.raises(UserError, match="ramp_kimg"):
        load_generator(path)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda data: data[:-9], "damaged"),
        (lambda data: data[:-4] + bytes([data[-4] ^ 1]) + data[-3:], "differs from what was"),
        (lambda data: b"", "damaged"),
        (lambda data: b"\xff" * 100, "damaged"),
        (lambda data: save({"x": torch.zeros(2)}), "no card"),
        (lambda data: save({"x": torch.zeros(2)}, {CARD: "[" * 10**5}), "cannot be read"),
        (lambda data: (2**40).to_bytes(8, "little") + data[8:], "damaged"),
    ],
)
def test_a_damaged_file_ends_in_one_message(damage, word, save_checkpoint, export):
    path = export(save_checkpoint())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=word):
        load_generator(path)


@pytest.mark.parametrize("name", ["model.onnx", "a.safetensors b.safetensors", ""])
def test_a_folder_without_one_file_of_weights_is_refused(name, tmp_path):
    for each in name.split():
        (tmp_path / each).touch()
    with pytest.raises(UserError, match=r"other programs|2 files|no checkpoint"):
        load_generator(tmp_path)


# -- weights that ship ----------------------------------------------------------------------------


def test_names_lead_to_what_ships(save_checkpoint, export, tmp_path, monkeypatch):
    path = export(save_checkpoint())
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(blastogan.pretrained, "FOLDER", shipped)
    with pytest.raises(UserError, match="none are installed"):
        load_generator("phantoms-64")
    for suffix in (".safetensors", ".json"):
        shutil.copy(path.with_suffix(suffix), shipped / f"phantoms-64{suffix}")
    expected = load_generator(path).generate(2)
    # a folder of that name does not hide it
    monkeypatch.chdir(tmp_path)
    Path("phantoms-64").mkdir()
    assert torch.equal(load_generator("phantoms-64").generate(2), expected)
    with pytest.raises(UserError, match="did you mean phantoms-64"):
        load_generator("phantom64")
