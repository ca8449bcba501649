from __future__ import annotations

import math

import pytest
import torch
from helpers.small_modules import blank
from torch.nn.functional import avg_pool2d, softplus

from blastogan.callbacks.watch.probe import (
    choose_images,
    diversity,
    overfitting,
    probe_discriminator,
    score,
)
from blastogan.utils.pixels import to_uint8

# -- r_v ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held_out", "expected"), [(3.0, 0.0), (1.0, 0.5), (-1.0, 1.0), (5.0, -0.5), (-3.0, 1.5)]
)
def test_overfitting_is_the_position_of_held_out_images_between_training_images_and_samples(
    held_out, expected
):
    train, generated = torch.tensor([2.5, 3.5]), torch.tensor([-1.5, -0.5])
    assert overfitting(train, torch.tensor([held_out - 1, held_out + 1]), generated) == (
        pytest.approx(expected)
    )


def test_overfitting_is_undefined_unless_d_separates_samples_from_training_images():
    spread = torch.linspace(-1, 1, 16)
    # the standard error of a difference of such means is 0.22
    assert overfitting(spread + 0.4, spread, spread) is None
    assert overfitting(spread - 1, spread, spread) is None
    assert overfitting(spread + 0.5, spread, spread) == pytest.approx(1.0)
    assert math.isnan(overfitting(spread * math.nan, spread, spread))


# -- diversity ------------------------------------------------------------------------------------


@pytest.fixture
def graded():
    """Images of three grades that differ in brightness, and their labels."""
    labels = torch.tensor([[0, 0], [0, 1], [1, 0]]).repeat(4, 1)
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(12, 1, 4, 4, generator=generator)
    return noise + labels.sum(dim=1).view(-1, 1, 1, 1), labels


def test_one_sample_per_grade_has_no_diversity(graded):
    images, labels = graded
    one_each = images[:3].repeat(4, 1, 1, 1)
    assert diversity(one_each, images, labels) == pytest.approx(0, abs=1e-6)
    # without labels, three different samples are diverse
    assert diversity(one_each, images, None) > 0.5


def test_training_images_as_samples_have_a_diversity_of_one(graded):
    images, labels = graded
    assert diversity(images, images, labels) == 1
    within_grades = images.view(4, 3, 1, 4, 4).flip(0).flatten(0, 1)
    assert diversity(within_grades, images, labels) == pytest.approx(1)
    assert diversity(images / 4, images, labels) == pytest.approx(0.25)


def test_diversity_is_a_ratio_of_root_mean_squares_over_pairs(graded):
    images, _ = graded
    samples = images.flip(0)[:, :, :2, :2].cumsum(dim=0)
    first, second = torch.combinations(torch.arange(12)).T

    def differing(of):
        return (of[first] - of[second]).square().mean().sqrt()

    expected = differing(samples) / differing(images)
    assert diversity(samples, images, None) == pytest.approx(float(expected), rel=1e-5)


def test_diversity_needs_two_images_of_a_grade(graded):
    images, labels = graded
    assert diversity(images[:3], images[:3], labels[:3]) is None
    assert diversity(images[:4], images[:4], labels[:4]) == 1


# -- choice of images -----------------------------------------------------------------------------


def labels_of(*classes):
    return torch.tensor([divmod(each, 4) for each in classes], dtype=torch.int64).view(-1, 2)


def choose(train, held_out, count, group=4):
    return choose_images(train, held_out, count, group, torch.Generator().manual_seed(1))


def test_both_sets_have_the_same_grades_and_no_image_twice():
    train, held_out = labels_of(*[0, 1, 2, 5] * 10), labels_of(*[1, 1, 1, 2, 2, 5] * 3)
    chosen = choose(train, held_out, 32)
    assert (len(chosen.train), len(chosen.held_out)) == (32, 16)
    assert torch.equal(train[chosen.train[:16]], held_out[chosen.held_out])
    for index in (chosen.train, chosen.held_out):
        assert len(set(index.tolist())) == len(index)
    # in random order, so that batches are mixed
    assert len(train[chosen.train[:8]].unique(dim=0)) > 1
    other = choose_images(train, held_out, 32, 4, torch.Generator().manual_seed(2))
    assert not torch.equal(other.train, chosen.train)


def test_sets_are_whole_groups_and_never_more_than_requested():
    train, held_out = labels_of(*[0] * 50), labels_of(*[0] * 50)
    for count, group, expected in ((10, 4, 8), (16, 4, 16), (99, 4, 48), (99, 3, 48)):
        chosen = choose(train, held_out, count, group)
        assert (len(chosen.train), len(chosen.held_out)) == (expected, expected)


def test_at_least_eight_held_out_images_need_a_counterpart():
    train = labels_of(*[0] * 40)
    assert len(choose(train, labels_of(*[0] * 7), 32).held_out) == 0
    assert len(choose(train, labels_of(*[0] * 8), 32).held_out) == 8
    assert len(choose(train, labels_of(*[0] * 7, *[1] * 9), 32).held_out) == 0
    assert len(choose(train, labels_of(), 32).train) == 32


# -- probes ---------------------------------------------------------------------------------------


@pytest.fixture
def data(make_data):
    data = make_data(val_fraction=0.3, test_fraction=0.3)
    data.setup("fit")
    return data


def test_images_of_a_part_come_at_any_resolution_of_the_schedule(data):
    large, small = data.images("train", [3, 5]), data.images("train", [3, 5], 8)
    assert torch.equal(data.images("train", [3, 5], 16), large)
    assert small.shape == (2, 1, 8, 8)
    assert (avg_pool2d(large.float(), 2) - small.float()).abs().max() <= 1


@pytest.mark.parametrize("conditional", [True, False])
def test_a_probe_scores_images_at_the_stage_of_the_module(data, make_module, conditional):
    module = make_module(conditional=conditional, stddev_group=2)
    module.resolution, module.alpha = 16, 0.25
    row = probe_discriminator(module, data, count=16, batch_size=8, seed=3)
    assert row == pytest.approx(
        probe_discriminator(module, data, count=16, batch_size=4, seed=3), abs=1e-5
    )
    other = probe_discriminator(module, data, count=16, batch_size=8, seed=4)
    assert all(other[name] != row[name] for name in ("logits_train", "logits_generated"))
    assert {"logits_train", "logits_held_out", "logits_generated", "diversity"} <= row.keys()


@pytest.mark.parametrize("conditional", [True, False])
def test_training_images_are_faded_as_in_training(data, make_module, conditional):
    # without groups, the mean logit of all images does not depend on their order
    module = make_module(conditional=conditional, stddev_group=1)
    module.resolution, module.alpha = 16, 0.25
    reals, labels = module.prepare_reals(data.images("train")), data.labels("train")
    given = labels if conditional else None
    with torch.no_grad():
        logits = module.discriminator(reals, given, resolution=16, alpha=0.25)
    assert torch.allclose(score(module, reals, labels, 4), logits, atol=1e-6)
    row = probe_discriminator(module, data, count=24, batch_size=8, seed=3)
    assert row["logits_train"] == pytest.approx(float(logits.mean()), abs=1e-5)
    assert row["sign_real"] == pytest.approx(float(logits.sign().mean()))


def test_samples_that_are_training_images_are_as_varied_and_one_per_grade_is_not(
    data, make_module, monkeypatch
):
    module = make_module()

    def nth_of_its_grade(count):
        def sample(indices, labels, *, seed):
            same = (data.labels("train") == labels[:, None]).all(dim=2)
            found = [mine.nonzero().flatten()[:count] for mine in same]
            chosen = [mine[n % len(mine)] for n, mine in zip(indices, found, strict=True)]
            return data.images("train", chosen)

        monkeypatch.setattr(module, "sample", sample)
        return probe_discriminator(module, data, count=24, batch_size=24, seed=0)["diversity"]

    assert nth_of_its_grade(100) == pytest.approx(1, abs=0.35)
    assert nth_of_its_grade(1) == pytest.approx(0, abs=1e-6)


def test_a_network_whose_last_layer_is_zero_has_collapsed(data, make_module):
    module = make_module()
    assert probe_discriminator(module, data, count=24, batch_size=8, seed=0)["diversity"] > 0.2
    blank(module)
    assert probe_discriminator(module, data, count=24, batch_size=8, seed=0)["diversity"] == 0


def test_a_discriminator_that_memorises_its_images_overfits(make_data, make_module, monkeypatch):
    """Against samples as good as images, all that D can learn is which images it is shown."""
    parts = {"val_fraction": 0.3, "test_fraction": 0.6}
    data = make_data(num_phantoms=None, phantom_counts="AA:160", **parts)
    data.setup("fit")
    module = make_module(conditional=False)
    module.resolution = 8
    reals, fakes = (module.prepare_reals(data.images(part, None, 8)) for part in ("train", "test"))
    monkeypatch.setattr(module, "sample", lambda n, labels, seed: to_uint8(fakes[n]))
    optimizer = torch.optim.Adam(module.discriminator.parameters(), lr=0.01, betas=(0.0, 0.99))

    def logits(images):
        return module.discriminator(images[torch.randperm(len(images))[:16]], resolution=8)

    def probe():
        return probe_discriminator(module, data, count=16, batch_size=16, seed=0)

    assert probe().get("overfitting", 0.0) < 0.5
    for _ in range(120):
        optimizer.zero_grad()
        (softplus(-logits(reals)) + softplus(logits(fakes))).mean().backward()
        optimizer.step()
    row = probe()
    train, held_out, generated = (row[f"logits_{of}"] for of in ("train", "held_out", "generated"))
    assert row["overfitting"] == pytest.approx((train - held_out) / (train - generated), rel=1e-4)
    assert row["overfitting"] > 0.5
    assert row["sign_real"] > 0.3


@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_probes_leave_weights_gradients_and_modes_alone(name, data, make_module):
    module = make_module(name).train()
    module.generator.eval()
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    modes, state = [m.training for m in module.modules()], torch.get_rng_state()
    probe_discriminator(module, data, count=16, batch_size=8, seed=0)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all((p.grad == 1).all() for p in module.parameters())
    assert [m.training for m in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
