from __future__ import annotations

from pathlib import Path

import pytest

from blastogan.data.balance import apply_rare_class_rule, class_distribution, systematic_counts
from blastogan.data.records import ImageRecord
from blastogan.errors import UserError
from blastogan.grades import Grade


def records(**counts):
    return [
        ImageRecord(Path(f"{text}_{n}.png"), Grade.parse(text.strip("_").replace("m", "-")), text)
        for text, count in counts.items()
        for n in range(count)
    ]


def names(found):
    return [str(record.grade) for record in found]


def test_distributions_follow_the_counts_their_roots_or_are_uniform():
    counts = {"AA": 16, "AB": 4, "CC": 0, "DD": 4}
    assert class_distribution(counts, "none") == {"AA": 4 / 6, "AB": 1 / 6, "CC": 0, "DD": 1 / 6}
    assert class_distribution(counts, "sqrt") == {"AA": 0.5, "AB": 0.25, "CC": 0, "DD": 0.25}
    assert class_distribution(counts, "uniform") == {"AA": 1 / 3, "AB": 1 / 3, "CC": 0, "DD": 1 / 3}


def test_an_unknown_balance_and_an_empty_set_are_refused():
    with pytest.raises(UserError, match="balance is 'even'"):
        class_distribution({"AA": 1}, "even")
    with pytest.raises(UserError, match="no images"):
        class_distribution({"AA": 0}, "uniform")


def test_systematic_counts_sum_up_and_have_the_exact_mean_over_offsets():
    shares = [0.55, 0.37, 0.0, 0.08]
    found = [systematic_counts(10, shares, (n + 0.5) / 100) for n in range(100)]
    assert found[0] == [5, 4, 0, 1]
    assert found[-1] == [6, 4, 0, 0]
    assert all(sum(each) == 10 for each in found)
    assert [sum(column) for column in zip(*found, strict=True)] == [550, 370, 0, 80]


def test_systematic_counts_are_exact_although_the_shares_are_rounded():
    tenths = [0.1] * 10  # which sum to less than 1
    assert all(systematic_counts(10, tenths, (n + 0.5) / 7) == [1] * 10 for n in range(7))
    assert sum(systematic_counts(10, tenths, 0.0)) == 10


def test_a_class_with_the_minimum_number_of_images_is_not_rare():
    found = records(AA=3, CC=2)
    for rule in ("keep", "merge", "drop"):
        assert apply_rare_class_rule(found, 2, rule) == (tuple(found), [])


def test_keep_warns_of_rare_classes():
    found = records(AA=3, CC=2, DD=1)
    kept, messages = apply_rare_class_rule(found, 3, "keep")
    assert kept == tuple(found)
    assert len(messages) == 1
    assert "fewer than 3 images: CC 2, DD 1" in messages[0]


def test_drop_removes_rare_classes_and_reports_them():
    kept, messages = apply_rare_class_rule(records(CC=2, AA=3, DD=1), 3, "drop")
    assert names(kept) == ["AA"] * 3
    assert len(messages) == 1
    assert "CC 2, DD 1" in messages[0]


def test_merge_moves_rare_classes_to_the_nearest_common_one():
    kept, messages = apply_rare_class_rule(records(AA=9, CB=4, CC=2, DD=1), 3, "merge")
    assert names(kept) == ["AA"] * 9 + ["CB"] * 7
    assert len(messages) == 1
    assert "CC 2 into CB, DD 1 into CB" in messages[0]


def test_merge_prefers_the_larger_then_the_first_of_equally_near_classes():
    larger, _ = apply_rare_class_rule(records(AB=4, BA=5, AA=1), 2, "merge")
    first, _ = apply_rare_class_rule(records(BA=4, AB=4, AA=1), 2, "merge")
    assert names(larger)[-1] == "BA"
    assert names(first)[-1] == "AB"


def test_a_merged_image_keeps_its_expansion_and_the_modifier_of_an_unchanged_letter():
    found = records(BB=3, _4BmCm=1)
    kept, _ = apply_rare_class_rule(found, 2, "merge")
    assert str(kept[-1].grade) == "4B-B"
    assert (kept[-1].path, kept[-1].embryo) == (found[-1].path, found[-1].embryo)


@pytest.mark.parametrize("rule", ["merge", "drop"])
def test_a_set_of_only_rare_classes_is_refused_unless_they_are_kept(rule):
    found = records(AA=3, CC=2)
    with pytest.raises(UserError, match=r"\(AA 3, CC 2\)"):
        apply_rare_class_rule(found, 9, rule)
    assert len(apply_rare_class_rule(found, 9, "keep")[0]) == 5


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="rare_classes is 'split'"):
        apply_rare_class_rule(records(AA=3), 1, "split")
