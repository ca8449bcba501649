"""Augmentation of what D sees: gradients, identity, distributions, adaptation."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.augmentation import draws, images

from blastogan.augment import (
    OPERATIONS,
    SETS,
    AdaptiveAugmentation,
    AugmentationSettings,
    augment_images,
    diff_augment,
)
from blastogan.augment.colour import recolour
from blastogan.augment.diff import _coloured, _translated
from blastogan.augment.filters import BANDS, filter_bands
from blastogan.augment.gates import OperationGates
from blastogan.augment.geometry import random_map
from blastogan.augment.warp import warp
from blastogan.errors import UserError
from blastogan.modules.step.draws import SampleDraws

ALL = {name: SETS["bgc"].get(name, 0.5) for name in OPERATIONS}


# -- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_of_each_operation_agree_with_finite_differences(name, channels):
    def operation(x):
        return augment_images(x, {name: ALL[name]}, 0.999, draws(2))

    x = images(2, channels, 6, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(operation, x)
    assert torch.autograd.gradgradcheck(operation, x)


def test_gradients_of_all_operations_and_of_diffaugment_agree_with_finite_differences():
    x = images(2, 1, 6, torch.float64).requires_grad_()
    for operation in (
        lambda x: augment_images(x, ALL, 0.8, draws(2)),
        lambda x: diff_augment(x, 1.0, draws(2)),
    ):
        assert torch.autograd.gradcheck(operation, x)
        assert torch.autograd.gradgradcheck(operation, x)


# -- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_at_probability_0_images_stay_as_they_are_to_the_bit(channels):
    x = images(8, channels)
    assert torch.equal(augment_images(x, ALL, 0.0, draws(8)), x)
    assert torch.equal(diff_augment(x, torch.tensor(0.0), draws(8)), x)
    x = x.requires_grad_()
    augment_images(x, ALL, 0.0, draws(8)).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_amplitude_of_0_is_an_operation_that_is_off(name):
    x = images(8, 3)
    assert torch.equal(augment_images(x, {name: 0.0}, 1.0, draws(8)), x)
    assert not AugmentationSettings({name: 0.0}).active


def test_every_image_is_augmented_by_itself():
    x = images(12)
    whole = augment_images(x, ALL, 0.5, draws(12))
    part = augment_images(x[8:], ALL, 0.5, SampleDraws(0, ("test",), 8, 4, torch.device("cpu")))
    torch.testing.assert_close(part, whole[8:])
    assert not torch.equal(augment_images(x, ALL, 0.5, draws(12, seed=1)), whole)


def test_other_operations_do_not_change_what_one_draws():
    x = images(16)
    alone = augment_images(x, {"brightness": 0.2}, 0.7, draws(16))
    together = augment_images(x, {"brightness": 0.2, "flip": 1.0}, 0.7, draws(16))
    torch.testing.assert_close(together.mean(dim=(1, 2, 3)), alone.mean(dim=(1, 2, 3)))


# -- what the operations do ----------------------------------------------------------------------


def test_a_warp_moves_turns_and_mirrors_exactly():
    x = images(1)
    right = torch.eye(3)[None].clone()
    right[0, 0, 2] = -2 * 3 / 16  # three pixels
    moved = warp(x, right)
    torch.testing.assert_close(moved[..., 3:], x[..., :-3], rtol=0, atol=1e-5)
    # reflected about the edge
    torch.testing.assert_close(moved[..., :3], x[..., :3].flip(-1), rtol=0, atol=1e-5)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))[None]
    torch.testing.assert_close(warp(x, mirror), x.flip(-1), rtol=0, atol=1e-5)
    quarter = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    torch.testing.assert_close(warp(x, quarter), x.rot90(1, (2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("p", "share"), [(0.0, 0.0), (0.4, 0.3), (1.0, 0.75)])
def test_quarter_turns_come_as_often_as_asked_in_all_directions(p, share):
    x = torch.arange(16.0).view(1, 1, 4, 4).expand(4000, -1, -1, -1)
    turned = augment_images(x, {"turn": 1.0}, p, draws(4000))
    kinds = [torch.isclose(turned, x.rot90(n, (2, 3)), atol=1e-3).all(3).all(2) for n in range(4)]
    shares = [float(kind.float().mean()) for kind in kinds]
    assert sum(shares) == pytest.approx(1.0)
    assert 1 - shares[0] == pytest.approx(share, abs=0.03)
    for turn in shares[1:]:
        assert turn == pytest.approx(share / 3, abs=0.03)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_one_or_both_rotations_come_as_often_as_one_operation(p):
    gates = OperationGates(draws(4000), torch.tensor(p), ("rotate", "rotate again"))
    matrices = random_map(gates, {"rotate": 1.0}, 4000, 32)
    moved = (matrices != torch.eye(3)).any(2).any(1).float().mean().item()
    assert moved == pytest.approx(p, abs=0.03)
    lengths = matrices[:, :2, :2].det()
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_amounts_have_the_spread_that_was_asked_for():
    x = torch.zeros(4000, 1, 4, 4)
    brighter = augment_images(x, {"brightness": 0.2}, 1.0, draws(4000))[:, 0, 0, 0]
    assert brighter.std().item() == pytest.approx(0.2, rel=0.05)
    assert brighter.mean().item() == pytest.approx(0.0, abs=0.02)
    contrast = augment_images(x + 0.5, {"contrast": 0.5}, 1.0, draws(4000))[:, 0, 0, 0]
    assert (contrast / 0.5).log2().std().item() == pytest.approx(0.5, rel=0.05)
    noise = augment_images(torch.zeros(400, 1, 32, 32), {"noise": 0.1}, 1.0, draws(400))
    expected = 0.1 * math.sqrt(2 / math.pi)
    assert noise.std(dim=(1, 2, 3)).mean().item() == pytest.approx(expected, rel=0.1)


def test_zoom_stretch_and_offset_have_the_spread_that_was_asked_for():
    def maps(**amplitudes):
        names = (*amplitudes, "rotate again")
        gates = OperationGates(draws(4000), torch.tensor(1.0), names)
        return random_map(gates, amplitudes, 4000, 32)

    zoom = maps(scale=0.2)
    torch.testing.assert_close(zoom[:, 0, 0], zoom[:, 1, 1])
    assert zoom[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.05)
    stretch = maps(stretch=0.2)
    torch.testing.assert_close(stretch[:, 0, 0] * stretch[:, 1, 1], torch.ones(4000))
    assert stretch[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.05)
    # of a side, which is 2 long
    assert maps(offset=0.125)[:, :2, 2].std().item() == pytest.approx(0.25, rel=0.05)
    turn = maps(rotate=1.0)
    angles = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
    assert angles.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)
    assert maps(rotate=0.1)[:, 0, 0].min() >= math.cos(0.2 * math.pi) - 1e-6


def test_light_and_colour_are_composed_in_the_order_of_the_paper():
    amplitudes = dict.fromkeys(("brightness", "contrast", "saturation"), 0.4)
    x, names = images(8, 3), tuple(amplitudes)

    def gates():
        return OperationGates(draws(8), torch.tensor(1.0), names)

    alone = gates()
    brighter = x + 0.4 * alone.normal("brightness", 1)[:, :, None, None]
    stronger = brighter * torch.exp2(0.4 * alone.normal("contrast", 1))[:, :, None, None]
    grey = stronger.mean(dim=1, keepdim=True)
    factor = torch.exp2(0.4 * alone.normal("saturation", 1))[:, :, None, None]
    expected = grey + factor * (stronger - grey)
    torch.testing.assert_close(recolour(x, gates(), amplitudes), expected, rtol=1e-4, atol=1e-5)


def test_colours_of_images_on_which_nothing_takes_place_stay_to_the_bit_under_autocast():
    x = images(64, 3).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = augment_images(x, {"hue": 1.0, "contrast": 0.5}, 0.5, draws(64))
        (gradient,) = torch.autograd.grad(out.sum(), x)
    same = (out == x).flatten(1).all(1)
    assert 0.15 < same.float().mean() < 0.4
    assert torch.equal(gradient[same], torch.ones_like(gradient[same]))


def test_shifts_are_whole_pixels_and_stay_within_their_bounds():
    gates = OperationGates(draws(500), torch.tensor(1.0), ("shift",))
    moved = random_map(gates, {"shift": 0.125}, 500, 32)[:, :2, 2] * 16
    torch.testing.assert_close(moved, moved.round())
    assert moved.abs().max() == 4


def test_a_cut_out_square_is_grey_and_has_its_side():
    x = torch.ones(300, 1, 32, 32)
    cut = augment_images(x, {"cutout": 0.5}, 1.0, draws(300)) == 0.0
    rows = cut.any(3).sum(2)
    assert rows.max() == 16
    assert cut.sum((1, 2, 3)).max() == 256
    assert cut.flatten(1).any(1).all()


def test_bands_are_amplified_alone_and_an_expected_image_keeps_its_power():
    names = tuple(f"bands {n}" for n in range(BANDS))
    gates = OperationGates(draws(64), torch.tensor(0.0), names)
    x = images(64, side=32)
    assert torch.equal(filter_bands(x, gates, 1.0), x)
    gates = OperationGates(draws(64), torch.tensor(1.0), names)
    flat = torch.full((64, 1, 32, 32), 0.5)
    lowest = filter_bands(flat, gates, 1.0)
    # a flat image has the lowest band only: it stays flat, at another height
    torch.testing.assert_close(lowest, lowest[:, :, :1, :1].expand_as(lowest))
    assert lowest[:, 0, 0, 0].std() > 0.05
    small = images(4, side=4)
    few = filter_bands(small, OperationGates(draws(4), torch.tensor(1.0), names), 1.0)
    assert few.shape == small.shape
    # the gain of a band shows in the power that an image of the expected spectrum has
    gains = torch.exp2(draws(64).randn(BANDS, 2)[:, 0, 0])
    powers = gains**2 / (10 / 13 * gains**2 + 3 / 13)
    only_lowest = OperationGates(draws(64), torch.tensor(1.0), (names[0],))
    chance_of = only_lowest.takes_place
    only_lowest.takes_place = lambda name: chance_of(names[0]) & (name == names[0])
    only_lowest.normal = lambda name, count: gains.log2()[:, None] * (name == names[0])
    torch.testing.assert_close(
        filter_bands(flat, only_lowest, 1.0)[:, 0, 0, 0], 0.5 * powers.sqrt()
    )


def test_hue_saturation_and_luma_flip_keep_what_they_should():
    x = images(50, 3)
    grey = x.mean(dim=1)
    for name in ("hue", "saturation"):
        coloured = augment_images(x, {name: 1.0}, 1.0, draws(50))
        torch.testing.assert_close(coloured.mean(dim=1), grey, rtol=1e-4, atol=1e-5)
        assert (coloured - x).abs().max() > 0.1
    flipped = augment_images(x, {"luma_flip": 1.0}, 1.0, draws(50))
    signs = (flipped.mean(dim=1) / grey).flatten(1).median(dim=1).values
    assert set(signs.round().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(
        flipped - flipped.mean(1, True), x - x.mean(1, True), atol=1e-5, rtol=0
    )


def test_grey_images_have_no_colour_to_change():
    x = images(8)
    assert torch.equal(augment_images(x, {"hue": 1.0, "luma_flip": 1.0}, 1.0, draws(8)), x)


def test_diffaugment_moves_by_an_eighth_and_fills_with_grey():
    corner = torch.zeros(2000, 1, 32, 32)
    corner[:, :, 16, 16] = 1.0
    gates = OperationGates(draws(2000), torch.tensor(1.0), ("translation",))
    moved = _translated(corner, gates)[:, 0].flatten(1)
    y, x = moved.argmax(1) // 32 - 16, moved.argmax(1) % 32 - 16
    for shift in (x, y):
        found, number = shift.unique(return_counts=True)
        assert found.tolist() == list(range(-4, 5))
        assert (number / 2000 - 1 / 9).abs().max() < 0.03
    edge = _translated(torch.ones(100, 1, 32, 32), OperationGates(draws(100), torch.tensor(1.0),
                                                         ("translation",)))  # fmt: skip
    assert edge.unique().tolist() == [0.0, 1.0]


def test_diffaugment_changes_light_by_as_much_as_the_paper():
    order = ("brightness", "saturation", "contrast")

    def coloured(x):
        return _coloured(x, OperationGates(draws(2000), torch.tensor(1.0), order))

    grey = coloured(torch.full((2000, 1, 2, 2), 0.5))[:, 0, 0, 0] - 0.5
    assert grey.min() >= -0.5
    assert grey.max() < 0.5
    assert grey.std().item() == pytest.approx(1 / math.sqrt(12), rel=0.05)
    halves = torch.tensor([-0.5, 0.5]).view(1, 1, 1, 2).expand(2000, 1, 2, 2)
    contrast = coloured(halves).diff(dim=3)[:, 0, 0, 0]
    assert contrast.min() >= 0.5
    assert contrast.max() < 1.5
    assert contrast.std().item() == pytest.approx(1 / math.sqrt(12), rel=0.05)
    red = coloured(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(2000, 3, 1, 1))
    saturation = (red[:, 0] - red[:, 1]).flatten()
    # times the contrast about the image's mean
    assert 0.0 <= saturation.min() < 0.1
    assert 2.0 < saturation.max() < 3.0


# -- the probability -----------------------------------------------------------------------------


def adaptive(augment, **settings):
    return AdaptiveAugmentation(AugmentationSettings(augment, **settings))


def steered(logits, steps, **settings):
    augmentation = adaptive("grade-preserving", **settings)
    for step in range(steps):
        augmentation.note(logits)
        augmentation.observe(augmentation.take_noted(), step)
    return augmentation


def test_the_probability_rises_at_its_speed_while_d_is_too_sure_of_reals():
    sure = torch.ones(10)
    # 100 steps of 10 images, of 1,000 from 0 to 1
    assert float(steered(sure, 50, kimg=1.0, max_p=1.0).p) == pytest.approx(0.48)
    assert float(steered(sure, 500, kimg=1.0).p) == pytest.approx(0.8)
    assert float(steered(-sure, 50, kimg=1.0).p) == 0.0


def test_the_probability_turns_at_the_target():
    eight_of_ten = torch.tensor([1.0] * 8 + [-1.0] * 2)  # r_t = 0.6
    assert float(steered(eight_of_ten, 40, kimg=1.0, target=0.55).p) == pytest.approx(0.4)
    falling = adaptive("bgc", kimg=1.0, target=0.65)
    falling.p.fill_(0.5)
    for step in range(40):
        falling.note(eight_of_ten)
        falling.observe(falling.take_noted(), step)
    assert float(falling.p) == pytest.approx(0.1)
    assert float(falling.sign_real) == pytest.approx(0.6)


def test_a_probability_that_was_given_stays():
    fixed = steered(torch.ones(10), 43, p=0.3)
    assert float(fixed.p) == pytest.approx(0.3)
    # what it would have followed is noted all the same, since the last time
    assert float(fixed.sign_real) == 1.0
    assert fixed.signs.tolist() == [30, 30]
    assert float(adaptive("diffaugment").p) == 1.0


def test_the_state_is_in_the_state_dict():
    first = steered(torch.ones(10), 6, kimg=1.0)
    second = adaptive("grade-preserving", kimg=1.0)
    second.load_state_dict(first.state_dict())
    for augmentation in (first, second):
        for step in range(6, 12):
            augmentation.note(torch.ones(10))
            augmentation.observe(augmentation.take_noted(), step)
    assert torch.equal(first.p, second.p)
    assert float(first.p) == pytest.approx(0.12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "all"}, "expected one of none, grade-preserving, bgc, diffaugment"),
        ({"augment": {"blur": 1, "shift": -1}}, r"(?s)blur.*shift is -1: expected 0 or more"),
        ({"augment": {"flip": 0.5}}, "flip is 0.5: expected 0 or 1"),
        ({"augment": "bgc", "p": 1.5}, "augment_p is 1.5"),
        ({"augment": "bgc", "target": -0.1}, "augment_target is -0.1"),
        ({"augment": "bgc", "kimg": 0}, "augment_kimg is 0"),
        ({"augment": "bgc", "max_p": 2}, "augment_max is 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        AugmentationSettings(**settings)
