"""Damaged, foreign and hostile checkpoints: each ends in one message, and builds nothing."""

from __future__ import annotations

import math

import pytest
import torch

from blastogan.errors import UserError
from blastogan.modules import load_module

GONE = object()


@pytest.fixture
def content(make_module):
    module = make_module("stylegan")
    content = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
    }
    module.on_save_checkpoint(content)
    return content


def load(content, tmp_path):
    torch.save(content, tmp_path / "last.ckpt")
    return load_module(str(tmp_path / "last.ckpt"))


def test_a_sound_one_is_loaded_and_no_random_state_moves(content, tmp_path):
    before = torch.get_rng_state()
    module = load(content, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in module.state_dict().items():
        assert torch.equal(value, content["state_dict"][name])


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("blastogan", "x", "dictionary"),
        ("blastogan/architecture", 8, "architecture"),
        ("blastogan/architecture", "Other", "holds a Other"),
        ("blastogan/images_shown", -8, "images_shown"),
        ("blastogan/images_shown", 1e9, "images_shown"),
        ("blastogan/images_shown", GONE, "images_shown is missing"),
        ("blastogan/resolution", 12, "power of two"),
        ("blastogan/resolution", 32, "resolution is 32"),
        ("blastogan/alpha", math.nan, "alpha"),
        ("blastogan/transfer", [1], "transfer"),
        ("hyper_parameters", GONE, "hyper_parameters is missing"),
        ("hyper_parameters", {}, "weights do not fit"),
        ("hyper_parameters", {1: 2}, "hyper_parameters"),
        ("hyper_parameters/_instantiator", "os.system", "hyper_parameters"),
        ("hyper_parameters/resolution", None, "resolution is None"),
        ("hyper_parameters/latent_dim", 10**30, "latent_dim"),
        ("hyper_parameters/latent_dim", 16384, "another shape"),
        ("hyper_parameters/channel_cap", [8], "channel_cap"),
        ("hyper_parameters/mapping_layers", 10**6, "mapping_layers"),
        ("hyper_parameters/ramp_kimg", 5, "ramp_kimg"),
        ("hyper_parameters/augment", [8], "does not fit a StyleGANModule"),
        ("hyper_parameters/unheard_of", 1, "unheard_of"),
        ("state_dict", [1], "state_dict"),
        ("state_dict", {}, "missing"),
        ("state_dict/more", torch.zeros(3), "unknown"),
        ("state_dict/more", 1.0, "no plain tensors"),
        ("state_dict/grade_counts", GONE, "missing"),
        ("state_dict/grade_counts", torch.zeros(4, 4), "another shape or type"),
        ("state_dict/grade_counts", torch.zeros(4, 4, device="meta"), "no plain tensors"),
        ("state_dict/grade_counts", torch.zeros(4, 4).to_sparse(), "no plain tensors"),
        ("state_dict/grade_counts", torch.zeros(1).expand(10**12), "no plain tensors"),
        ("state_dict/grade_counts", -torch.ones(4, 4).long(), "grade_counts"),
        ("state_dict/discriminator.score.bias", torch.full((1,), math.nan), "diverged"),
        ("pytorch-lightning_version", {}, "version"),
        ("pytorch-lightning_version", "0.1", "version"),
        ("pytorch-lightning_version", GONE, "version"),
        ("callbacks", [1], "callbacks"),
        ("loops", "x", "loops"),
        ("optimizer_states", [1], "optimizer_states"),
        ("epoch", -1, "epoch"),
    ],
)
def test_one_message_says_what_is_wrong(path, value, word, content, tmp_path):
    *way, last = path.split("/")
    place = content
    for key in way:
        place = place[key]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(UserError, match=word) as caught:
        load(content, tmp_path)
    assert len(str(caught.value)) < 600


def test_all_faults_are_listed_at_once(content, tmp_path):
    content["blastogan"].update(alpha=2, images_shown=None)
    content["epoch"] = "x"
    with pytest.raises(UserError, match=r"epoch.*images_shown.*alpha"):
        load(content, tmp_path)
