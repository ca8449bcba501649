"""Training on images of which some have no grade, or only one letter."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers import steps
from helpers.small_modules import MODULES, same_weights
from helpers.steps import ARCHITECTURES, batches
from PIL import Image

from blastogan import BlastocystDataModule, ProGANModule
from blastogan.errors import UserError
from blastogan.generators.latents import complete_labels, count_grades
from blastogan.grades import CLASSES, Grade
from blastogan.losses import LOSSES
from blastogan.modules.step.grades import options_for_grades
from blastogan.modules.step.heads import mean_logit, over_heads, penalty_weights

HEADS = {"ramp_kimg": [0.0, 0.0], "loss": "logistic", "r1_gamma": 0.5}


def label(name):
    return [-1 if letter == "x" else "ABCD".index(letter) for letter in name]


def test_unknown_letters_are_drawn_from_the_classes_that_fit():
    counts = torch.zeros(4, 4, dtype=torch.int64)
    counts[0, 0], counts[0, 2], counts[1, 2] = 1, 3, 4
    labels = torch.tensor([label(name) for name in ("Ax", "xC", "xx", "BB", "Dx")] * 4000)
    uniform = torch.rand(len(labels), generator=torch.Generator().manual_seed(0))
    drawn = complete_labels(labels, counts, uniform).view(4000, 5, 2)
    found = [
        {Grade.from_labels(*pair).name: n / 4000 for pair, n in Counter(map(tuple, each)).items()}
        for each in drawn.transpose(0, 1).tolist()
    ]
    assert found[0] == pytest.approx({"AA": 1 / 4, "AC": 3 / 4}, abs=0.03)
    assert found[1] == pytest.approx({"AC": 3 / 7, "BC": 4 / 7}, abs=0.03)
    assert found[2] == pytest.approx({"AA": 1 / 8, "AC": 3 / 8, "BC": 4 / 8}, abs=0.03)
    assert found[3:] == [{"BB": 1.0}, {"DD": 1.0}]


def test_before_any_grade_is_seen_all_classes_are_drawn():
    labels = torch.full((5000, 2), -1)
    uniform = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    drawn = complete_labels(labels, torch.zeros(4, 4), uniform)
    found = Counter(Grade.from_labels(*pair).name for pair in drawn.tolist())
    assert set(found) == set(CLASSES)
    assert min(found.values()) > 400


def test_only_whole_grades_are_counted():
    counts = count_grades(torch.tensor([label(name) for name in ("AB", "Ax", "xx", "AB", "DD")]))
    assert counts.sum() == 3
    assert counts[0, 1] == 2


@pytest.mark.parametrize("name", ["logistic", "hinge"])
def test_a_grade_counts_as_much_however_few_are_known(name):
    logits = [torch.randn(4, 2, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
    known = torch.tensor([[True, True], [False, True], [False, False], [False, False]])
    loss, weight = LOSSES[name].discriminator, 0.5
    found = over_heads(loss, weight, *logits, known=known, share=0.5)
    every, graded = loss(*(x[:, 0] for x in logits)), loss(*(x[:2, 1] for x in logits))
    torch.testing.assert_close(found, (every + weight * graded) / 1.5)
    # the same in two passes, of which one has no grade
    halves = [
        over_heads(loss, weight, *(x[part] for x in logits), known=known[part], share=0.5)
        for part in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(torch.stack(halves).mean(), found)
    scores = mean_logit(logits[0], weight, known)
    torch.testing.assert_close(scores[2:], logits[0][2:, 0])
    torch.testing.assert_close(scores[:2], (logits[0] @ torch.tensor([1.0, 0.5]))[:2] / 1.5)
    weights = penalty_weights(scores, weight, known, 0.5)
    torch.testing.assert_close(weights, torch.tensor([2.0, 2.0, 1.0, 1.0]) / 1.5)


def test_with_all_grades_known_nothing_changes():
    logits = [torch.randn(6, 2, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
    known, loss = torch.ones(6, 2, dtype=torch.bool), LOSSES["logistic"].discriminator
    found = over_heads(loss, 0.3, *logits, known=known)
    torch.testing.assert_close(found, over_heads(loss, 0.3, *logits))


@pytest.mark.parametrize("factorised", [True, False])
def test_an_unknown_letter_neither_scores_nor_learns(factorised, make_module):
    module = make_module(factorised=factorised, **HEADS)
    network, images = module.discriminator, torch.randn(4, 1, 16, 16)
    known = torch.tensor([[True, False]] * 4)
    tables = [part.weight for part in network.embedding.parts]

    def scores(te):
        return network(images, torch.tensor([[1, te]] * 4), known=known)

    assert torch.equal(scores(0), scores(2))
    network.zero_grad()
    scores(0).sum().backward()
    if factorised:
        assert tables[0].grad[1].abs().sum() > 0
        assert tables[1].grad.abs().sum() == 0
    else:
        assert tables[0].grad.abs().sum() == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_d_learns_a_letter_from_images_of_that_letter_alone(name, make_module, monkeypatch):
    """The labels under -1 are drawn, and D compares both sides by the known letters alone."""

    def masked(count, **kwargs):
        for batch in batches(count, **kwargs):
            batch["labels"][::2] = torch.tensor([-1, -1])
            batch["labels"][1::2] = torch.tensor([1, 1])
            batch["labels"][1] = torch.tensor([2, -1])
            yield batch

    monkeypatch.setattr(steps, "batches", masked)
    module = make_module(name, micro_batch=4, regularizer="none", **HEADS)
    fresh = copy.deepcopy(module.discriminator.embedding.parts)
    module.known_share, module.draw_seed = 0.5, 3
    logged = steps.run_steps(module, 3, size=8)
    assert all(value.isfinite().all() for terms in logged for value in terms.values())
    assert int(module.grade_counts.sum()) == int(module.grade_counts[1, 1]) == 9
    icm, te = (
        [n for n in range(4) if not torch.equal(now.weight[n], before.weight[n])]
        for now, before in zip(module.discriminator.embedding.parts, fresh, strict=True)
    )
    assert (icm, te) == ([1, 2], [1])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_any_known_letter_the_score_with_grades_moves_nothing(
    name, make_module, monkeypatch
):
    def ungraded(count, **kwargs):
        for batch in batches(count, **kwargs):
            yield {**batch, "labels": torch.full_like(batch["labels"], -1)}

    def trained(factor):
        module = make_module(name, **HEADS)
        for weights in (module.discriminator.score, module.discriminator.embedding):
            for weight in weights.parameters():
                weight.data.mul_(factor)
        module.known_share, module.draw_seed = 0.5, 3
        return module, steps.run_steps(module, 2, size=8)

    monkeypatch.setattr(steps, "batches", ungraded)
    (first, mine), (second, theirs) = trained(1.0), trained(5.0)
    assert mine == theirs
    assert same_weights(first.generator, second.generator)


def test_ungraded_images_ask_for_a_model_without_grades():
    settings = ProGANModule(resolution=16, channel_base=64).hparams
    assert options_for_grades(settings, "complete") == {}
    assert options_for_grades(settings, "none") == {"conditional": False}
    assert options_for_grades(settings, "partial") == {"ramp_kimg": [0.0, 0.0]}
    ramped = {**settings, "ramp_kimg": [1.0, 2.0]}
    assert options_for_grades(ramped, "partial") == {}
    assert options_for_grades(ramped, "none") == {"conditional": False, "ramp_kimg": None}
    for other in ({"loss": "wgan"}, {"fake_labels": "balanced"}):
        with pytest.raises(UserError, match="ungraded"):
            options_for_grades({**settings, **other}, "partial")


@pytest.fixture
def folder(tmp_path):
    """A set of 40 images of 40 embryos; a table beside it gives their grades."""
    root = tmp_path / "set"
    root.mkdir()
    for n in range(40):
        Image.effect_noise((20, 20), 20 + n).save(root / f"e{n:02}.png")

    def write(*grades):
        rows = [f"e{n:02}.png,{grades[n % len(grades)]}" for n in range(40)]
        (root / "grades.csv").write_text("\n".join(["image,grade", *rows]))
        return str(root)

    return write


def fitted(name, root, schedule, make_trainer, **settings):
    kind, small = MODULES[name]
    torch.manual_seed(0)
    module = kind(16, 8, **small, **settings)
    data = BlastocystDataModule(schedule, root=root)
    trainer = make_trainer()
    trainer.fit(module, data)
    return module, data, trainer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_set_without_grades_trains_a_model_without_grades(
    name, folder, schedule, make_trainer, caplog
):
    caplog.set_level(logging.INFO)
    module, data, trainer = fitted(name, folder("NA"), schedule, make_trainer)
    assert data.grading == "none"
    assert not module.conditional
    assert any("without grades" in record.message for record in caplog.records)
    assert module.images_shown == schedule.total_images
    path = trainer.default_root_dir + "/again.ckpt"
    trainer.save_checkpoint(path)
    again = MODULES[name][0].load_from_checkpoint(path)
    assert same_weights(again.cpu(), module.cpu())
    assert torch.equal(again.generate(2), module.generate(2))


def test_a_partly_graded_set_trains_one_model_on_all_of_it(folder, schedule, make_trainer):
    module, data, trainer = fitted("progan", folder("AA", "NA", "BB"), schedule, make_trainer)
    assert data.grading == "partial"
    assert module.conditional
    assert module.hparams["ramp_kimg"] == [0.0, 0.0]
    assert module.condition_weight_at(0) == 1.0
    shown, seen = module.images_shown, int(module.grade_counts.sum())
    assert 0.5 * shown < seen < 0.85 * shown
    assert module.class_weights()["AC"] == 0
    assert {"swd", "ms_ssim"} <= set(trainer.callback_metrics)


def test_grades_of_held_out_images_alone_are_refused(folder, schedule, make_trainer):
    root = folder("AA", "NA")
    rows = [f"e{n:02}.png,{'test' if n % 2 == 0 else 'train'}" for n in range(40)]
    split = Path(root).with_name("split.csv")
    split.write_text("\n".join(["image,part", *rows]))
    data = BlastocystDataModule(schedule, root=root, split_file=str(split))
    with pytest.raises(UserError, match="held-out"):
        make_trainer().fit(ProGANModule(16, 8, **MODULES["progan"][1]), data)


def test_a_model_with_transferred_weights_is_not_built_anew(folder, schedule, make_trainer):
    module = ProGANModule(16, 8, **MODULES["progan"][1])
    module.transfer = {"checkpoint": "other.ckpt"}
    with pytest.raises(UserError, match="transfer"):
        make_trainer().fit(module, BlastocystDataModule(schedule, root=folder("NA")))
