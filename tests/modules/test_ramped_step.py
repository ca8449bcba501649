"""The training step during a ramp, with augmentation, against its written-out formulas."""

from __future__ import annotations

import pytest
import torch
from helpers.steps import ARCHITECTURES, batches, run_steps

from blastogan.modules.step.passes import Pass

WEIGHT = 0.375
"""Condition weight of the step, 24 of 64 images into the ramp."""

GAMMA, INTERVAL, LAMBDA = 2.0, 3, 5.0

BIASES = {"progan": (7.5, -12.0), "stylegan": (0.0, -1.1)}
"""Biases of both heads, so that they disagree on whether reals are real."""


def ramped(make_module, name, regularizer):
    """A module before its fourth step of 8 images, which takes R1 and adjusts r_t."""
    still = {"class_path": "SGD", "init_args": {"lr": 0.0}}
    module = make_module(
        name,
        ramp_kimg=[0.0, 0.064],
        augment="bgc",
        augment_p=0.7,
        loss="logistic",
        regularizer=regularizer,
        r1_gamma=GAMMA,
        r1_interval=INTERVAL,
        gradient_penalty_weight=LAMBDA,
        generator_optimizer=still,
        discriminator_optimizer=still,
    )
    module.images_shown, module.draw_seed = 24, 11
    heads = module.discriminator.score_unconditional, module.discriminator.score
    for head, bias in zip(heads, BIASES[name], strict=True):
        head.weight.data.mul_(8.0)
        head.bias.data.add_(bias)
    return module


def softplus(x):
    return (1.0 + x.exp()).log()


def over_both(without, given):
    return (without + WEIGHT * given) / (1.0 + WEIGHT)


def norm_of_gradient(loss, network):
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return torch.cat([each.flatten() for each in found if each is not None]).norm()


def written_out(module, batch, regularizer):
    """Expected log of the step."""
    labels = batch["labels"]
    reals = (batch["image"].float() / 127.5 - 1.0).requires_grad_()
    part = Pass(reals, labels, 0, labels)

    def augmented(purpose, images):
        return module.augmentation(images, module._draws(f"augment {purpose}", part))

    def heads(images):
        return module.discriminator(images, labels).unbind(1)

    fakes = module.generate_fakes(labels, module._draws("discriminator", part)).detach()
    seen, seen_fakes = augmented("reals", reals), augmented("fakes", fakes)
    real, fake = heads(seen), heads(seen_fakes)
    without, given = (
        softplus(-on_real).mean() + softplus(on_fake).mean()
        for on_real, on_fake in zip(real, fake, strict=True)
    )
    loss_d, logits = over_both(without, given), over_both(*real)
    signs = [each.sign().mean().item() for each in (logits, *real)]
    # otherwise it would not matter which of them is noted
    assert len(set(signs)) == 3
    if regularizer == "r1":
        (slope,) = torch.autograd.grad(logits.sum(), reals, create_graph=True)
        penalty = 0.5 * (slope**2).flatten(1).sum(1).mean()
        total = loss_d + GAMMA * INTERVAL * penalty
    else:
        share = module._draws("gradient penalty", part).rand(1, 1, 1)
        between = (share * seen + (1.0 - share) * seen_fakes).detach().requires_grad_()
        (slope,) = torch.autograd.grad(over_both(*heads(between)).sum(), between, create_graph=True)
        penalty = ((slope.flatten(1).norm(dim=1) - 1.0) ** 2).mean()
        total = loss_d + LAMBDA * penalty

    new_fakes = module.generate_fakes(labels, module._draws("generator", part))
    loss_g = over_both(
        *(softplus(-each).mean() for each in heads(augmented("generator", new_fakes)))
    )
    return {
        "loss_d": loss_d,
        "loss_g": loss_g,
        "logits_real": logits.mean(),
        "logits_fake": over_both(*fake).mean(),
        regularizer: penalty,
        "augment_p": torch.tensor(0.7),
        "augment_sign_real": torch.tensor(signs[0]),
        "grad_norm_d": norm_of_gradient(total, module.discriminator),
        "grad_norm_g": norm_of_gradient(loss_g, module.generator),
    }


@pytest.mark.parametrize("regularizer", ["r1", "gradient_penalty"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_in_the_middle_of_a_ramp_is_the_formula_over_both_heads_and_what_d_sees(
    name, regularizer, make_module
):
    (batch,) = batches(1, size=8)
    expected = written_out(ramped(make_module, name, regularizer), batch, regularizer)
    (logged,) = run_steps(ramped(make_module, name, regularizer), 1, size=8)
    assert {key: value.item() for key, value in logged.items()} == pytest.approx(
        {key: value.item() for key, value in expected.items()}, rel=1e-3, abs=1e-5
    )
