"""The split file in the folder of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from blastogan.callbacks import SplitRecord
from blastogan.data.records import ImageRecord
from blastogan.data.split_file import read_split_file
from blastogan.grades import Grade

RECORDS = tuple(ImageRecord(Path(f"{n}.png"), Grade.parse("AB"), f"e{n}") for n in range(4))
FIRST = {"train": [0, 1], "val": [2], "test": [3]}
SECOND = {"train": [0, 2], "val": [1], "test": [3]}


@pytest.fixture
def record(tmp_path, make_data):
    """Start a fit and return the files of its folder by name."""

    def begin(split, records=RECORDS, rank_zero=True):
        data = make_data()
        data.records, data.split = records, split
        trainer = SimpleNamespace(
            datamodule=data, default_root_dir=str(tmp_path / "run"), is_global_zero=rank_zero
        )
        SplitRecord().on_fit_start(trainer, None)
        return {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*")}

    return begin


def test_the_split_file_can_be_read_back(record, tmp_path):
    assert list(record(FIRST)) == ["split.csv"]
    parts = {"0.png": "train", "1.png": "train", "2.png": "val", "3.png": "test"}
    assert read_split_file(tmp_path / "run/split.csv") == parts


def test_a_resumed_run_leaves_the_file_unchanged(record, tmp_path, caplog):
    first = record(FIRST)
    written = (tmp_path / "run/split.csv").stat().st_mtime_ns
    assert record(FIRST) == first
    assert (tmp_path / "run/split.csv").stat().st_mtime_ns == written
    assert not caplog.records


def test_a_different_split_does_not_replace_that_of_an_earlier_run(record, tmp_path, caplog):
    first = record(FIRST)
    second = record(SECOND)
    assert set(second) == {"split.csv", "split-2.csv"}
    assert second["split.csv"] == first["split.csv"]
    assert read_split_file(tmp_path / "run/split-2.csv")["2.png"] == "train"
    assert "split-2.csv" in caplog.text
    # both are recognised, and a third gets its own file
    assert record(SECOND) == record(FIRST) == second
    regraded = (RECORDS[0], *(ImageRecord(r.path, Grade("C", "C"), "x") for r in RECORDS[1:]))
    assert set(record(FIRST, regraded)) == {*second, "split-3.csv"}
    assert len(caplog.records) == 2


def test_only_the_first_process_writes(record):
    assert record(FIRST, rank_zero=False) == {}


def test_other_data_modules_have_no_split(tmp_path):
    for data in ({}, {"datamodule": None}, {"datamodule": SimpleNamespace(split=FIRST)}):
        trainer = SimpleNamespace(default_root_dir=str(tmp_path), is_global_zero=True, **data)
        SplitRecord().on_fit_start(trainer, None)
    assert list(tmp_path.iterdir()) == []
