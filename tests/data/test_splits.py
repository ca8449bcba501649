"""The split by embryo."""

from __future__ import annotations

import logging
import random
from collections import Counter
from pathlib import Path

import pytest

from blastogan.data.parts import parts_of
from blastogan.data.records import ImageRecord
from blastogan.data.splits import SplitPlan, find_leaks, split_by_embryo, split_records
from blastogan.errors import UserError
from blastogan.grades import Grade


def make_records(embryos: dict[str, int], images: int = 3) -> list[ImageRecord]:
    """`images` images of each of so many embryos of each class."""
    return [
        ImageRecord(Path(f"{name}{embryo}_{image}.png"), Grade.parse(name), f"{name}{embryo}")
        for name, count in embryos.items()
        for embryo in range(count)
        for image in range(images)
    ]


def embryos_of(records: list[ImageRecord], part: list[int]) -> set[str]:
    return {records[index].embryo for index in part}


def test_parts_are_disjoint_complete_and_by_embryo():
    records = make_records({"AA": 30, "BB": 12, "CC": 5})
    random.Random(0).shuffle(records)
    split = split_by_embryo(records, 0.2, 0.1, seed=0)
    assert list(split) == ["train", "val", "test"]
    assert all(part == sorted(part) for part in split.values())
    assert sorted(index for part in split.values() for index in part) == list(range(len(records)))
    parts = [embryos_of(records, part) for part in split.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 47
    assert [len(part) for part in parts] == [33, 9, 5]


def test_every_class_is_held_out_in_proportion():
    records = make_records({"AA": 40, "AB": 20, "BB": 10}, images=1)
    split = split_by_embryo(records, 0.2, 0.1, seed=3)
    counts = {
        part: Counter(records[index].grade.name for index in indices)
        for part, indices in split.items()
    }
    assert counts["val"] == {"AA": 8, "AB": 4, "BB": 2}
    assert counts["test"] == {"AA": 4, "AB": 2, "BB": 1}


def test_rounding_is_carried_over_to_larger_classes():
    records = make_records({"AA": 4, "AB": 4, "BB": 4, "BC": 4, "CC": 4}, images=1)
    split = split_by_embryo(records, 0.1, 0.1, seed=0)
    # each class alone would give round(0.4) = 0
    assert (len(split["val"]), len(split["test"])) == (2, 2)


def test_depends_on_names_and_seed_only():
    records = make_records({"AA": 30, "BB": 12})
    shuffled = random.Random(5).sample(records, len(records))
    held = embryos_of(records, split_by_embryo(records, 0.2, 0.1, seed=1)["test"])
    assert held == embryos_of(shuffled, split_by_embryo(shuffled, 0.2, 0.1, seed=1)["test"])
    assert held != embryos_of(records, split_by_embryo(records, 0.2, 0.1, seed=2)["test"])
    # known answer: the split of a published seed must not change between versions or machines
    assert held == {"AA7", "AA17", "AA23", "BB1"}


def test_single_embryos_stay_in_train_and_are_reported(caplog):
    records = make_records({"AA": 10, "CB": 1, "DD": 1})
    with caplog.at_level(logging.WARNING):
        split = split_by_embryo(records, 0.4, 0.4, seed=0)
    assert {"CB0", "DD0"} <= embryos_of(records, split["train"])
    assert "grade CB, DD" in caplog.text
    caplog.clear()
    split_by_embryo(make_records({"AA": 10}), 0.1, 0.1, seed=0)
    assert not caplog.text


def test_the_only_embryo_with_a_grade_stays_in_train():
    records = make_records({"AA": 10}, images=2)
    for seed in range(10):
        mixed = [*records, ImageRecord(Path("x.png"), Grade.parse("CC"), "AA7")]
        assert "AA7" in embryos_of(mixed, split_by_embryo(mixed, 0.4, 0.4, seed)["train"])


def test_every_class_keeps_an_embryo_in_train():
    records = make_records({"AA": 2, "AB": 2, "BB": 2, "BC": 3})
    split = split_by_embryo(records, 0.45, 0.45, seed=0)
    assert {records[index].grade.name for index in split["train"]} == {"AA", "AB", "BB", "BC"}
    assert split["val"]
    assert split["test"]


@pytest.mark.parametrize("val_fraction", [0.001, 0.1, 0.6])
@pytest.mark.parametrize("embryos", [{"AA": 3}, {"AA": 2, "BB": 2}, {"AA": 3, "BB": 1}])
def test_small_sets_give_at_least_one_embryo(embryos, val_fraction):
    split = split_by_embryo(make_records(embryos), val_fraction, 0.1, seed=0)
    assert all(split.values())


def test_a_part_can_be_left_out():
    split = split_by_embryo(make_records({"AA": 2}), 0.5, 0, seed=0)
    assert [len(part) for part in split.values()] == [3, 3, 0]


@pytest.mark.parametrize("embryos", [{"AA": 2}, {"AA": 2, "BB": 1, "CC": 1}])
def test_too_small(embryos):
    with pytest.raises(UserError, match="too few embryos for val and test"):
        split_by_embryo(make_records(embryos), 0.1, 0.1, seed=0)


@pytest.mark.parametrize("fractions", [(-0.1, 0.1), (0.5, 0.5), (0, 1), (float("nan"), 0.1)])
def test_fractions_out_of_range(fractions):
    with pytest.raises(UserError, match="val_fraction"):
        split_by_embryo(make_records({"AA": 20}), *fractions, seed=0)


def test_nothing_to_split():
    with pytest.raises(UserError, match="no records"):
        split_by_embryo([], 0.1, 0.1, seed=0)


def graded(*embryos):
    """Three images of each embryo, given as ``name:grade``; ``x`` marks unknown letters."""
    records = []
    for text in embryos:
        name, _, grade = text.partition(":")
        letters = ["" if letter == "x" else letter for letter in grade]
        records += [ImageRecord(Path(f"{name}-{n}.png"), Grade(*letters), name) for n in range(3)]
    return records


MANY = graded(*(f"e{n}:{('AA', 'AB', 'BB', 'xx')[n % 4]}" for n in range(40)), "one:DD")


def test_each_embryo_is_in_one_fold_and_each_fold_has_all_classes():
    tested = Counter()
    for fold in range(5):
        split = split_records(MANY, SplitPlan(folds=5, fold=fold))
        assert find_leaks(MANY, split) == []
        assert sorted(n for part in split.values() for n in part) == list(range(len(MANY)))
        test = [MANY[n] for n in split["test"]]
        assert {record.grade.name for record in test} == {"AA", "AB", "BB", "xx"}
        assert len(test) == 24
        assert split["val"]
        tested.update(record.embryo for record in test)
    # the only embryo of a class stays in train
    assert tested == {f"e{n}": 3 for n in range(40)}


def test_folds_depend_on_names_and_seed_not_on_the_order():
    def tested(records, seed):
        split = split_records(records, SplitPlan(folds=5, fold=2, seed=seed))
        return {records[n].path for n in split["test"]}

    assert tested(MANY, 0) == tested(MANY[::-1], 0)
    assert tested(MANY, 0) != tested(MANY, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"folds": 1}, "folds"),
        ({"folds": 5, "fold": 5}, "fold"),
        ({"fold": 1}, "folds"),
        ({"folds": 5, "kind": "published"}, "folds"),
        ({"folds": 5, "file": "split.csv"}, "folds"),
    ],
)
def test_impossible_folds_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        SplitPlan(**settings)


def test_more_folds_than_embryos_are_refused():
    with pytest.raises(UserError, match="too few embryos"):
        split_records(graded("a:AA", "b:AA", "c:AA"), SplitPlan(folds=4))


def test_ungraded_embryos_are_held_out_like_a_class():
    split = split_by_embryo(MANY, 0.2, 0.2, 0)
    for part in ("val", "test"):
        names = Counter(MANY[n].grade.name for n in split[part])
        assert names == {"AA": 6, "AB": 6, "BB": 6, "xx": 6}


def test_parts_too_small_to_measure_anything_are_named():
    records = graded(*(f"e{n}:AA" for n in range(8)), *(f"f{n}:BB" for n in range(3)), "g:Ax")
    split = {"train": [], "val": list(range(15)), "test": list(range(21, 36))}
    train, val, test = parts_of(records, split)
    assert not train.weakness
    assert "val: 15 images of 5 embryos (AA 15)" in val.weakness
    assert not test.weakness
    assert str(test) == "test: 15 images of 5 embryos (AA 3, BB 9, Ax 3)"
    (few,) = parts_of(records, {"test": [0, 1, 24, 25]})
    assert few.weakness
    # without grades, classes are not asked for
    plain = graded(*(f"e{n}:xx" for n in range(5)))
    assert not parts_of(plain, {"val": range(15)})[0].weakness
