"""A step is the same on one device or several, in one pass or several."""

from __future__ import annotations

import pytest
import torch
from helpers.steps import run_steps

from blastogan.errors import UserError
from blastogan.modules.step.draws import CHUNK, SampleDraws
from blastogan.modules.step.passes import size_of_passes
from blastogan.modules.step.ranks import _in_memory_order

BOTH = pytest.mark.parametrize("name", ["progan", "stylegan"])
CPU = torch.device("cpu")


# -- random numbers by place ---------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 3, 8, 12])
def test_draws_do_not_depend_on_how_a_batch_is_divided(share):
    whole = SampleDraws(0, (96, "fakes"), 0, 24, CPU)
    parts = [SampleDraws(0, (96, "fakes"), first, share, CPU) for first in range(0, 24, share)]
    for shape in ((5,), (2, 3)):
        assert torch.equal(torch.cat([part.randn(*shape) for part in parts]), whole.randn(*shape))
    assert torch.equal(torch.cat([part.rand() for part in parts]), whole.rand())


def test_draws_differ_by_seed_key_sample_and_call():
    draws = SampleDraws(0, (96, "fakes"), 0, 2 * CHUNK, CPU)
    first, second = draws.randn(3), draws.randn(3)
    others = [
        SampleDraws(1, (96, "fakes"), 0, 2 * CHUNK, CPU).randn(3),
        SampleDraws(0, (104, "fakes"), 0, 2 * CHUNK, CPU).randn(3),
        SampleDraws(0, (96, "mixing"), 0, 2 * CHUNK, CPU).randn(3),
    ]
    rows = torch.cat([first, second, *others])
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_draws_have_their_distribution_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    draws = SampleDraws(0, (), 0, 4096, CPU)
    normal, uniform = draws.randn(16), draws.rand(16)
    assert torch.equal(torch.get_rng_state(), before)
    assert normal.mean().item() == pytest.approx(0.0, abs=0.02)
    assert normal.std().item() == pytest.approx(1.0, abs=0.02)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    # no two samples of a batch are alike in any way
    assert torch.corrcoef(normal).fill_diagonal_(0).abs().max() < 1.0 - 1e-3


def test_flat_views_follow_the_order_of_memory():
    images = torch.randn(2, 3, 4, 5)
    last = images.to(memory_format=torch.channels_last)
    for tensor in (images, last, torch.randn(7), torch.randn(3, 1, 1, 1), torch.tensor(1.0)):
        flat = _in_memory_order(tensor)
        assert flat.data_ptr() == tensor.data_ptr()
        flat.fill_(2.0)
        assert (tensor == 2.0).all()


# -- several passes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "limit", "group", "expected"),
    [(16, None, 4, 16), (16, 8, 4, 8), (16, 15, 4, 8), (24, 15, 4, 12), (2, None, 4, 2)],
)
def test_passes_are_equal_and_cut_no_group(count, limit, group, expected):
    assert size_of_passes(count, limit, group) == expected


def test_indivisible_batches_are_refused():
    with pytest.raises(UserError, match="8 images"):
        size_of_passes(8, 3, 4)
    with pytest.raises(UserError, match="group of 4"):
        size_of_passes(6, None, 4)


def stepped(make_module, name, **settings):
    """A module after three steps of 8 images, the first and the third with R1, and its log.

    By plain gradient descent: Adam would turn the rounding of a gradient of 0 into a whole step.
    """
    plain = {"class_path": "SGD", "init_args": {"lr": 0.01}}
    optimizers = {"generator_optimizer": plain, "discriminator_optimizer": plain}
    module = make_module(name, r1_interval=2, r1_gamma=1.0, **optimizers, **settings)
    module.alpha = 0.5
    return module, run_steps(module, 3, size=8)


@BOTH
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"regularizer": "gradient_penalty"},
        {"reuse_fakes": True},
        {"augment": "bgc", "augment_p": 0.7},
        {"ramp_kimg": [0.0, 0.05]},
        {"fake_labels": "balanced"},
    ],
)
def test_passes_add_up_to_the_whole_batch(name, settings, make_module, monkeypatch):
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr("blastogan.modules.generating.to_float", lambda x: x.double() / 127.5 - 1)
    try:
        whole, log = stepped(make_module, name, **settings)
        parts, log_of_parts = stepped(make_module, name, micro_batch=4, **settings)
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(log, log_of_parts, strict=True):
        assert one.keys() == other.keys()
        for term in one:
            assert other[term].item() == pytest.approx(one[term].item(), rel=1e-6), term
    mine, theirs = whole.state_dict(), parts.state_dict()
    for key, value in mine.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-6, atol=1e-9, msg=key)


# -- clipping ------------------------------------------------------------------------------------


@BOTH
def test_gradients_are_clipped_to_a_norm_and_their_own_norm_is_returned(name, make_module):
    still = {"class_path": "SGD", "init_args": {"lr": 0.0}}
    frozen = {"generator_optimizer": still, "discriminator_optimizer": still, "r1_gamma": 1.0}
    free = make_module(name, **frozen)
    (before,) = run_steps(free, 1)
    clip = {"generator_clip": 0.01, "discriminator_clip": 1e9}
    clipped = make_module(name, **frozen, **clip)
    (after,) = run_steps(clipped, 1)
    for side in ("d", "g"):
        assert after[f"grad_norm_{side}"] == before[f"grad_norm_{side}"] > 0.01

    def gradients(network):
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    plain, scaled = gradients(free.generator), gradients(clipped.generator)
    assert plain.norm().item() == pytest.approx(before["grad_norm_g"].item(), rel=1e-5)
    torch.testing.assert_close(scaled, plain * (0.01 / plain.norm()), rtol=1e-3, atol=1e-9)
    assert torch.equal(gradients(free.discriminator), gradients(clipped.discriminator))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"micro_batch": 0}, "micro_batch"),
        ({"generator_clip": 0.0}, "generator_clip"),
        ({"discriminator_clip": -1.0}, "discriminator_clip"),
    ],
)
def test_senseless_settings_are_refused(settings, message, make_module):
    with pytest.raises(UserError, match=message):
        make_module(**settings)
