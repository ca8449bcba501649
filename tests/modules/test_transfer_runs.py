"""Source checkpoints that are refused, frozen layers, and how such a run resumes."""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from helpers.command import assert_same_run, blastogan, weights
from helpers.small_modules import same_weights
from helpers.sources import NONE, drawn, labels_of, make, saved

from blastogan.errors import UserError
from blastogan.modules.step.freezing import freeze
from blastogan.modules.transfer import (
    TransferOptions,
    check_initialized_from,
    initialize_from,
    layers_to_freeze,
    load_weights,
    read_source,
)

# -- what is refused ------------------------------------------------------------------------------


def test_what_is_no_trained_gan_is_refused(tmp_path):
    path = tmp_path / "some.ckpt"

    def refused(checkpoint, match):
        torch.save(checkpoint, path)
        with pytest.raises(UserError, match=match):
            read_source(path)

    whole = saved(make())
    grader = {"architecture": "GradeClassifier", "images_shown": 5}
    refused(whole | {"blastogan": grader, "state_dict": {}}, "some.ckpt: .* grader")
    refused({"state_dict": {}}, "checkpoint of blastogan")
    refused(whole | {"state_dict": {"generator_ema.x": torch.zeros(1)}}, "has no discriminator")
    refused(saved(make(), shown=0), "never trained")
    refused(
        whole | {"blastogan": {"architecture": "ProGANModule", "alpha": 1.0}},
        "images_shown is missing; .*resolution is missing",
    )
    torch.save(whole, path)
    assert read_source(path)["blastogan"]["images_shown"] == 1000
    with pytest.raises(UserError, match="no checkpoint at"):
        read_source(tmp_path / "none.ckpt")


def test_networks_of_other_widths_are_refused_with_the_widths_to_set():
    new = make(seed=1, channel_base=256, channel_cap=16)
    before = copy.deepcopy(new)
    with pytest.raises(UserError, match=r"channel_base 64 \(now 256\), .*channel_cap 8 \(now 16\)"):
        load_weights(new, saved(make()))
    assert same_weights(new, before)


def test_weights_that_are_not_finite_are_refused_and_nothing_is_changed():
    old, new = make(), make(seed=1)
    old.discriminator.score.weight.data[0, 0] = float("nan")
    before = copy.deepcopy(new)
    with pytest.raises(
        UserError, match=r"not finite \(1 tensors, the first is discriminator.score"
    ):
        load_weights(new, saved(old))
    assert same_weights(new, before)


def test_weights_of_any_shape_start_new():
    checkpoint, new = saved(make(img_channels=3)), make(seed=1, **NONE)
    shapes = [(3,), (2, 2), (1, 8, 1), (0,), ()]
    for n, key in enumerate(sorted(checkpoint["state_dict"])):
        if "conv" not in key and key != "grade_counts":
            checkpoint["state_dict"][key] = torch.ones(shapes[n % len(shapes)])
    transfer = load_weights(new, checkpoint)
    kinds = {
        e.outcome for e in transfer.layers if "rgb" in e.layer or e.layer in ("input", "score")
    }
    assert kinds == {"new"}


def test_other_widths_are_a_warning_with_the_options_to_set(caplog):
    initialize_from(make(seed=1, latent_dim=4), saved(make()), TransferOptions("some.ckpt"))
    assert "set --model.init_args.latent_dim 8 (now 4)" in caplog.text
    caplog.clear()
    initialize_from(make(seed=1), saved(make()), TransferOptions("some.ckpt"))
    assert "other widths" not in caplog.text


# -- freezing -------------------------------------------------------------------------------------


def test_frozen_layers_stay_and_all_others_learn(make_data, make_trainer, caplog):
    old = make(start_resolution=16)
    module = make(seed=1, start_resolution=16)
    with caplog.at_level("INFO"):
        initialize_from(module, saved(old), TransferOptions("some.ckpt", freeze_d=1))
    assert "frozen in the discriminator: blocks.16, from_rgb.16" in caplog.text
    assert "grows from" not in caplog.text
    initialize_from(make(seed=1), saved(make()), TransferOptions("some.ckpt", freeze_d=1))
    assert "--schedule.start_resolution 16" in caplog.text
    before = copy.deepcopy(module.discriminator.state_dict())
    generator, discriminator = module.configure_optimizers()
    module.optimizers = lambda: [generator, discriminator]
    module.manual_backward = lambda loss: loss.backward()
    images_ = (drawn(4, 1, 16, 16) * 50 + 128).clamp(0, 255).to(torch.uint8)
    batch = {"image": images_, "labels": labels_of("AB"), "index": torch.arange(4)}
    for n in range(3):
        module.training_step(batch, n)
    moved = {
        k for k, v in module.discriminator.state_dict().items() if not torch.equal(v, before[k])
    }
    frozen = {key for key in before if key.startswith(("blocks.16.", "from_rgb.16."))}
    assert len(frozen) == 6
    assert moved == before.keys() - frozen
    assert all(not p.requires_grad for p in module.discriminator.blocks["16"].parameters())


def test_only_what_was_taken_over_may_be_frozen():
    new = make(seed=1, resolution=32)
    transfer = load_weights(new, saved(make(start_resolution=16)))
    resolutions = new.discriminator.block_resolutions
    assert layers_to_freeze(resolutions, transfer, 0) == []
    # the layer from images of 8x8 was not there
    assert layers_to_freeze(resolutions, transfer, 2) == [
        "blocks.16",
        "blocks.8",
        "from_rgb.16",
    ]
    with pytest.raises(UserError, match=r"freeze_d is 3: expected 0 to 2, .*16x16, 8x8"):
        layers_to_freeze(resolutions, transfer, 3)
    with pytest.raises(UserError, match="no such layer"):
        freeze(new.discriminator, ["head"])
    with pytest.raises(UserError, match="add --transfer"):
        TransferOptions(freeze_d=1)
    with pytest.raises(UserError, match="0 or more"):
        TransferOptions("some.ckpt", freeze_d=-1)


class SaveAt(pl.Callback):
    def __init__(self, images, path):
        self.images, self.path = images, path

    def on_train_batch_end(self, trainer, module, *args):
        if module.images_shown == self.images:
            trainer.save_checkpoint(self.path)


def test_a_frozen_run_that_is_resumed_ends_bit_equal(make_data, make_trainer, tmp_path):
    middle, origin = tmp_path / "middle.ckpt", saved(make())

    def trained(*callbacks, ckpt=None):
        pl.seed_everything(1)
        module, trainer = make(seed=1), make_trainer(*callbacks)
        if ckpt is None:
            initialize_from(module, origin, TransferOptions("some.ckpt", freeze_d=1))
        trainer.fit(module, make_data(), ckpt_path=ckpt, weights_only=True)
        return module

    whole = trained(SaveAt(60, middle))
    resumed = trained(ckpt=middle)
    assert same_weights(resumed, whole)
    assert resumed.transfer == whole.transfer
    weights = origin["state_dict"]
    for part in ("blocks.16.conv_down.weight", "from_rgb.16.bias"):
        assert torch.equal(
            resumed.discriminator.state_dict()[part], weights[f"discriminator.{part}"]
        )


def test_a_run_is_resumed_with_the_source_that_it_started_from_only():
    began = {"checkpoint": "a.ckpt", "freeze_d": 1, "frozen": []}
    check_initialized_from(TransferOptions("./a.ckpt", 1), {"blastogan": {"transfer": began}})
    check_initialized_from(TransferOptions(), {"blastogan": {"transfer": began}})
    with pytest.raises(UserError, match=r"from a\.ckpt"):
        check_initialized_from(TransferOptions("b.ckpt", 1), {"blastogan": {"transfer": began}})
    with pytest.raises(UserError, match="without a source"):
        check_initialized_from(TransferOptions("a.ckpt"), {"blastogan": {}})
    with pytest.raises(UserError, match="freeze_d"):
        check_initialized_from(TransferOptions("a.ckpt", 2), {"blastogan": {"transfer": began}})


# -- the command line -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_starts_from_another_is_stopped_and_resumes(trained, caplog, capfd):
    first = "runs/tiny/checkpoints/last.ckpt"
    options = ["--transfer.checkpoint", first, "--transfer.freeze_d", 1]
    fit = ["fit", "--config", "tiny.yaml", "--seed_everything", 3, *options]
    whole = ["--model.init_args.conditional", "false", "--run_dir", "whole"]
    assert blastogan(*fit, *whole) == 0
    assert f"starts from the weights of {first}" in caplog.text
    assert "input: of another shape" in caplog.text
    assert "--schedule.start_resolution 16" in caplog.text
    Path("stop.yaml").write_text(
        "trainer: {callbacks: [{class_path: helpers.command.StopAt, init_args: {images: 88}}]}"
    )
    cut = ["--model.init_args.conditional", "false", "--run_dir", "cut"]
    assert blastogan(*fit, *cut, "--config", "stop.yaml") == 130
    caplog.clear()
    assert blastogan(*fit, *cut, "--resume") == 0
    assert "not loaded again" in caplog.text
    assert "starts from" not in caplog.text
    assert_same_run("cut/checkpoints/last.ckpt", "whole/checkpoints/last.ckpt")
    mine, theirs = weights("cut/checkpoints/last.ckpt"), weights(first)
    frozen = "discriminator.blocks.16.conv.weight"
    assert torch.equal(mine["state_dict"][frozen], theirs["state_dict"][frozen])
    # with the configuration of its own
    assert blastogan("fit", "--ckpt_path", "cut/checkpoints/last.ckpt") == 0
    assert blastogan("generate", "cut/checkpoints/last.ckpt", "out", "--grades", "AA:3") == 2
    assert "trained without grades and cannot be asked for any" in capfd.readouterr().err
    assert blastogan("generate", "cut/checkpoints/last.ckpt", "out", "--count", 3) == 0
    with Path("out/metadata.csv").open(encoding="utf-8") as file:
        rows = [(row["folder"], row["filename"], row["grade"]) for row in csv.DictReader(file)]
    assert rows == [("ungraded", f"generated-00000{n}.png", "") for n in range(3)]
    assert all(Path("out", folder, name).is_file() for folder, name, _ in rows)

    assert blastogan(*fit, "--ckpt_path", first) == 2
    assert "without a source checkpoint" in capfd.readouterr().err
    assert blastogan(*fit[:-1], "9") == 2
    assert "freeze_d is 9: expected 0 to 2" in capfd.readouterr().err
