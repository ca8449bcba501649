"""Distances and the evaluator, against closed forms and against sets whose answer is known."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch
from helpers.features import normal, pictures
from helpers.stand_in import Pixels

from blastogan.errors import UserError
from blastogan.metrics import kernel
from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.frechet import FrechetReference, Moments, frechet_deviation
from blastogan.metrics.gap import held_out_gap
from blastogan.metrics.kernel import subset_kid, unbiased_kid
from blastogan.metrics.manifold import density_coverage, precision_recall
from blastogan.metrics.similarity import ms_ssim_within_classes
from blastogan.metrics.sliced_wasserstein import image_swd_by_direction
from blastogan.metrics.specs import METRICS
from blastogan.metrics.statistics import SetStatistics


def features_only(**settings):
    return FidelityEvaluator(Pixels(), **settings)


# -- moments and distance --------------------------------------------------------------------------


def test_moments_are_those_of_the_whole_set_in_any_batches_and_order():
    features = normal(101, shift=1000.0)
    parts = [Moments.of(features[:7]), Moments.of(features[7:])]
    for found in (parts[0].merge(parts[1]), parts[1].merge(parts[0]), Moments.of(features)):
        assert found.count == 101
        np.testing.assert_allclose(found.mean, features.double().mean(0))
        np.testing.assert_allclose(found.covariance, np.cov(features.double().T), rtol=1e-9)


def test_equal_sets_are_at_no_distance_and_a_shift_costs_its_square():
    features = normal(500)
    reference = FrechetReference(Moments.of(features))
    scale = reference.trace
    assert reference.distance(Moments.of(features)) == pytest.approx(0, abs=1e-9 * scale)
    for shift in (0.5, 1.0, 2.0, 4.0):
        moved = Moments.of(features.double() + torch.tensor([shift] + [0.0] * 7))
        assert reference.distance(moved) == pytest.approx(shift**2, rel=1e-6)


@pytest.mark.parametrize(("count", "dim"), [(400, 32), (30, 64), (300, 2048)])
def test_distance_of_a_scaled_set_has_a_closed_form_even_where_covariances_are_singular(count, dim):
    features = normal(count, dim).double() * torch.linspace(3, 0.01, dim)
    moments = Moments.of(features)
    mean = moments.mean
    scaled = Moments.of((features - mean) * 2 + mean)
    distance = FrechetReference(moments).distance(scaled)
    # root of 4 A A is 2 A: tr A + 4 tr A - 4 tr A
    assert distance == pytest.approx(float(moments.covariance.trace()), rel=1e-6)


def test_distance_of_orthogonal_singular_sets_is_the_sum_of_traces():
    first, second = torch.zeros(50, 8), torch.zeros(50, 8)
    first[:, :4], second[:, 4:] = normal(50, 4), normal(50, 4, seed=1)
    one, other = Moments.of(first), Moments.of(second)
    expected = (
        one.covariance.trace() + other.covariance.trace() + (one.mean - other.mean).square().sum()
    )
    assert FrechetReference(one).distance(other) == pytest.approx(float(expected), rel=1e-6)


def test_distance_equals_that_of_torch_fidelity():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    real = normal(600, 48).double() * torch.linspace(2, 0.2, 48)
    fake = normal(500, 48, seed=1).double() * torch.linspace(0.5, 1, 48) + 0.1
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(side) for side in (fake, real)), verbose=False
    )
    ours = FrechetReference(Moments.of(real)).distance(Moments.of(fake))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def test_distance_refuses_one_image_and_other_dimensions():
    with pytest.raises(UserError, match="got 1"):
        FrechetReference(Moments.of(normal(1)))
    with pytest.raises(UserError, match="dimensions"):
        FrechetReference(Moments.of(normal(9))).distance(Moments.of(normal(9, 4)))


def test_deviation_of_the_distance_is_its_spread_over_draws():
    reference = FrechetReference(Moments.of(normal(2000)))
    draws = [normal(300, seed=seed, shift=0.3) for seed in range(1, 41)]
    spread = np.std([reference.distance(Moments.of(draw)) for draw in draws])
    said = np.mean([frechet_deviation(reference, draw) for draw in draws])
    assert said == pytest.approx(spread, rel=0.35)
    assert math.isnan(frechet_deviation(reference, normal(19)))


# -- kernel distance -------------------------------------------------------------------------------


def test_kid_is_torch_fidelitys():
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, fake = normal(80), normal(70, seed=1, shift=0.2)
    theirs = kid_features_to_metric(
        fake, real, kid_subset_size=50, kid_subsets=7, rng_seed=3, verbose=False
    )
    assert subset_kid(real, fake, subset_size=50, subsets=7, seed=3) == tuple(theirs.values())


def test_kid_of_whole_sets_is_the_unbiased_sum_and_knows_its_error():
    real, fake = normal(12), normal(9, seed=1)
    kernel = lambda a, b: ((a.double() @ b.double().T) / 8 + 1) ** 3  # noqa: E731
    expected = sum(
        float((kernel(s, s).sum() - kernel(s, s).diagonal().sum()) / (len(s) * (len(s) - 1)))
        for s in (real, fake)
    ) - 2 * float(kernel(real, fake).mean())
    assert unbiased_kid(real, fake)[0] == pytest.approx(expected)
    draws = [unbiased_kid(normal(60, seed=s), normal(40, seed=s + 99, shift=1)) for s in range(40)]
    values, errors = np.array(draws).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.35)


def test_error_of_kid_counts_embryos_not_images():
    def draw(seed):
        images = normal(30, seed=seed).repeat_interleave(4, dim=0)
        return images + 0.01 * normal(120, seed=seed + 50)

    fake, embryos = normal(200, seed=999, shift=0.5), torch.arange(30).repeat_interleave(4)
    spread = np.std([unbiased_kid(draw(seed), fake)[0] for seed in range(30)])
    by_embryo = np.mean([unbiased_kid(draw(seed), fake, embryos)[1] for seed in range(10)])
    by_image = np.mean([unbiased_kid(draw(seed), fake)[1] for seed in range(10)])
    # images of one embryo tell the same four times; the draw of fakes adds to the error
    assert by_embryo > 0.9 * spread
    assert by_image < 0.75 * by_embryo
    # against leaving out by hand
    real, few = draw(0)[:12], fake[:5]
    left = [unbiased_kid(real[embryos[:12] != n], few)[0] for n in range(3)]
    variance = 2 / 3 * sum((value - np.mean(left)) ** 2 for value in left)
    fakes = [unbiased_kid(real, few[torch.arange(5) != n])[0] for n in range(5)]
    variance += 4 / 5 * sum((value - np.mean(fakes)) ** 2 for value in fakes)
    assert unbiased_kid(real, few, embryos[:12])[1] == pytest.approx(variance**0.5)
    assert math.isnan(unbiased_kid(real[:8], few, embryos[:8])[1])


def test_kid_of_whole_sets_is_the_same_in_blocks(monkeypatch):
    real, fake = normal(12), normal(9, seed=1, shift=1)
    whole = unbiased_kid(real, fake)
    monkeypatch.setattr(kernel, "_BLOCK", 4)
    assert unbiased_kid(real, fake) == pytest.approx(whole, rel=1e-9)


def test_kid_of_sets_no_larger_than_a_subset_has_a_deviation():
    evaluator = features_only(metrics=("kid",), kid_subsets=5)
    real, fake = (SetStatistics.of_features(normal(30, seed=seed)) for seed in (0, 1))
    found = evaluator.compare(real, fake)
    expected = unbiased_kid(real.features, fake.features)[1]
    assert found.values["kid_std"] == pytest.approx(expected)
    assert found.floor["kid_std"] > 0.01


def test_kid_of_one_law_is_zero_on_average_however_few_images():
    values = [unbiased_kid(normal(10, seed=s), normal(15, seed=s + 99))[0] for s in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5


def test_gap_calls_out_copies_and_leaves_fresh_samples_alone():
    train, held_out = normal(200, 16), normal(60, 16, seed=1)
    copies = held_out_gap(train, held_out, train.repeat(3, 1), permutations=399)
    assert copies.suspicious
    assert copies.kid > 0
    assert copies.nearest_train == 1.0
    assert copies.nearest_expected == pytest.approx(200 / 260)
    assert copies.nearest_p == 1 / 400
    assert copies.kid_p < 0.01
    fresh = [
        held_out_gap(
            normal(200, 16, seed=s), normal(60, 16, seed=s + 99), normal(300, 16, seed=s + 200),
            permutations=199,
        )
        for s in range(20)
    ]  # fmt: skip
    # p values of a true hypothesis are uniform
    for values in ([gap.kid_p for gap in fresh], [gap.nearest_p for gap in fresh]):
        assert min(values) > 0.005
        assert 0.25 < np.mean(values) < 0.75


def test_gap_sees_copies_among_honest_fakes_under_heavy_tails():
    tails = lambda count, seed: normal(count, 16, seed=seed) ** 3  # noqa: E731
    train, held_out = tails(400, 0), tails(100, 1)
    assert held_out_gap(train, held_out, torch.cat([tails(400, 2), train])).nearest_p < 0.005
    assert held_out_gap(train, held_out, tails(800, 3)).nearest_p > 0.05


def test_gap_agrees_with_the_distances_and_swaps_whole_embryos():
    train, held_out, fake = normal(40), normal(20, seed=1), normal(50, seed=2, shift=0.5)
    gap = held_out_gap(train, held_out, fake, permutations=9)
    assert gap.kid_train == pytest.approx(unbiased_kid(train, fake)[0])
    assert gap.kid_held_out == pytest.approx(unbiased_kid(held_out, fake)[0])
    # ten embryos of six like images: a change of single images would pass for a discovery
    centres = normal(10, seed=5) * 2
    images = centres.repeat_interleave(6, dim=0) + 0.01 * normal(60, seed=6)
    groups = [str(n // 6) for n in range(60)]
    by_embryo = held_out_gap(images[:48], images[48:], images[:48], groups=groups)
    by_image = held_out_gap(images[:48], images[48:], images[:48])
    assert by_embryo.kid_p > 5 * by_image.kid_p
    assert by_embryo.nearest_p > 5 * by_image.nearest_p


def test_gap_with_an_embryo_larger_than_all_others_is_no_discovery():
    # every change of places that moved the large embryo and the small one would leave no other
    groups = ["a"] * 4 + ["b"] + ["c"] * 8
    gap = held_out_gap(normal(5), normal(8, seed=1), normal(30, seed=2), groups=groups)
    assert 0.1 < gap.kid_p <= 1
    assert not gap.suspicious


# -- precision, recall, density, coverage ----------------------------------------------------------


def test_precision_and_recall_of_equal_sets_are_one_and_far_ones_zero():
    real = normal(60)
    assert precision_recall(real, real.clone()) == ((1.0, 0.0), (1.0, 0.0))
    assert precision_recall(real, real + 100) == ((0.0, 0.0), (0.0, 0.0))
    assert density_coverage(real, real + 100)[1][0] == 0.0


def test_collapse_has_high_precision_and_low_recall_and_coverage():
    real = normal(400)
    collapsed = real[:1] + 0.01 * normal(400, seed=1)
    precision, recall = precision_recall(real, collapsed)
    assert precision[0] > 0.95
    assert recall[0] < 0.05
    assert density_coverage(real, collapsed)[1][0] < 0.1
    # and the other way round: too wide a generator
    precision, recall = precision_recall(real, normal(400, seed=1, scale=6.0))
    assert precision[0] < 0.2
    assert recall[0] > 0.9


def test_density_and_coverage_of_one_distribution_are_as_derived():
    density, coverage = density_coverage(normal(1000), normal(1000, seed=1))
    assert density[0] == pytest.approx(1, abs=4 * density[1] + 0.05)
    assert coverage[0] == pytest.approx(1 - 2**-5, abs=4 * coverage[1])
    assert coverage[1] == pytest.approx((31 / 32 / 32 / 1000) ** 0.5, rel=0.3)


# -- the evaluator ---------------------------------------------------------------------------------


def test_evaluator_gives_every_metric_with_its_deviation_and_leaves_random_states_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    evaluator = features_only(kid_subset_size=20, kid_subsets=5, class_images=5)
    labels = torch.zeros(40, 2, dtype=torch.int64)
    real = evaluator.gather([{"image": pictures(40), "labels": labels}], real=True)
    fake = evaluator.gather([{"image": pictures(40, seed=1), "labels": labels}])
    report = evaluator.compare(real, fake)
    for name in set(METRICS) - {"classes"}:
        assert math.isfinite(report.values[name]), name
        assert report.values[f"{name}_std"] >= 0, name
    assert report.classes.keys() == {"AA", "ICM A", "TE A"}
    row = report.classes["AA"]
    assert row["low"] < row["kid"] < row["high"]
    assert report.floor["n"] == [20, 20]
    assert report.floor["fid"] > 0
    assert {"fid", "kid_std", "swd", "n_real", "floor", "extractor"} <= report.to_json().keys()
    after = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_evaluator_hands_its_settings_to_every_metric():
    evaluator = features_only(kid_subset_size=20, kid_subsets=5, class_images=6, seed=3)
    labels = torch.tensor([[0, 0]] * 6 + [[1, 1]] * 5 + [[2, 2]] * 29)
    batches = [{"image": pictures(40, seed=n, resolution=32), "labels": labels} for n in (0, 1)]
    real, fake = evaluator.gather(batches[:1], real=True), evaluator.gather(batches[1:])
    report = evaluator.compare(real, fake)
    sides, values = (real.features, fake.features), report.values
    settings = {"subset_size": 20, "subsets": 5, "seed": 3}
    assert (values["kid"], values["kid_std"]) == subset_kid(*sides, **settings)
    overlap = precision_recall(*sides, neighbours=3) + density_coverage(*sides, neighbours=5)
    for name, pair in zip(("precision", "recall", "density", "coverage"), overlap, strict=True):
        assert (values[name], values[f"{name}_std"]) == pair
    similar = ms_ssim_within_classes(fake.images, labels, seed=3)
    assert (values["ms_ssim"], values["ms_ssim_std"]) == similar
    levels = image_swd_by_direction(real.images, fake.images, seed=3)
    means = torch.stack([along.mean() for along in levels.values()])
    errors = torch.stack([along.var() / len(along) for along in levels.values()])
    assert values["swd"] == pytest.approx(float(means.mean()))
    assert values["swd_std"] == pytest.approx(float(errors.sum().sqrt()) / 2)
    assert report.classes["BB"]["kid"] is None
    row, error = report.classes["AA"], unbiased_kid(sides[0][:6], sides[1][:6])[1]
    assert row["high"] - row["kid"] == pytest.approx(1.96 * error)
    assert row["kid"] - row["low"] == pytest.approx(1.96 * error)
    shown = {title: text for title, text, _ in report.lines()}
    assert shown["SWD x 1000"].startswith(f"{values['swd']:.4g} ")
    assert shown["KID x 1000"].startswith(f"{1000 * values['kid']:.4g} ")


def test_shares_have_the_error_of_the_side_that_they_are_shares_of():
    evaluator = features_only(metrics=("precision", "recall"))
    sides = [SetStatistics.of_features(normal(n, seed=n, shift=n / 200)) for n in (40, 160)]
    found = evaluator.compare(*sides).values
    for name, count in (("precision", 160), ("recall", 40)):
        assert 0 < found[name] < 1
        expected = (found[name] * (1 - found[name]) / count) ** 0.5
        assert found[f"{name}_std"] == pytest.approx(expected)


def test_deviation_of_fid_does_not_hang_on_the_order_of_the_fakes():
    evaluator, fake = features_only(metrics=("fid",)), normal(400, seed=1)
    real = SetStatistics.of_features(normal(400))
    deviations = [
        evaluator.compare(real, SetStatistics.of_features(each)).values["fid_std"]
        for each in (fake, fake[fake[:, 0].argsort()])
    ]
    assert deviations[1] == pytest.approx(deviations[0], rel=0.6)


def test_equal_sets_score_zero_and_a_darker_one_worse_and_worse():
    evaluator = features_only(metrics=("fid", "kid"), kid_subset_size=30)
    real = evaluator.gather([pictures(60)], real=True)
    same = evaluator.compare(real, evaluator.gather([pictures(60)]))
    assert same.values["fid"] == pytest.approx(0, abs=1e-6)
    found = [
        evaluator.compare(real, evaluator.gather([pictures(60, seed=1, level=level)])).values
        for level in (128, 120, 110, 100)
    ]
    for name in ("fid", "kid"):
        values = [each[name] for each in found]
        assert values == sorted(values)
        assert abs(same.values[name]) < values[1] / 10


def test_statistics_do_not_depend_on_batches_nor_on_who_gathered_which_share():
    evaluator = features_only(swd_images=10)
    images, index = pictures(40), torch.arange(40)
    whole = evaluator.gather([images], real=True)
    batches = [{"image": images[n : n + 7], "index": index[n : n + 7]} for n in range(0, 40, 7)]
    parted = evaluator.gather(batches, real=True)
    shares = [
        evaluator.gather([{"image": images[n::3], "index": index[n::3]}], real=True)
        for n in range(3)
    ]
    merged = SetStatistics.merge(shares, evaluator.swd_images, evaluator.seed)
    for other in (parted, merged):
        assert torch.equal(whole.features, other.features)
        assert torch.equal(whole.images, other.images)
        assert torch.equal(whole.image_index, other.image_index)
        assert torch.equal(whole.half, other.half)
        for mine, theirs in zip(whole.halves, other.halves, strict=True):
            assert mine.count == theirs.count
            torch.testing.assert_close(mine.scatter, theirs.scatter, rtol=1e-10, atol=1e-10)
    assert torch.equal(whole.images, images[whole.image_index])
    assert whole.image_index.tolist() != list(range(10))


def test_halves_never_separate_an_embryo():
    groups = [f"embryo {n // 5}" for n in range(100)]
    found = features_only().gather([pictures(100)], groups=groups, real=True)
    sides = {(group, int(half)) for group, half in zip(groups, found.half, strict=True)}
    assert len(sides) == 20
    assert 5 <= int(found.half.sum()) <= 95
    other = features_only(seed=1).gather([pictures(100)], groups=groups, real=True)
    assert not torch.equal(other.half, found.half)


def test_fid_alone_keeps_neither_features_nor_images():
    evaluator = features_only(metrics=("fid",))
    side = evaluator.gather((pictures(8, seed=n) for n in range(5)), real=True)
    assert side.count == 40
    assert side.features is None
    assert side.images is None
    assert evaluator.compare(side, evaluator.gather([pictures(50)])).values.keys() == {"fid"}


def test_fid_alone_holds_on_to_nothing_while_it_streams():
    living = {}

    def stream():
        for n in range(30):
            yield {"image": pictures(4, seed=n), "labels": torch.zeros(4, 2, dtype=torch.int64),
                   "index": torch.arange(4 * n, 4 * n + 4)}  # fmt: skip
            if n in (5, 29):
                gc.collect()
                living[n] = sum(type(each) is torch.Tensor for each in gc.get_objects())

    features_only(metrics=("fid",)).gather(stream(), real=True)
    assert living[5] == living[29]


def test_few_images_lower_the_subset_and_are_warned_of():
    evaluator = features_only(metrics=("fid", "kid"))
    report = evaluator.compare(evaluator.gather([pictures(12)]), evaluator.gather([pictures(15)]))
    assert any("subsets of 12 images instead of 1000" in note for note in report.notes)
    assert any("FID of 12 images in 16 dimensions" in note for note in report.notes)


def test_without_an_extractor_pixels_are_still_compared():
    evaluator = FidelityEvaluator("none")
    sides = [evaluator.gather([pictures(20, seed=seed)]) for seed in (0, 1)]
    report = evaluator.compare(*sides)
    assert {"swd", "ms_ssim", "ms_ssim_real"} <= report.values.keys()
    assert "fid" not in report.values
    assert report.extractor == "none"
    assert report.to_json()["fid"] is None


def test_sets_that_come_class_by_class_are_compared_as_wholes():
    flat, rough = pictures(40).float(), pictures(40, seed=1).float()
    flat = ((flat - 128) / 20 + 128).to(torch.uint8)
    real = torch.cat([flat[:30], rough[:30].to(torch.uint8)])
    fake = torch.cat([flat[30:], rough[30:].to(torch.uint8)])
    evaluator = FidelityEvaluator("none", metrics=("swd",))
    swd = lambda images: evaluator.compare(*map(evaluator.gather, images)).values["swd"]  # noqa: E731
    assert swd([[real], [fake]]) < swd([[real[:20]], [fake]]) / 2
    assert swd([[fake], [real]]) < swd([[fake], [real[:20]]]) / 2


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "empty"),
        ([torch.full((2, 1, 16, 16), 3.0)], "floats from 3 to 3"),
        ([torch.full((2, 1, 16, 16), torch.nan)], "floats from nan"),
        ([torch.zeros(2, 4, 16, 16, dtype=torch.uint8)], "channels"),
        ([torch.zeros(2, 16, 16, dtype=torch.uint8)], "channels"),
        ([torch.zeros(2, 1, 16, 16, dtype=torch.int64)], "torch.int64"),
        ([pictures(2), pictures(2, resolution=32)], "several shapes"),
    ],
)
def test_images_in_another_form_are_refused(batches, message):
    with pytest.raises(UserError, match=message):
        features_only().gather(batches)


def test_floats_in_range_are_taken_for_what_they_are():
    images = pictures(6)
    evaluator = features_only(metrics=("fid", "kid"))
    found = evaluator.gather([images.float() / 127.5 - 1])
    assert torch.equal(found.features, evaluator.gather([images]).features)


def test_evaluator_refuses_single_images_unknown_metrics_and_mixed_extractors():
    evaluator = features_only(metrics=("fid",))
    one, many = evaluator.gather([pictures(1)]), evaluator.gather([pictures(5)])
    with pytest.raises(UserError, match="fake set"):
        evaluator.compare(many, one)
    with pytest.raises(UserError, match="fud"):
        features_only(metrics=("fud",))
    with pytest.raises(UserError, match="kid_subset_size"):
        features_only(kid_subset_size=1)
    with pytest.raises(UserError, match="seed"):
        features_only(seed=-1)
    with pytest.raises(UserError, match="one extractor"):
        evaluator.compare(SetStatistics.of_features(normal(5)), many)


def test_sizes_that_no_pyramid_fits_are_left_out_with_a_note():
    evaluator = FidelityEvaluator("none")
    odd = evaluator.gather([pictures(4, resolution=20)])
    report = evaluator.compare(odd, evaluator.gather([pictures(4)]))
    assert report.values == {}
    (note,) = report.notes
    assert note.startswith("no SWD and no MS-SSIM")
    assert note.endswith("got 20x20")
