"""Grades in training: soft and factorised labels, the ramp, two heads of D, labels of fakes."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import pytest
import torch
from PIL import Image

from blastogan.__main__ import main
from blastogan.errors import UserError
from blastogan.generators.latents import balanced_labels, grade_labels, labels_between
from blastogan.grades import CLASSES, LABEL_SIZES, Grade, classes_of, parse_grade_counts
from blastogan.modules.step.heads import mean_logit, over_heads
from blastogan.networks.conditioning import LabelEmbedding, check_labels, soft_labels

BOTH = pytest.mark.parametrize("name", ["progan", "stylegan"])
PAIRS = torch.tensor(list(product(range(4), repeat=2)))


# -- embeddings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factorised", [True, False])
def test_one_hot_labels_are_embedded_like_labels(factorised):
    embedding = LabelEmbedding(LABEL_SIZES, 8, factorised=factorised)
    soft = soft_labels(PAIRS, LABEL_SIZES)
    torch.testing.assert_close(embedding(soft), embedding(PAIRS))
    half = (soft[3:4] + soft[9:10]) / 2
    expected = (embedding(PAIRS[3:4]) + embedding(PAIRS[9:10])) / 2
    torch.testing.assert_close(embedding(half), expected)


def test_factorised_embeddings_add_up_and_others_do_not():
    def excess(factorised):
        torch.manual_seed(0)
        embedding = LabelEmbedding(LABEL_SIZES, 8, factorised=factorised)
        aa, ab, ba, bb = embedding(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]))
        return float((aa - ab - ba + bb).detach().abs().max())

    assert excess(True) == pytest.approx(0.0, abs=1e-6)
    assert excess(False) > 0.1


def test_both_kinds_start_with_unit_variance():
    for factorised in (True, False):
        embedding = LabelEmbedding(LABEL_SIZES, 4000, factorised=factorised)
        assert embedding(PAIRS).std().item() == pytest.approx(1.0, abs=0.05)


def test_soft_labels_of_another_size_are_refused():
    check_labels(torch.rand(3, 16), LABEL_SIZES, 3)
    with pytest.raises(UserError, match=r"labels have shape \(3, 10\)"):
        check_labels(torch.rand(3, 10), LABEL_SIZES, 3)


# -- the ramp ------------------------------------------------------------------------------------


@BOTH
def test_the_condition_weight_follows_the_ramp(name, make_module):
    module = make_module(name, ramp_kimg=[0.1, 0.3])
    labels = torch.tensor(Grade.parse("AA").labels).repeat(4, 1)
    others = torch.tensor(Grade.parse("DD").labels).repeat(4, 1)

    def difference(images_shown):
        module.images_shown = images_shown
        one, other = (module.sample(range(4), each, seed=0).float() for each in (labels, others))
        return (one - other).abs().mean().item()

    assert [difference(shown) for shown in (0, 100)] == [0.0, 0.0]
    assert 0 < difference(150) < difference(300)
    assert difference(300) == difference(5000)
    weights = []
    for shown in (0, 100, 150, 300, 900):
        module.images_shown = shown
        weights.append(module.condition_weight)
    assert weights == pytest.approx([0.0, 0.0, 0.25, 1.0, 1.0])


def test_without_a_ramp_the_grade_counts_in_full_and_d_has_one_head(make_module):
    module = make_module()
    assert module.condition_weight == 1.0
    assert module.discriminator.score_unconditional is None


@pytest.mark.parametrize("ramp", [[1.0], [3.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])
def test_an_impossible_ramp_is_refused(ramp, make_module):
    with pytest.raises(UserError, match="ramp_kimg"):
        make_module(ramp_kimg=ramp)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ramp_kimg": [1.0, 2.0], "conditional": False}, "conditional"),
        ({"ramp_kimg": [1.0, 2.0], "loss": "wgan"}, "wgan"),
        ({"ramp_kimg": [1.0, 2.0], "fake_labels": "balanced"}, "data.balance"),
        ({"fake_labels": "balanced", "conditional": False}, "conditional"),
        ({"augment_p": 0.5}, "augment_p"),
    ],
)
def test_contradicting_settings_are_refused(settings, message, make_module):
    with pytest.raises(UserError, match=message):
        make_module(**settings)


def test_a_ramp_that_ends_after_the_schedule_warns(make_module, make_data, make_trainer, caplog):
    make_trainer(max_epochs=1).fit(make_module(ramp_kimg=[0.0, 0.16]), make_data())
    assert "ends after the schedule" not in caplog.text
    make_trainer(max_epochs=1, folder="late").fit(make_module(ramp_kimg=[0.0, 0.2]), make_data())
    assert "80 %" in caplog.text


def test_changing_a_ramp_at_a_resume_warns(make_module, caplog):
    saved = make_module(ramp_kimg=[0.1, 0.3])
    saved.images_shown = 200
    checkpoint = {"hyper_parameters": dict(saved.hparams), "state_dict": saved.state_dict()}
    saved.on_save_checkpoint(checkpoint)
    make_module(ramp_kimg=[0.1, 0.3]).on_load_checkpoint(dict(checkpoint))
    assert "ramp_kimg" not in caplog.text
    make_module(ramp_kimg=[0.1, 0.5]).on_load_checkpoint(dict(checkpoint))
    assert "from [0.1, 0.3] to [0.1, 0.5]: at 0.2 kimg" in caplog.text
    assert "25 %" in caplog.text


# -- two heads -----------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_the_heads_by_weight():
    logits = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    assert over_heads(torch.mean, 0.0, logits) == 2.0
    assert over_heads(torch.mean, 1.0, logits) == 4.0
    assert over_heads(torch.mean, 0.5, logits) == pytest.approx((2.0 + 0.5 * 6.0) / 1.5)
    assert torch.equal(mean_logit(logits, 1.0), torch.tensor([3.0, 5.0]))
    assert torch.equal(mean_logit(logits[:, 0], 0.3), logits[:, 0])


@BOTH
def test_without_the_grade_only_the_unconditional_head_learns(name, make_module, make_data):
    module = make_module(name, ramp_kimg=[0.1, 0.2], r1_interval=1000)
    images = torch.rand(4, 1, 16, 16)
    labels = torch.zeros(4, 2, dtype=torch.int64)
    module.images_shown = 50
    heads = module.discriminator(images, labels)
    assert heads.shape == (4, 2)
    torch.testing.assert_close(module.score(images, labels), heads[:, 0])
    mean_logit(heads, module.condition_weight).sum().backward()
    assert module.discriminator.embedding.parts[0].weight.grad.abs().sum() == 0
    assert module.discriminator.score_unconditional.weight.grad.abs().sum() > 0
    module.images_shown = 200
    mean_logit(module.discriminator(images, labels), module.condition_weight).sum().backward()
    assert module.discriminator.embedding.parts[0].weight.grad.abs().sum() > 0


# -- labels of fakes -----------------------------------------------------------------------------


def test_balanced_labels_are_uniform_over_the_grades_seen():
    counts = torch.zeros(4, 4, dtype=torch.int64)
    counts[0, 0], counts[1, 2], counts[3, 3] = 900, 1, 30
    labels = balanced_labels(counts, torch.linspace(0, 1, 3001)[:-1])
    found, number = torch.unique(labels, dim=0, return_counts=True)
    assert found.tolist() == [[0, 0], [1, 2], [3, 3]]
    assert number.tolist() == [1000, 1000, 1000]


def test_unknown_fake_labels_are_refused(make_module):
    with pytest.raises(UserError, match="fake_labels"):
        make_module(fake_labels="random")


# -- grades to generate ---------------------------------------------------------------------------


def test_a_letter_stands_for_the_classes_that_have_it():
    assert classes_of("Ax") == ("AA", "AB", "AC")
    assert classes_of("xc") == ("AC", "BC", "CC")
    assert classes_of("Dx") == ("DD",)
    assert classes_of("ba") == ("BA",)
    for wrong in ("xx", "Ex", "AE", "x"):
        with pytest.raises(UserError, match="unknown grade"):
            classes_of(wrong)


def test_counts_of_a_letter_follow_the_class_distribution():
    weights = {"AA": 30, "AB": 10, "BB": 100}
    assert parse_grade_counts("Ax:8", None, weights) == {"AA": 6, "AB": 2}
    assert parse_grade_counts("Ax:8,AA:2", 10, weights) == {"AA": 8, "AB": 2}
    # no image of the data has it
    assert parse_grade_counts("Cx:3", None, weights) == {"CA": 1, "CB": 1, "CC": 1}
    with pytest.raises(UserError, match="name Ax twice"):
        parse_grade_counts("Ax:8,Ax:2", None, weights)


def test_grades_of_a_letter_are_drawn_from_its_classes():
    weights = dict.fromkeys(CLASSES, 1.0) | {"AA": 3.0}
    labels = grade_labels(1000, "Ax", 0, weights)
    assert labels[:, 0].tolist() == [0] * 1000
    shares = torch.bincount(labels[:, 1]) / 1000
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.2, 0.2]), atol=0.05, rtol=0)
    assert torch.equal(labels[:10], grade_labels(1000, "Ax", 0, weights)[:10])
    assert grade_labels(2, "Dx", 0, weights).tolist() == [[3, 3]] * 2


def test_labels_between_begin_and_end_at_the_grades():
    labels = labels_between("AA", "CB", 5)
    assert labels.shape == (5, 16)
    assert torch.equal(labels.sum(dim=1), torch.ones(5))
    assert labels[0, 0] == 1
    assert labels[4, 2 * 4 + 1] == 1
    assert labels[1, 0] == 0.75
    with pytest.raises(UserError, match="steps is 1"):
        labels_between("AA", "CB", 1)


@BOTH
def test_interpolation_begins_and_ends_with_what_is_generated(name, make_module):
    module = make_module(name)
    images = module.interpolate("AA", "DD", steps=4, count=3, seed=5)
    assert images.shape == (3, 4, 1, 16, 16)
    for step, grade in ((0, "AA"), (3, "DD")):
        expected = module.generate(3, grade, seed=5)
        assert (images[:, step].int() - expected.int()).abs().max() <= 1
    assert not torch.equal(images[:, 0], images[:, 1])


def test_interpolation_needs_grades(make_module):
    with pytest.raises(UserError, match="trained without them"):
        make_module(conditional=False).interpolate("AA", "BB")


@pytest.mark.slow
def test_the_command_generates_by_letter_and_between(trained, capsys):
    checkpoint = "runs/tiny/checkpoints/last.ckpt"
    assert main(["generate", checkpoint, "letters", "--grades", "Ax:3,xB:2"]) == 0
    with Path("letters/metadata.csv").open(encoding="utf-8") as file:
        grades = [row["grade"] for row in csv.DictReader(file)]
    assert len(grades) == 5
    assert sum(grade[0] == "A" for grade in grades) >= 3
    assert main(["generate", checkpoint, "path", "--between", "AA", "CC", "--steps", "3"]) == 0
    with Path("path/between.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert [row["share"] for row in rows[:3]] == ["0", "0.5", "1"]
    assert all(Image.open(f"path/{row['filename']}").size == (16, 16) for row in rows)
    assert Image.open("path/from-AA-to-CC.png").width > 3 * 96
    assert main(["generate", checkpoint, "no", "--between", "AA", "XY"]) == 2
    assert "unknown grade 'XY'" in capsys.readouterr().err
    assert main(["generate", checkpoint, "no", "--grades", "Zx:3"]) == 2
    assert "unknown grade 'Zx'" in capsys.readouterr().err
    assert main(["generate", "runs/tiny", "no"]) == 2
    assert f"run folder: give one of its checkpoints, such as {checkpoint}" in (
        capsys.readouterr().err
    )
    arguments = ["--between", "AA", "BB", "--grades", "balanced"]
    assert main(["generate", checkpoint, "no", *arguments]) == 2
