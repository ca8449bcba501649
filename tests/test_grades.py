from __future__ import annotations

import pytest

from blastogan.errors import UserError
from blastogan.grades import CLASSES, Grade, apportion, parse_grade_counts


@pytest.mark.parametrize(
    ("text", "name", "expansion", "modifiers"),
    [
        ("AB", "AB", None, ("", "")),
        ("4AB", "AB", 4, ("", "")),
        ("3AA-", "AA", 3, ("", "-")),
        ("1B-B-", "BB", 1, ("-", "-")),
        (" 5a+c ", "AC", 5, ("+", "")),
    ],
)
def test_a_grade_is_read_as_it_is_written(text, name, expansion, modifiers):
    grade = Grade.parse(text)
    assert (grade.name, grade.expansion) == (name, expansion)
    assert (grade.icm_modifier, grade.te_modifier) == modifiers


@pytest.mark.parametrize("text", ["", "A", "AD", "7AA", "ND", "AB3", "A--B", "EE"])
def test_an_invalid_grade_is_refused(text):
    with pytest.raises(UserError, match="unknown grade"):
        Grade.parse(text)


def test_classes_have_an_index_and_labels_that_go_back_and_forth():
    assert [Grade.parse(name).index for name in CLASSES] == list(range(10))
    assert Grade.parse("CA").labels == (2, 0)
    assert all(Grade.from_labels(*Grade.parse(name).labels).name == name for name in CLASSES)


def test_a_grade_prints_as_it_was_written():
    assert str(Grade.parse("3A-B+")) == "3A-B+"


def test_apportion_rounds_by_the_largest_remainders():
    assert apportion(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert apportion(7, {"a": 5, "b": 0, "c": 2}) == {"a": 5, "c": 2}
    assert sum(apportion(3800, {"a": 0.1, "b": 0.7, "c": 0.2}).values()) == 3800


def test_grade_counts_are_balanced_like_the_data_or_as_given():
    weights = {name: 1.0 if name in ("AA", "DD") else 0.0 for name in CLASSES}
    assert parse_grade_counts("balanced", 20, weights) == dict.fromkeys(CLASSES, 2)
    assert parse_grade_counts("like-data", 4, weights) == {"AA": 2, "DD": 2}
    assert parse_grade_counts("CC:5,aa:20", None, weights) == {"AA": 20, "CC": 5}
    # as Python takes grade="AB"
    assert parse_grade_counts("AB", 20, weights) == {"AB": 20}
    assert parse_grade_counts("CC, Ax", 5, weights) == {"AA": 2, "CC": 3}


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("evenly", 10, "expected balanced"),
        ("AA:x", None, "expected balanced"),
        ("AA:1,AA:2", None, "twice"),
        ("AE:1", None, "unknown grade"),
        ("AA:3", 4, "sum to 3"),
        ("balanced", None, "need a count"),
        ("AB", None, "need a count"),
        ("AE", 4, "unknown grade"),
    ],
)
def test_wrong_grade_counts_are_refused(text, count, message):
    with pytest.raises(UserError, match=message):
        parse_grade_counts(text, count, dict.fromkeys(CLASSES, 1.0))
