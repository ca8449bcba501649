from __future__ import annotations

import pytest
import torch

from blastogan.errors import UserError
from blastogan.networks.conditioning import LabelEmbedding
from blastogan.networks.layers import (
    Blur,
    EqualizedConv2d,
    EqualizedLinear,
    MinibatchStdDev,
    PixelNorm,
    activation,
    downsample,
    fade,
    upsample,
)
from blastogan.networks.stylegan import mix_styles
from blastogan.networks.synthesis import AdaIN, NoiseInput


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def test_equalised_layers_keep_the_mean_square_through_the_activation():
    x = torch.randn(4096, 64)
    assert activation(EqualizedLinear(64, 256)(x)).square().mean() == pytest.approx(1, abs=0.06)
    x = torch.randn(64, 16, 8, 8)
    y = activation(EqualizedConv2d(16, 64, 3)(x))[:, :, 1:-1, 1:-1]
    assert y.square().mean() == pytest.approx(1, abs=0.08)
    y = EqualizedConv2d(16, 64, 1, gain=1.0)(x)
    assert y.square().mean() == pytest.approx(1, abs=0.06)


def test_lr_multiplier_scales_the_step_but_not_the_outputs():
    x = torch.randn(4096, 64)
    layer = EqualizedLinear(64, 256, lr_multiplier=0.01, gain=1.0, bias_init=2.0)
    y = layer(x)
    assert y.var() == pytest.approx(1, abs=0.06)
    assert y.mean() == pytest.approx(2, abs=0.02)
    assert layer.weight.std() == pytest.approx(100, rel=0.03)


def test_convolution_matches_its_definition_when_resampling():
    x = torch.randn(2, 3, 8, 8)
    for resample, steps in (("up", upsample), ("down", None)):
        layer = EqualizedConv2d(3, 5, 3, resample=resample)
        layer.bias.data.normal_()
        kernel = layer.weight * layer.scale
        source = steps(x) if steps else x
        expected = torch.nn.functional.conv2d(source, kernel, padding=1)
        expected = expected if steps else downsample(expected)
        torch.testing.assert_close(layer(x), expected + layer.bias.view(1, -1, 1, 1))


def test_pixel_norm_gives_unit_root_mean_square():
    y = PixelNorm()(torch.randn(3, 16, 4, 4) * 7)
    torch.testing.assert_close(y.square().mean(dim=1), torch.ones(3, 4, 4))


def test_blur_keeps_flat_images_up_to_the_edge_and_spreads_a_point_to_its_kernel():
    flat = torch.full((1, 2, 8, 8), 3.0)
    torch.testing.assert_close(Blur()(flat), flat)
    point = torch.zeros(1, 1, 7, 7)
    point[0, 0, 3, 3] = 16
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    torch.testing.assert_close(Blur()(point)[0, 0, 2:5, 2:5], expected)
    assert Blur()(point).sum() == pytest.approx(16)


def test_minibatch_stddev_is_zero_for_equal_images_and_their_deviation_otherwise():
    layer = MinibatchStdDev(4)
    equal = torch.randn(1, 3, 4, 4).expand(4, -1, -1, -1)
    assert layer(equal)[:, 3].abs().max() < 1e-3
    values = torch.tensor([0.0, 2.0, 0.0, 2.0]).view(4, 1, 1, 1).expand(-1, 3, 4, 4)
    torch.testing.assert_close(layer(values)[:, 3], torch.ones(4, 4, 4), atol=1e-4, rtol=0)


def test_minibatch_stddev_groups_are_contiguous():
    layer = MinibatchStdDev(4)
    x = torch.randn(8, 3, 4, 4)
    torch.testing.assert_close(layer(x), torch.cat([layer(x[:4]), layer(x[4:])]))
    torch.testing.assert_close(layer(x[:2])[:, 3].unique().numel(), 1)


def test_minibatch_stddev_refuses_a_batch_that_does_not_divide():
    with pytest.raises(UserError, match="batch of 6 images does not divide into groups of 4"):
        MinibatchStdDev(4)(torch.randn(6, 3, 4, 4))


def test_adain_reaches_the_given_mean_and_deviation():
    layer = AdaIN(3, 8)
    w = torch.randn(2, 8)
    scale, mean = layer.affine(w).chunk(2, dim=1)
    y = layer(torch.randn(2, 3, 16, 16) * 5 + 2, w)
    torch.testing.assert_close(y.mean(dim=(2, 3)), mean, atol=1e-5, rtol=1e-4)
    deviation = y.std(dim=(2, 3), unbiased=False)
    torch.testing.assert_close(deviation, (scale + 1).abs(), atol=1e-5, rtol=1e-3)


def test_noise_is_silent_at_first_and_added_by_its_strength():
    layer = NoiseInput(3)
    x, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 1, 4, 4)
    assert torch.equal(layer(x, noise), x)
    layer.strength.data = torch.tensor([0.0, 1.0, -2.0])
    expected = x + torch.cat([0 * noise, noise, -2 * noise], dim=1)
    torch.testing.assert_close(layer(x, noise), expected)


def test_fade_is_exact_at_both_ends():
    old, new = torch.randn(5), torch.randn(5)
    assert torch.equal(fade(old, new, 0.0), old)
    assert torch.equal(fade(old, new, 1.0), new)
    torch.testing.assert_close(fade(old, new, 0.25), 0.75 * old + 0.25 * new)


def test_embedding_is_the_sum_of_its_parts_with_unit_variance():
    embedding = LabelEmbedding((4, 4), 512)
    labels = torch.tensor([[0, 3], [2, 3]])
    parts = embedding.parts[0].weight[[0, 2]] + embedding.parts[1].weight[[3, 3]]
    torch.testing.assert_close(embedding(labels), parts / 2**0.5)
    assert embedding(labels).var() == pytest.approx(1, abs=0.15)


def test_mixed_styles_change_at_the_crossover():
    w, other = torch.zeros(3, 2), torch.ones(3, 2)
    mixed = mix_styles(w, other, torch.tensor([1, 3, 4]), layers=4)
    assert mixed[:, :, 0].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
