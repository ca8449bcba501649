"""The split by embryo."""

from __future__ import annotations

import logging
import random
from collections import Counter
from pathlib import Path

import pytest

from blastogan.data.records import ImageRecord
from blastogan.data.splits import split_by_embryo
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
