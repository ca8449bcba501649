from __future__ import annotations

from blastogan.callbacks.watch import alarms
from blastogan.callbacks.watch.alarms import Alarm, Alarms, Norms
from blastogan.metrics.augmentation_leaks import KINDS

LOGITS = {"logits_train": 0.0, "logits_held_out": 0.0, "logits_generated": 0.0}


def rung(alarm, *looks):
    """Looks at which an alarm begins to ring; a look is bad, clear or between."""
    return [
        n for n, look in enumerate(looks) if alarm.take(bad=look == "bad", clear=look == "clear")
    ]


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
        if judge.take_diversity({"diversity": value}, start + 1000 * n)
    ]


def test_collapse_is_a_loss_of_diversity_in_two_looks():
    assert collapses(0.3, 0.5, 0.2, 0.2, 0.2) == [3]
    assert collapses(0.5, 0.2, 0.3, 0.2) == []
    # never varied, and not long enough to say
    assert collapses(0.3, 0.2, 0.2, 0.2) == []
    assert collapses(0.0, 0.0, 0.0) == []
    assert collapses(0.09, 0.09, 0.09, start=4000) == [2]
    # between the two thresholds, what has collapsed has not recovered
    assert collapses(0.5, 0.2, 0.2, 0.3, 0.2, 0.2) == [2]
    assert collapses(0.5, 0.2, 0.2, 0.45, 0.2, 0.2) == [2, 5]


def overfits(*ratios):
    judge = Alarms()
    rows = [LOGITS | ({"overfitting": ratio} if ratio else {}) for ratio in ratios]
    return [n for n, row in enumerate(rows) if judge.take_overfitting(row, 0)]


def test_overfitting_is_a_ratio_above_a_half_in_three_looks():
    assert overfits(0.6, 0.6, 0.6, 0.9) == [2]
    assert overfits(0.6, 0.6, 0.5, 0.6, 0.6) == []
    assert overfits(0.6, 0.6, None, 0.6, 0.6) == []
    assert overfits(0.6, 0.6, 0.6, 0.45, 0.6, 0.6, 0.6) == [2]
    assert overfits(0.6, 0.6, 0.6, 0.3, 0.6, 0.6, 0.6) == [2, 6]


LEAK = {f"{kind}_{of}": 0.05 for kind in KINDS for of in ("real", "generated")}


def leaking(*values):
    judge = Alarms()
    rows = [{} if value is None else LEAK | {"leak": value, "augment_p": 0.5} for value in values]
    return [n for n, row in enumerate(rows) if judge.take_leak(row, 0)]


def test_a_leak_is_a_tenth_of_the_samples_beyond_chance_in_three_looks():
    assert leaking(0.11, 0.11, 0.11, 0.3) == [2]
    assert leaking(0.11, 0.11, 0.1, 0.11, 0.11) == []
    # of a look at small images nothing is known
    assert leaking(0.11, 0.11, None, 0.11) == [3]
    assert leaking(0.11, 0.11, 0.11, 0.06, 0.11, 0.11, 0.11) == [2]
    assert leaking(0.11, 0.11, 0.11, 0.04, 0.11, 0.11, 0.11) == [2, 6]


def test_alarms_of_earlier_versions_know_of_no_leak():
    judge = Alarms(good_images=32)
    judge.leak.take(bad=True, clear=False)
    state = judge.state_dict()
    assert Alarms.from_state_dict(state) == judge
    del state["leak"]
    assert Alarms.from_state_dict(state) == Alarms(good_images=32)


def explosions(*spans):
    norms = Norms()
    return [n for n, (largest, median) in enumerate(spans) if norms.take(largest, median)]


def test_gradients_explode_against_their_running_median():
    # the first steps are like no others
    assert explosions((150, 1), (90, 1)) == []
    assert explosions((2, 1), (150, 1)) == [1]
    assert explosions((90, 1), (90, 1)) == []
    # the median of a tick that explodes throughout is no measure for it
    assert explosions((2, 1), (500, 400), (500, 400)) == [1]
    assert explosions((2, 1), (500, 1), (50, 1), (500, 1), (2, 1), (500, 1)) == [1, 5]
    # one tick does not change what is usual
    assert explosions((2, 1), (2, 1), (2, 1), (60, 50), (150, 1)) == [4]
    # what is larger for good is usual in the end
    assert explosions((2, 1), *[(500, 400)] * 12, (50_000, 400)) == [1, 13]


def test_where_it_was_good_is_before_any_sign_of_collapse():
    judge, seen = Alarms(), []
    for n, value in enumerate((0.5, 0.6, 0.2, 0.2, 0.2, 0.5)):
        judge.take_diversity({"diversity": value}, 1000 * n)
        judge.take_overfitting(LOGITS | {"overfitting": 0.9}, 1000 * n)
        judge.note_good(1000 * n)
        seen.append(judge.good_images)
    assert seen == [0, 1000, 1000, 1000, 1000, 5000]


def test_messages_name_what_is_seen_expected_and_to_be_tried():
    judge = Alarms()
    judge.take_diversity({"diversity": 0.61}, 0)
    judge.take_diversity({"diversity": 0.1}, 1000)
    told = judge.take_diversity({"diversity": 0.07}, 12_800)
    for part in ("mode collapse at 12.8 kimg", "0.07", "above 0.25", "0.61", "init_args.r1_gamma"):
        assert part in told
    row = {"overfitting": 0.7, "logits_train": 1.5, "logits_held_out": -0.25}
    told = alarms.of_overfitting({**row, "logits_generated": -1.0}, 2500)
    for part in (
        "2.5 kimg",
        "r_v is 0.70",
        "0.5",
        "1.50",
        "-0.25",
        "-1.00",
        "augment grade-preserving",
    ):
        assert part in told
    told = alarms.of_leak(
        {**LEAK, "turned_generated": 0.42, "leak": 0.28, "augment_p": 0.79}, 64_000
    )
    for part in ("64 kimg", "42% of the samples and 5% of", "28% more", "10%", "p is 0.79"):
        assert part in told
    for option in ("augment_max", "augment_target", "augment_p", "augment with"):
        assert f"--model.init_args.{option}" in told
    assert not judge.take_norms({"grad_norm_g_max": 3.0, "grad_norm_g_median": 2.0}, 400)
    (told,) = judge.take_norms({"grad_norm_g_max": 250.0, "grad_norm_g_median": 2.0}, 500)
    for part in ("0.5 kimg", "generator's", "125 times", "median of 2,", "generator_clip 20"):
        assert part in told
