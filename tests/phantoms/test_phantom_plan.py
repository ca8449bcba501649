"""Which picture of which embryo is number n of a set of phantoms."""

from __future__ import annotations

import time
from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from blastogan.errors import ProblemList
from blastogan.grades import CLASSES
from blastogan.phantoms import PhantomPlan
from blastogan.phantoms.ranges import EXPANSION_FREQUENCIES, IMAGES_PER_EMBRYO, STUDY_COUNTS
from blastogan.phantoms.streams import Stream, generator
from blastogan.phantoms.styles import CLINICS

MIXED = {"style": "mixed", "clinic": "mixed"}


def counts(views):
    return Counter(view.grade.name for view in views)


def sizes(views):
    """Number of pictures of each embryo, in order."""
    return [len(list(group)) for _, group in groupby(views, lambda view: view.embryo)]


def chi_square(found, law, total):
    expected = {key: total * weight / sum(law.values()) for key, weight in law.items()}
    return sum((found[key] - number) ** 2 / number for key, number in expected.items())


@pytest.mark.parametrize("settings", [{}, {"planes": 3, **MIXED}, {"counts": "balanced"}])
def test_a_larger_set_begins_with_the_smaller_one(settings):
    large = PhantomPlan(8000, seed=5, **settings)
    assert PhantomPlan(10, seed=5, **settings)[3] == large[3]
    assert list(PhantomPlan(3810, seed=5, **settings)) == large[:3810]
    # and whichever is asked for first
    assert PhantomPlan(8000, seed=5, **settings)[7777] == large[7777]
    assert list(PhantomPlan(100, seed=6, **settings)) != large[:100]


@pytest.mark.parametrize("planes", [1, 7])
def test_each_block_of_the_study_has_exactly_its_counts(planes):
    assert sum(STUDY_COUNTS.values()) == 3800
    plan = PhantomPlan(7600, planes=planes)
    assert counts(plan[:3800]) == STUDY_COUNTS
    assert counts(plan[3800:]) == STUDY_COUNTS
    assert [view.grade for view in plan[:3800]] != [view.grade for view in plan[3800:]]
    assert len(PhantomPlan()) == 3800


def test_embryos_of_the_study_have_as_many_pictures_as_the_law_says():
    found = Counter(sizes(PhantomPlan(7600)))
    embryos = sum(found.values())
    assert set(found) == set(IMAGES_PER_EMBRYO) == set(range(1, 12))
    # 0.999 quantile for ten degrees of freedom; the last of each class, which is cut, hardly counts
    assert chi_square(found, IMAGES_PER_EMBRYO, embryos) < 29.6


@pytest.mark.parametrize("settings", [{}, {"planes": 2, **MIXED}, {"counts": "balanced"}])
def test_pictures_of_an_embryo_lie_together_and_agree(settings):
    views = list(PhantomPlan(4000, **settings))
    embryos = [view.embryo for view in views]
    assert embryos == sorted(embryos)
    assert set(embryos) == set(range(embryos[-1] + 1))
    for _, group in groupby(views, lambda view: view.embryo):
        group = list(group)
        assert len({(view.grade, view.clinic) for view in group}) == 1
        assert len({(view.shot, view.plane) for view in group}) == len(group)


def test_classes_are_mixed_within_a_block():
    names = [view.grade.name for view in PhantomPlan(3800)]
    assert all(abs(names[part::2].count("AA") - 966) < 80 for part in (0, 1))
    assert 800 < names[:1900].count("AA") < 1130


@pytest.mark.parametrize(
    ("planes", "focus"),
    [(1, [0]), (2, [-15, 0]), (3, [-15, 0, 15]), (7, [-45, -30, -15, 0, 15, 30, 45])],
)
def test_focal_planes_lie_around_the_middle(planes, focus):
    views = PhantomPlan(40 * planes, counts="balanced", planes=planes)
    for number, view in enumerate(views):
        assert (view.embryo, view.shot, view.plane) == (number // planes, 0, number % planes)
        assert view.focus == focus[view.plane]


def test_shots_of_an_embryo_come_with_all_their_planes():
    views = list(PhantomPlan(3800, planes=7))
    group = max((list(g) for _, g in groupby(views, lambda view: view.embryo)), key=len)
    assert len(group) > 20
    for number, view in enumerate(group):
        assert (view.plane, view.shot) == (number % 7, number // 7)


def test_a_balanced_set_has_all_classes_in_each_ten_embryos():
    plan = PhantomPlan(4000, counts="balanced", planes=2)
    tens = [plan[n : n + 20] for n in range(0, 2040, 20)]
    assert all(counts(ten) == dict.fromkeys(CLASSES, 2) for ten in tens)
    assert len({tuple(view.grade.name for view in ten) for ten in tens}) == len(tens)


def test_explicit_counts_are_exact():
    plan = PhantomPlan(counts="CC:5, aa:10", planes=3)
    assert len(plan) == 15
    assert counts(plan) == {"AA": 10, "CC": 5}
    assert sorted(sizes(plan)) == [1, 2, 3, 3, 3, 3]
    assert max(view.shot for view in plan) == 0
    assert plan.counts == "AA:10,CC:5"
    assert list(plan) == list(PhantomPlan(15, counts="AA:10,CC:5", planes=3))
    orders = {
        tuple(view.grade.name for view in PhantomPlan(seed=seed, counts="AA:10,CC:5"))
        for seed in range(5)
    }
    assert len(orders) == 5


def test_expansions_follow_their_law():
    views = {view.embryo: view.grade.expansion for view in PhantomPlan(7600)}
    found = Counter(views.values())
    # 0.999 quantile for three degrees of freedom
    assert chi_square(found, EXPANSION_FREQUENCIES, len(views)) < 16.3
    for embryo in (0, 7, max(views)):
        number = generator(0, embryo, Stream.GRADE).random()
        steps = np.cumsum(list(EXPANSION_FREQUENCIES.values()))
        assert views[embryo] == list(EXPANSION_FREQUENCIES)[int((number > steps).sum())]


def test_styles_and_clinics_are_mixed_by_embryo():
    plain, mixed = PhantomPlan(), PhantomPlan(**MIXED)
    assert {view.clinic for view in plain} == {"hoffman-1"}
    assert {view.clinic for view in PhantomPlan(50, style="dic", clinic="2")} == {"dic-2"}
    found = Counter({view.embryo: view.clinic for view in mixed}.values())
    assert set(found) == set(CLINICS)
    assert chi_square(found, dict.fromkeys(CLINICS, 1), sum(found.values())) < 20.5
    # nothing else changes
    assert [(v.embryo, v.grade, v.shot) for v in plain] == [
        (v.embryo, v.grade, v.shot) for v in mixed
    ]


def test_a_plan_is_a_sequence():
    plan = PhantomPlan(10, seed=1)
    assert plan[-1] == plan[9] == list(plan)[9]
    assert plan[2:4] == [plan[2], plan[3]]
    for absent in (10, -11):
        with pytest.raises(IndexError, match=f"picture {absent} of 10 phantoms"):
            plan[absent]
    assert list(PhantomPlan(**plan.settings())) == list(plan)


@pytest.mark.parametrize("law", ["study", "balanced"])
def test_a_large_plan_is_made_in_no_time(law):
    began = time.process_time()
    assert PhantomPlan(100_000, counts=law)[99_999].embryo > 30_000
    assert time.process_time() - began < 3  # 0.3 and 0.6 s on an idle machine


def test_all_that_is_wrong_is_listed():
    with pytest.raises(ProblemList) as caught:
        PhantomPlan(0, -1, "AA:x", 8, "phase", "3")
    told = caught.value.problems
    assert len(told) == 6
    for text in (
        "seed of phantoms is -1: expected 0 to",
        "planes is 8: expected a whole number from 1 to 7",
        "style is 'phase': expected 'hoffman', 'dic'",
        "clinic is '3': expected '1', '2'",
        "count of phantoms is 0: expected a whole number of 1 or more",
        "counts 'AA:x': expected study, balanced, or such as AA:20,CC:5",
    ):
        assert any(text in problem for problem in told), text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 4, "counts": "AA:2,BB:9"}, "sum to 11, but the count is 4"),
        ({"counts": "AA:2,AA:9"}, "name AA twice"),
        ({"counts": "AD:2"}, "unknown grade 'AD'"),
        ({"counts": None}, "counts is None"),
        ({"count": 2.5}, "count of phantoms is 2.5"),
        ({"planes": True}, "planes is True"),
        ({"seed": 2**64}, "seed of phantoms is 18446744073709551616"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with pytest.raises(ProblemList, match=message):
        PhantomPlan(**settings)
