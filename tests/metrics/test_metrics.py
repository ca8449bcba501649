from __future__ import annotations

import pytest
import torch

from blastogan.errors import UserError
from blastogan.metrics import sets
from blastogan.metrics.sets import ImageSetMetrics
from blastogan.metrics.similarity import pairwise_ms_ssim, scale_weights
from blastogan.metrics.sliced_wasserstein import (
    image_swd,
    laplacian_pyramid,
    patch_descriptors,
    sliced_wasserstein,
)
from blastogan.utils.pixels import to_float, to_uint8


def noise(count, resolution=32, seed=0, channels=1):
    rng = torch.Generator().manual_seed(seed)
    shape = (count, channels, resolution, resolution)
    return torch.randint(256, shape, dtype=torch.uint8, generator=rng)


def test_conversion_goes_back_and_forth_and_refuses_the_wrong_kind():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    with pytest.raises(ValueError, match=r"expected torch.uint8"):
        to_float(torch.zeros(1))
    with pytest.raises(ValueError, match="expected floats"):
        to_uint8(every)


def test_pyramid_adds_up_to_the_image_and_is_flat_where_the_image_is():
    images = torch.full((1, 1, 64, 64), 9.0)
    levels = laplacian_pyramid(images)
    assert list(levels) == [64, 32, 16]
    torch.testing.assert_close(levels[16], torch.full((1, 1, 16, 16), 9.0))
    assert levels[64].abs().max() < 1e-4


def test_distance_of_shifted_points_is_the_shift_seen_from_a_mean_direction():
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(2000, 3, generator=rng)
    shifted = points + torch.tensor([2.0, 0.0, 0.0])
    distance = sliced_wasserstein(points, shifted, directions=2000, generator=rng).mean()
    # the mean of |cos| over directions in three dimensions is one half
    assert distance == pytest.approx(1.0, rel=0.03)


def test_descriptors_are_patches_normalised_over_the_set():
    band = torch.arange(2 * 16 * 16, dtype=torch.float32).view(2, 1, 16, 16)
    found = patch_descriptors(band, 8, torch.Generator().manual_seed(0))
    assert found.shape == (16, 49)
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std() == pytest.approx(1, abs=1e-3)
    # within a patch, pixels of a row are neighbours and rows are 16 apart
    steps = found.view(16, 7, 7)
    torch.testing.assert_close(steps[:, 1:] - steps[:, :-1], (steps[:, :1, 1:2] - steps[:, :1, :1])
                               .expand(-1, 6, 7) * 16, atol=1e-4, rtol=1e-3)  # fmt: skip


def stripes(count, width):
    """Vertical stripes of a width, each image with its own phase and a little noise."""
    phase = torch.arange(count).view(-1, 1, 1, 1)
    on = (torch.arange(32) + phase) // width % 2
    return (on.expand(-1, 1, 32, 32) * 200 + noise(count) // 8).to(torch.uint8)


def test_distance_is_small_for_one_law_and_large_for_another():
    same = image_swd(stripes(64, 2), stripes(64, 2))
    assert list(same) == [32, 16]
    fine = image_swd(stripes(64, 2), stripes(64, 4))
    coarse = image_swd(stripes(64, 8), stripes(64, 4))
    assert fine[32] > 5 * same[32]
    assert coarse[16] > 5 * same[16]


def test_distance_refuses_sets_that_cannot_be_compared():
    with pytest.raises(UserError, match="shape"):
        image_swd(noise(4), noise(5))
    with pytest.raises(UserError, match="16 pixels"):
        image_swd(noise(4, 8), noise(4, 8))


def test_similarity_is_one_for_copies_and_low_for_noise():
    copies = noise(1).expand(8, -1, -1, -1)
    assert pairwise_ms_ssim(copies, pairs=32) == pytest.approx(1.0, abs=1e-4)
    assert pairwise_ms_ssim(noise(8), pairs=32) < 0.2


def test_similarity_leaves_no_image_paired_with_itself():
    # two images, one the negative of the other: a pair with itself would score 1
    images = noise(2)
    images[1] = 255 - images[0]
    assert pairwise_ms_ssim(images, pairs=16) < 0.1


def test_similarity_uses_as_many_scales_as_fit():
    assert [len(scale_weights(r)) for r in (16, 32, 64, 128, 256, 1024)] == [1, 2, 3, 4, 5, 5]
    assert sum(scale_weights(64)) == pytest.approx(1)
    with pytest.raises(UserError, match="16 pixels"):
        scale_weights(8)
    with pytest.raises(UserError, match="got 1"):
        pairwise_ms_ssim(noise(1))


def test_set_metrics_gather_batches_and_do_not_depend_on_them():
    reals, fakes = noise(24), noise(24, seed=1)
    whole, parts = ImageSetMetrics(), ImageSetMetrics()
    whole.update(reals, fakes)
    for n in range(0, 24, 8):
        parts.update(reals[n : n + 8], fakes[n : n + 8])
    values = whole.compute()
    assert set(values) == {"swd", "swd_32", "swd_16", "ms_ssim", "ms_ssim_real"}
    assert values == parts.compute()
    assert values["swd"] == pytest.approx((values["swd_32"] + values["swd_16"]).item() / 2)
    with pytest.raises(UserError, match="same shape"):
        whole.update(reals, fakes.float())


def test_set_metrics_compare_a_thousand_pairs(monkeypatch):
    # the other tests compare fewer
    monkeypatch.setattr(sets, "pairwise_ms_ssim", pairwise_ms_ssim)
    metrics = ImageSetMetrics(seed=3)
    metrics.update(noise(8), noise(8, seed=1))
    expected = pairwise_ms_ssim(noise(8, seed=1), pairs=1000, seed=3)
    assert metrics.compute()["ms_ssim"] == pytest.approx(expected, rel=1e-6)


def test_set_metrics_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    metrics = ImageSetMetrics()
    metrics.update(noise(8), noise(8, seed=1))
    metrics.compute()
    assert torch.equal(torch.get_rng_state(), before)


def test_set_metrics_are_empty_where_none_is_defined():
    metrics = ImageSetMetrics()
    metrics.update(noise(8, 8), noise(8, 8))
    assert metrics.compute() == {}
