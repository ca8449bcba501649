"""Published splits, split files, and leaks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blastogan.data.records import ImageRecord
from blastogan.data.split_file import read_split_file, write_split_file
from blastogan.data.splits import Leak, SplitPlan, find_leaks, resolve_copies, split_records
from blastogan.errors import ProblemList, UserError
from blastogan.grades import Grade

ROOT = Path("/set")


def record(n, embryo, part="", grade="AA"):
    return ImageRecord(ROOT / f"x/{n}.png", Grade.parse(grade), embryo, part)


PUBLISHED = [
    *(record(n, f"e{n // 2}", "train", "AB" if n % 4 < 2 else "BB") for n in range(20)),
    record(20, "e0", "test"),
    record(21, "t", "test"),
]


def test_a_split_survives_a_round_trip_through_a_file(tmp_path):
    records = [record(n, f"e{n}", grade="3AB-") for n in range(4)]
    split = {"train": [0, 3], "val": [1], "test": [2]}
    file = tmp_path / "run" / "split.csv"
    write_split_file(file, records, split, ROOT)
    assert file.read_text().splitlines()[:2] == ["image,embryo,grade,part", "x/0.png,e0,3AB-,train"]
    assert split_records(records, SplitPlan(file=str(file)), ROOT) == split


def test_odd_names_survive_a_round_trip(tmp_path):
    odd = ["ü.png", os.fsdecode(b"Zo\xeb.png"), "two\nlines.png", " a,b;c\t'\".png ", "\ufeffx.png"]
    records = [ImageRecord(ROOT / name, Grade.parse("AA"), name) for name in odd]
    split = {"train": [0, 3], "val": [1, 4], "test": [2]}
    file = tmp_path / "split.csv"
    write_split_file(file, records, split, ROOT)
    assert split_records(records, SplitPlan(file=str(file)), ROOT) == split


def test_images_that_a_file_does_not_name_are_left_out(tmp_path, caplog):
    file = tmp_path / "split.csv"
    file.write_text("part;image\ntrain;x/1.png\nVAL;x/0.png\n")
    records = [record(n, f"e{n}") for n in range(3)]
    split = split_records(records, SplitPlan(file=str(file)), ROOT)
    assert split == {"train": [1], "val": [0], "test": []}
    assert "1 images are not in" in caplog.text


def test_unknown_images_are_listed(tmp_path):
    file = tmp_path / "split.csv"
    file.write_text("image,part\nx/0.png,train\nx/8.png,val\n../9.png,test\n")
    with pytest.raises(ProblemList) as caught:
        split_records([record(0, "e")], SplitPlan(file=str(file)), ROOT)
    assert caught.value.problems == ["../9.png", "x/8.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image\nx/0.png\n", "missing part"),
        ("image,part\nx/0.png,dev\n", "part 'dev'"),
        ("image,part\nx/0.png,train\nx/0.png,val\n", "is val, but train"),
        ("image,part\n,train\n", "no image"),
        ("image,part\nx/0.png,val\n", "no training image"),
    ],
)
def test_invalid_files(tmp_path, text, message):
    file = tmp_path / "split.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        split_records([record(0, "e")], SplitPlan(file=str(file)), ROOT)
    with pytest.raises(UserError, match="does not exist"):
        read_split_file(tmp_path / "absent.csv")


def test_a_published_split_is_kept_and_its_leaks_are_reported(caplog):
    plan = SplitPlan("published", val_fraction=0.2)
    split = split_records(PUBLISHED, plan)
    assert split["test"] == [20, 21]
    assert sorted(split["train"] + split["val"]) == list(range(20))
    # val was held out by embryo
    assert {leak.embryo for leak in find_leaks(PUBLISHED, split)} == {"e0"}
    assert "leaks: 1 embryos or groups, such as e0" in caplog.text


def unordered():
    """A published split without val, mixed with images of no part."""
    published = [record(n, f"e{n // 2}", "train") for n in range(20)]
    others = [record(20, "t", "test"), record(21, "n"), record(22, "n"), record(23, "n")]
    return [*others[:2], *published[:7], *others[2:], *published[7:]]


def test_val_is_held_out_of_a_published_train(caplog):
    records = unordered()
    split = split_records(records, SplitPlan("published", val_fraction=0.2, test_fraction=0.3))
    assert split["test"] == [0]
    assert {records[n].part for part in ("train", "val") for n in split[part]} == {"train"}
    assert [len(split[part]) for part in ("train", "val")] == [16, 4]
    assert find_leaks(records, split) == []
    assert split["train"] == sorted(split["train"])
    assert "3 images are in no part" in caplog.text


def test_nothing_is_left_out_of_a_complete_published_split(caplog):
    split_records(PUBLISHED, SplitPlan("published"))
    assert "in no part" not in caplog.text


def test_what_is_held_out_of_a_published_train_depends_on_the_seed():
    records = unordered()
    held_out = [
        tuple(split_records(records, SplitPlan("published", val_fraction=0.2, seed=seed))["val"])
        for seed in (0, 1, 2, 0)
    ]
    assert len(set(held_out)) == 3
    assert held_out[0] == held_out[3]


def test_a_published_val_stays_as_it_is():
    records = [*unordered(), record(24, "v", "val")]
    split = split_records(records, SplitPlan("published", val_fraction=0.2))
    assert (split["val"], len(split["train"])) == ([24], 20)


def test_leaking_training_images_are_dropped_when_asked(caplog):
    split = split_records(PUBLISHED, SplitPlan("published", leaks="drop", val_fraction=0))
    assert split == {"train": list(range(2, 20)), "val": [], "test": [20, 21]}
    assert find_leaks(PUBLISHED, split) == []
    assert "2 of 20 training images; these training images are dropped" in caplog.text


def test_copies_are_reported_or_dropped(caplog):
    split = {"train": [0, 1], "val": [2], "test": [3]}
    assert resolve_copies(split, [5, 6, 5, 6], "report") == split
    assert "2 images in train or val are exact copies" in caplog.text
    with pytest.raises(UserError, match="no training image"):
        resolve_copies(split, [5, 6, 5, 6], "drop")
    assert resolve_copies(split, [5, 7, 6, 6], "drop") == {"train": [0, 1], "val": [], "test": [3]}


def test_leaks_are_counted_by_part():
    records = [record(0, "a"), record(1, "a"), record(2, "b"), record(3, "a")]
    split = {"train": [0, 1], "val": [2], "test": [3]}
    assert find_leaks(records, split) == [Leak("a", {"train": 2, "test": 1})]


def test_a_missing_published_split_and_unknown_kinds_are_refused():
    with pytest.raises(UserError, match="no published split"):
        split_records([record(0, "a"), record(1, "b")], SplitPlan("published"))
    only = [record(0, "a", "train"), record(1, "a", "test")]
    with pytest.raises(UserError, match="no training image"):
        split_records(only, SplitPlan("published", leaks="drop", val_fraction=0))
    with pytest.raises(UserError, match="'random'"):
        SplitPlan("random")
