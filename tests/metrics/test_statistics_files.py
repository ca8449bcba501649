"""Statistics as files, the cache, and fakes against held-out images."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.features import normal, pictures
from helpers.stand_in import Pixels

from blastogan.errors import UserError
from blastogan.metrics.cache import cached, load_statistics, save_statistics, statistics_key
from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.held_out import HeldOutReport, _matched, compare_held_out
from blastogan.metrics.report import FidelityReport
from blastogan.metrics.statistics import SetStatistics


@pytest.fixture
def evaluator():
    return FidelityEvaluator(Pixels(), kid_subset_size=10, kid_subsets=5)


@pytest.fixture
def real(evaluator):
    batch = {"image": pictures(30), "labels": torch.randint(4, (30, 2))}
    return evaluator.gather([batch], groups=[f"e{n // 3}" for n in range(30)], real=True)


def test_file_gives_back_all_but_the_images(evaluator, real, tmp_path):
    found = load_statistics(save_statistics(real, tmp_path / "folder" / "real.npz"))
    for name in ("index", "features", "labels", "half"):
        assert torch.equal(getattr(found, name), getattr(real, name)), name
    assert found.groups == real.groups
    assert (found.extractor, found.extractor_key) == ("pixels", "pixels-1")
    assert found.images is None
    fake = evaluator.gather([pictures(20, seed=1)])
    mine, theirs = evaluator.compare(real, fake), evaluator.compare(found, fake)
    for name in ("fid", "kid", "precision", "coverage"):
        assert mine.values[name] == theirs.values[name]
    assert mine.floor == theirs.floor
    assert list(tmp_path.rglob("*.part")) == []


def test_damaged_and_stale_files_are_told(real, tmp_path):
    path = save_statistics(real, tmp_path / "real.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_statistics(path)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="damaged"):
        load_statistics(path)
    np.savez(path, version=0)
    with pytest.raises(UserError, match="version 0"):
        load_statistics(path)
    np.savez(path, version=1, index=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="cannot read"):
        load_statistics(path)
    foreign = {"mu": np.zeros(3), "sigma": np.eye(3)}
    np.savez(path, **foreign)
    with pytest.raises(UserError, match="another program's"):
        load_statistics(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match="another program's"):
        load_statistics(path)
    path.write_bytes(whole)
    with np.load(path) as file:
        arrays = dict(file)
    for name, wrong in {
        "features": np.full_like(arrays["features"], np.nan),
        "labels": arrays["labels"][:, 0],
        "half": arrays["half"].astype(float),
        "mean_0": arrays["mean_0"][:-1],
        "count_1": 99,
        "groups": arrays["groups"][:-1],
        "index": arrays["groups"],
        "shape": arrays["groups"],
        "extractor": np.array([{}], dtype=object),
        "count_0": -arrays["count_0"],
    }.items():
        np.savez(path, **{**arrays, name: wrong})
        with pytest.raises(UserError, match="another program's"):
            load_statistics(path)
    for name, value in (("labels", 9), ("half", 7)):
        np.savez(path, **{**arrays, name: np.full_like(arrays[name], value)})
        with pytest.raises(UserError, match=name):
            load_statistics(path)
    np.savez(path, **{**arrays, "index": arrays["index"][::-1]})
    with pytest.raises(UserError, match="ascend"):
        load_statistics(path)
    np.savez_compressed(path, **arrays)
    with pytest.raises(UserError, match="compressed"):
        load_statistics(path)
    with pytest.raises(UserError, match="no statistics at"):
        load_statistics(tmp_path / "absent.npz")


def test_cache_makes_an_entry_once_and_anew_when_anything_changes(evaluator, tmp_path, caplog):
    made = []

    def gather(images):
        def make():
            made.append(len(images))
            return evaluator.gather([images], real=True)

        key = (statistics_key(images), evaluator.extractor.key, 0)
        return cached(key, True, make, tmp_path)

    images = pictures(10)
    first, second = gather(images), gather(images.clone())
    assert made == [10]
    assert torch.equal(first.features, second.features)
    images[3, 0, 5, 5] += 1
    gather(images)
    assert made == [10, 10]
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(b"damaged")
    gather(images)
    assert made == [10, 10, 10]
    assert "gathering again" in caplog.text
    gather(images)
    assert made == [10, 10, 10]


def test_cache_entry_of_moments_alone_does_not_serve_who_needs_features(tmp_path):
    def make(metrics):
        evaluator = FidelityEvaluator(Pixels(), metrics=metrics)
        gather = lambda: evaluator.gather([pictures(10)], real=True)  # noqa: E731
        return cached(("same",), evaluator.keeps_features, gather, tmp_path)

    assert make(("fid",)).features is None
    assert make(("fid", "kid")).features is not None
    assert make(("fid",)).features is not None


def test_statistics_key_knows_pixels_shapes_labels_and_embryos():
    images, labels = pictures(4), torch.zeros(4, 2, dtype=torch.int64)
    found = {
        statistics_key(images),
        statistics_key(images.view(4, 1, 8, 32)),
        statistics_key(images.flip(0)),
        statistics_key(images, labels),
        statistics_key(images, labels + 1),
        statistics_key(images, labels, ["a", "b", "c", "d"]),
        statistics_key(images, labels, ["a", "b", "c", "c"]),
    }
    assert len(found) == 7


def held_out_report(fake, metrics=("fid", "kid")):
    evaluator = FidelityEvaluator(Pixels(), metrics=metrics, kid_subset_size=50)
    sides = (SetStatistics.of_features(side) for side in (normal(300, 16), normal(80, 16, 1), fake))
    return compare_held_out(evaluator, *sides)


def test_copies_have_the_best_distance_and_are_called_out():
    copies = held_out_report(normal(300, 16).repeat(2, 1))
    honest = held_out_report(normal(600, 16, seed=2))
    assert copies.train.values["fid"] < honest.train.values["fid"] / 5
    assert copies.train.values["fid"] < copies.held_out.values["fid"] / 5
    assert copies.fid_train_matched < copies.held_out.values["fid"]
    assert "reproduces training images" in copies.verdict()
    assert "within chance" in honest.verdict()
    # at equal numbers of images both sides are equally far
    assert honest.fid_train_matched == pytest.approx(honest.held_out.values["fid"], rel=0.5)
    json.dumps(copies.to_json())


def test_held_out_comparison_never_separates_an_embryo():
    evaluator = FidelityEvaluator(Pixels(), metrics=("kid",), kid_subset_size=10)
    images = (2 * normal(10, seed=5)).repeat_interleave(6, dim=0) + 0.01 * normal(60, seed=6)
    groups = tuple(str(n // 6) for n in range(60))
    sides = [SetStatistics.of_features(each) for each in (images[:48], images[48:], images[:48])]
    alone = evaluator.gap(*sides)
    sides[0].groups, sides[1].groups = groups[:48], groups[48:]
    assert evaluator.gap(*sides).kid_p > 5 * alone.kid_p
    matched = _matched(sides[0], 12, seed=0).features
    found = [groups[n] for n in torch.cdist(matched, images[:48]).argmin(1).tolist()]
    assert sorted(Counter(found).values()) == [6, 6]


def test_without_features_there_is_no_gap():
    evaluator = FidelityEvaluator(Pixels(), metrics=("fid",))
    sides = [evaluator.gather([pictures(20, seed=n)], real=True) for n in range(3)]
    report = compare_held_out(evaluator, *sides)
    assert report.gap is None
    assert "no held-out gap: it needs the features" in report.verdict()
    report.held_out.extractor = "none"
    assert "no held-out gap: it needs an extractor" in report.verdict()


def test_a_single_held_out_image_is_named_as_the_reason_for_no_gap():
    sides = FidelityReport({}, "grader", 9, 9), FidelityReport({}, "grader", 1, 9)
    assert "two or more held-out images, got 1" in HeldOutReport(*sides).verdict()
