from __future__ import annotations

import math

import pytest
import torch

from blastogan.losses import (
    drift,
    gradient_penalty,
    hinge,
    logistic,
    r1,
    wgan,
)
from blastogan.modules.step.ema import ema_decay, update_ema

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 0.5])


def test_losses_match_their_formulas():
    assert wgan.discriminator(REAL, FAKE) == pytest.approx(-0.25 - 1.0)
    assert wgan.generator(FAKE) == pytest.approx(0.25)

    def softplus(x):
        return math.log1p(math.exp(x))

    expected = (softplus(-1) + softplus(0.5)) / 2 + (softplus(-2) + softplus(0)) / 2
    assert logistic.discriminator(REAL, FAKE) == pytest.approx(expected)
    assert logistic.generator(FAKE) == pytest.approx((softplus(1) + softplus(-0.5)) / 2)
    assert hinge.discriminator(REAL, FAKE) == pytest.approx((0 + 1.5) / 2 + (0 + 1) / 2)
    assert hinge.generator(FAKE) == pytest.approx(0.25)
    assert drift(REAL) == pytest.approx(2.0)


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_penalties_of_a_linear_discriminator_have_their_closed_form_at_any_batch(batch):
    torch.manual_seed(0)
    weight = torch.randn(3, 4, 4)
    norm = weight.square().sum()

    def score(images):
        return (images * weight).sum(dim=(1, 2, 3))

    reals = torch.randn(batch, 3, 4, 4, requires_grad=True)
    assert r1(score(reals), reals) == pytest.approx(float(norm) / 2, rel=1e-5)
    penalty = gradient_penalty(score, reals, torch.randn_like(reals), torch.rand(batch, 1, 1, 1))
    assert penalty == pytest.approx((float(norm.sqrt()) - 1) ** 2, rel=1e-4)


def test_penalties_can_be_differentiated_by_the_weights():
    weight = torch.ones(3, 4, 4, requires_grad=True)
    reals = torch.randn(2, 3, 4, 4, requires_grad=True)
    r1((reals * weight).sum(dim=(1, 2, 3)), reals).backward()
    torch.testing.assert_close(weight.grad, torch.ones(3, 4, 4))


def test_ema_halves_in_one_half_life_whatever_the_batch():
    for batch in (10, 100):
        value = 1.0
        for shown in range(0, 2000, batch):
            value *= ema_decay(batch, 10**6 + shown, half_life_kimg=2.0, rampup=0.05)
        assert value == pytest.approx(0.5)


def test_ema_half_life_is_short_at_first():
    assert ema_decay(10, 0, 10.0, rampup=0.05) == 0.0
    assert ema_decay(10, 1000, 10.0, rampup=0.05) == pytest.approx(0.5 ** (10 / 50))
    assert ema_decay(10, 0, 10.0, rampup=0.0) == pytest.approx(0.5**0.001)


def test_ema_moves_parameters_and_copies_buffers():
    average, network = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    network.weight.data.fill_(3.0)
    network.running_mean.fill_(7.0)
    update_ema(average, network, decay=0.75)
    torch.testing.assert_close(average.weight.data, torch.full((2,), 1.5))
    assert torch.equal(average.running_mean, network.running_mean)
