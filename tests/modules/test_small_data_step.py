"""The training step with few images: augmentation, condition weight, labels of fakes."""

from __future__ import annotations

import pytest
import torch
from helpers import steps
from helpers.steps import batches, run_steps

from blastogan.errors import UserError
from blastogan.modules.step.passes import Pass
from blastogan.runs.checkpoint_files import check_checkpoint

BRIGHTER = {"augment": {"brightness": 5.0}, "augment_p": 1.0}
BOTH = pytest.mark.parametrize("name", ["progan", "stylegan"])


def watched(module):
    """Inputs of D in a step, and the condition weights of G."""
    seen, weights = [], []

    def of_discriminator(_, args, kwargs):
        seen.append((args[0].detach().clone(), None if args[1] is None else args[1].clone()))

    def of_generator(_, args, kwargs):
        weights.append(kwargs.get("condition", args[2] if len(args) > 2 else None))

    module.discriminator.register_forward_pre_hook(of_discriminator, with_kwargs=True)
    labelled = getattr(module.generator, "mapping", module.generator)
    labelled.register_forward_pre_hook(of_generator, with_kwargs=True)
    return seen, weights


def spread(images):
    """Deviation of the images' means: about 5 if each is brightened independently."""
    return images.mean(dim=(1, 2, 3)).std().item()


@BOTH
@pytest.mark.parametrize("r1_interval", [1, 1000])
def test_all_that_d_sees_is_augmented_for_d_and_for_g(name, r1_interval, make_module):
    module = make_module(name, r1_interval=r1_interval, stddev_group=1, **BRIGHTER)
    # the first step is R1's turn in any case
    module.images_shown = 8 * (r1_interval > 1)
    seen, _ = watched(module)
    run_steps(module, 1, size=8)
    # on R1's turn fakes and reals separately, then G's fakes
    parts = [part for images, _ in seen for part in images.split(8)]
    assert len(parts) == 3
    for part in parts:
        assert spread(part) > 2.0
    levels = [part.mean(dim=(1, 2, 3)) for part in parts]
    for n in range(3):
        # each has its own draws
        assert (levels[n] - levels[n - 1]).std() > 2.0


def test_r1_is_of_the_images_before_augmentation(make_module):
    # half the contrast: the gradient by the image is half of that by what D sees
    module = make_module(r1_interval=1, augment={"contrast": 1.0}, augment_p=1.0)
    plain = make_module(r1_interval=1)
    reals = torch.rand(4, 1, 16, 16) * 2 - 1
    labels = torch.zeros(4, 2, dtype=torch.int64)
    part = Pass(reals.clone(), labels, 0, labels)
    terms, _ = module._discriminator_loss(part, torch.rand(4, 1, 16, 16), 4)
    given = reals.clone().requires_grad_()
    logits = plain.discriminator(module._augmented("reals", given, part), labels)
    (gradient,) = torch.autograd.grad(logits.sum(), given)
    expected = gradient.square().sum(dim=(1, 2, 3)).mean() / 2
    assert terms["r1"].item() == pytest.approx(expected.item(), rel=1e-4)


@BOTH
def test_the_probability_follows_reals_alone(name, make_module):
    module = make_module(name, augment="bgc", augment_kimg=0.1)
    bias = module.discriminator.score.bias

    def sure(images, labels, known=None):
        # reals, then fakes
        reals = torch.arange(len(images)) < len(images) // 2
        return 2.0 * reals - 1.0 + 0 * bias + 0 * images.sum()

    module._score = sure
    module.images_shown = 16  # not R1's turn
    run_steps(module, 5)
    assert float(module.augmentation.sign_real) == 1.0
    assert float(module.augmentation.p) > 0


@BOTH
def test_the_generator_gets_the_condition_weight(name, make_module):
    module = make_module(name, ramp_kimg=[0.0, 0.032])
    _, weights = watched(module)
    run_steps(module, 3)
    # two passes a step, of 4 images each
    assert weights == pytest.approx([0.0, 0.0, 0.125, 0.125, 0.25, 0.25])


@BOTH
def test_balanced_labels_are_those_of_fakes_in_both_networks(name, make_module, monkeypatch):
    module = make_module(name, fake_labels="balanced", r1_interval=1000)
    module.images_shown = 16
    module.grade_counts[3, 3] = 1
    seen, _ = watched(module)
    labels = torch.zeros(16, 2, dtype=torch.int64)
    (batch,) = batches(1, size=16)
    monkeypatch.setattr(steps, "batches", lambda _: [{**batch, "labels": labels}])
    run_steps(module, 1)
    (_, both), (_, of_generator) = seen
    assert torch.equal(both[:16], labels)
    assert torch.equal(both[16:], of_generator)
    # half of the grades seen are DD
    assert 2 < int((of_generator[:, 0] == 3).sum()) < 14


def test_a_penalty_between_two_grades_is_refused(make_module):
    with pytest.raises(UserError, match="gradient penalty"):
        make_module(fake_labels="balanced", regularizer="gradient_penalty")


# -- checkpoints ---------------------------------------------------------------------------------


def resumed(make_module, before, after, p=0.4):
    """Probability of a module resumed from the checkpoint of another with probability `p`."""
    old, new = make_module(**before), make_module(**after)
    if old.augmentation is not None:
        old.augmentation.p.fill_(p)
    checkpoint = {"state_dict": old.state_dict(), "hyper_parameters": dict(old.hparams)}
    old.on_save_checkpoint(checkpoint)
    new.on_load_checkpoint(checkpoint)
    new.load_state_dict(checkpoint["state_dict"])
    return 0.0 if new.augmentation is None else float(new.augmentation.p)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"augment": "bgc"}, {"augment": "bgc", "augment_target": 0.3}, 0.4),
        ({"augment": "bgc"}, {"augment": "bgc", "augment_p": 0.2}, 0.2),
        ({"augment": "bgc", "augment_p": 0.4}, {"augment": "bgc"}, 0.0),
        ({"augment": "diffaugment"}, {"augment": "bgc"}, 0.0),
        ({"augment": "bgc"}, {}, 0.0),
        ({}, {"augment": "bgc"}, 0.0),
    ],
)
def test_unchanged_augmentation_keeps_its_state(before, after, expected, make_module):
    assert resumed(make_module, before, after) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"factorised": False}, "factorised is True in the checkpoint and False"),
        ({}, {"ramp_kimg": [1, 2]}, r"ramp_kimg is None in the checkpoint and \[1, 2\]"),
        ({"ramp_kimg": [1, 2]}, {}, "and None in the configuration"),
    ],
)
def test_networks_of_other_conditioning_are_refused_by_name(before, after, message, make_module):
    old = make_module(**before)
    checkpoint = {"hyper_parameters": dict(old.hparams)}
    old.on_save_checkpoint(checkpoint)
    with pytest.raises(UserError, match=message):
        check_checkpoint(checkpoint, "ProGANModule", dict(make_module(**after).hparams))


def test_a_ramp_may_get_another_span(make_module):
    old = make_module(ramp_kimg=[1, 2])
    checkpoint = {"hyper_parameters": dict(old.hparams)}
    old.on_save_checkpoint(checkpoint)
    check_checkpoint(checkpoint, "ProGANModule", dict(make_module(ramp_kimg=[1, 4]).hparams))
