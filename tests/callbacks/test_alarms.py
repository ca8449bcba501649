from __future__ import annotations

import math
from pathlib import Path

import pytest

from blastogan.callbacks.watch import alarms
from blastogan.callbacks.watch.alarms import Alarm, Alarms, Norms

LOGITS = {"logits_train": 0.0, "logits_held_out": 0.0, "logits_generated": 0.0}


def rung(alarm, *values):
    """Positions at which an alarm starts to ring; a value is bad, clear or between."""
    return [n for n, v in enumerate(values) if alarm.update(bad=v == "bad", clear=v == "clear")]


def test_an_alarm_rings_once_until_it_has_cleared():
    bad, between, clear = "bad", "between", "clear"
    assert rung(Alarm(2), bad, bad, bad, bad) == [1]
    assert rung(Alarm(2), bad, between, bad, clear, bad) == []
    assert rung(Alarm(2), bad, bad, between, bad, bad) == [1]
    assert rung(Alarm(2), bad, bad, clear, bad, bad) == [1, 4]
    assert rung(Alarm(1), clear, bad, bad, clear, bad) == [1, 4]


def collapses(*values, start=0):
    judge = Alarms()
    return [
        n
        for n, value in enumerate(values)
        if judge.update_diversity({"diversity": value}, start + 1000 * n)
    ]


def test_collapse_is_low_diversity_in_two_consecutive_probes():
    assert collapses(0.3, 0.5, 0.2, 0.2, 0.2) == [3]
    assert collapses(0.5, 0.2, 0.3, 0.2) == []
    # never varied, but still too early to say
    assert collapses(0.3, 0.2, 0.2, 0.2) == []
    assert collapses(0.0, 0.0, 0.0) == []
    assert collapses(0.09, 0.09, 0.09, start=4000) == [2]
    # between the two thresholds, a collapsed generator has not recovered
    assert collapses(0.5, 0.2, 0.2, 0.3, 0.2, 0.2) == [2]
    assert collapses(0.5, 0.2, 0.2, 0.45, 0.2, 0.2) == [2, 5]


def overfits(*ratios):
    judge = Alarms()
    rows = [LOGITS | ({"overfitting": ratio} if ratio else {}) for ratio in ratios]
    return [n for n, row in enumerate(rows) if judge.update_overfitting(row)]


def test_overfitting_is_a_ratio_above_a_half_in_three_consecutive_probes():
    assert overfits(0.6, 0.6, 0.6, 0.9) == [2]
    assert overfits(0.6, 0.6, 0.5, 0.6, 0.6) == []
    assert overfits(0.6, 0.6, None, 0.6, 0.6) == []
    assert overfits(0.6, 0.6, 0.6, 0.45, 0.6, 0.6, 0.6) == [2]
    assert overfits(0.6, 0.6, 0.6, 0.3, 0.6, 0.6, 0.6) == [2, 6]


def test_retired_alarms_in_a_saved_state_are_ignored():
    judge = Alarms(good_images=32)
    judge.collapse.update(bad=True, clear=False)
    state = judge.state_dict() | {"leak": {"patience": 3, "seen": 1, "ringing": False}}
    assert Alarms.from_state_dict(state) == judge


def explosions(*spans):
    norms = Norms()
    return [n for n, (largest, median) in enumerate(spans) if norms.update(largest, median)]


def test_gradients_explode_against_their_running_median():
    # the first tick only sets the scale
    assert explosions((150, 1), (90, 1)) == []
    assert explosions((2, 1), (150, 1)) == [1]
    assert explosions((90, 1), (90, 1)) == []
    # a tick that explodes throughout is not compared with its own median
    assert explosions((2, 1), (500, 400), (500, 400)) == [1]
    assert explosions((2, 1), (500, 1), (50, 1), (500, 1), (2, 1), (500, 1)) == [1, 5]
    # one tick does not change the running median
    assert explosions((2, 1), (2, 1), (2, 1), (60, 50), (150, 1)) == [4]
    # a lasting increase becomes the new scale
    assert explosions((2, 1), *[(500, 400)] * 12, (50_000, 400)) == [1, 13]


def test_the_last_good_probe_is_before_any_sign_of_collapse():
    judge, seen = Alarms(), []
    for n, value in enumerate((0.5, 0.6, 0.2, 0.2, 0.2, 0.5)):
        judge.update_diversity({"diversity": value}, 1000 * n)
        judge.update_overfitting(LOGITS | {"overfitting": 0.9})
        judge.record_good(1000 * n)
        seen.append(judge.good_images)
    assert seen == [0, 1000, 1000, 1000, 1000, 5000]


def test_messages_name_what_was_found_what_was_expected_and_what_to_try():
    found = alarms.collapse_message(0.07, 0.61, 12_800, Path("run/checkpoints"), 9_600)
    for part in ("at 12.8 kimg", "0.07", "above 0.25", "0.61", "init_args.r1_gamma"):
        assert part in found
    row = {"overfitting": 0.7, "logits_train": 1.5, "logits_held_out": -0.25}
    found = alarms.overfitting_message({**row, "logits_generated": -1.0}, 2500)
    for part in ("2.5 kimg", "r_v is 0.70", "0.5", "1.50", "-0.25", "-1.00", "grade-preserving"):
        assert part in found
    judge = Alarms()
    assert not judge.update_norms({"grad_norm_g_max": 3.0, "grad_norm_g_median": 2.0}, 400)
    (found,) = judge.update_norms({"grad_norm_g_max": 250.0, "grad_norm_g_median": 2.0}, 500)
    for part in ("0.5 kimg", "generator's", "125 times", "median of 2,", "generator_clip 20"):
        assert part in found


@pytest.mark.parametrize(("good", "which"), [(9_600, "at or before 9.6 kimg"), (0, "earlier one")])
def test_messages_say_which_checkpoint_to_resume_from(good, which):
    folder = Path("run/checkpoints")
    for found in (
        alarms.collapse_message(0.07, 0.61, 12_800, folder, good),
        alarms.nan_message({"loss_d": math.inf}, "step 3", folder / "diverged.ckpt", good),
    ):
        for part in (str(folder), which, "--ckpt_path", "init_args.r1_gamma", "init_args.lr"):
            assert part in found
    for part in ("loss_d is infinite", "diverged.ckpt", "step 3"):
        assert part in found
