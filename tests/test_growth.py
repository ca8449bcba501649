from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule

TABLE = GrowthSchedule(
    start_resolution=4,
    final_resolution=16,
    fade_kimg=2.0,
    hold_kimg={4: 1.0, 8: 0.0, 16: 3.0},
    batch_size={4: 20, 8: 10, 16: 5},
    learning_rate={4: 0.001, 8: 0.001, 16: 0.002},
    tick_kimg=0.5,
)


def test_phases_follow_the_hand_computed_table():
    rows = [(p.kind, p.resolution, p.start, p.end, p.batch_size) for p in TABLE.phases]
    assert rows == [
        ("hold", 4, 0, 1000, 20),
        ("fade", 8, 1000, 3000, 10),
        ("fade", 16, 3000, 5000, 5),
        ("hold", 16, 5000, 8000, 5),
    ]
    assert (TABLE.tick_images, TABLE.total_ticks, TABLE.total_images) == (500, 16, 8000)


@pytest.mark.parametrize(
    ("shown", "resolution", "alpha", "phase"),
    [
        (0, 4, 1.0, 0),
        (999, 4, 1.0, 0),
        (1000, 8, 0.0, 1),
        (1500, 8, 0.25, 1),
        (3000, 16, 0.0, 2),
        (4000, 16, 0.5, 2),
        (5000, 16, 1.0, 3),
        (8000, 16, 1.0, 3),
        (9999, 16, 1.0, 3),
    ],
)
def test_state_at_images_shown(shown, resolution, alpha, phase):
    state = TABLE.at(shown)
    assert (state.resolution, state.alpha, state.phase.index) == (resolution, alpha, phase)


def test_what_is_reached_at_the_end_of_a_phase_is_that_phase_with_alpha_one():
    assert [(s.phase.index, s.alpha) for s in map(TABLE.state_after, (0, 1000, 3000, 3500))] == [
        (0, 1.0),
        (0, 1.0),
        (1, 1.0),
        (2, 0.25),
    ]


def test_alpha_rises_in_equal_steps_and_never_falls_within_a_resolution():
    alphas = [TABLE.at(n).alpha for n in range(3000, 8000, 5)]
    assert all(b >= a for a, b in pairwise(alphas))
    assert max(b - a for a, b in pairwise(alphas)) == pytest.approx(5 / 2000)


def test_learning_rate_is_that_of_the_resolution():
    assert [p.learning_rate for p in TABLE.phases] == [0.001, 0.001, 0.002, 0.002]
    assert GrowthSchedule().phases[0].learning_rate is None


def test_ticks_are_whole_batches_and_phases_whole_ticks_and_it_is_said():
    schedule = GrowthSchedule(8, 16, 1.0, 1.3, {8: 24, 16: 32}, tick_kimg=0.25)
    assert schedule.tick_images == 288
    assert all(
        p.end % 288 == 0 and schedule.tick_images % p.batch_size == 0 for p in schedule.phases
    )
    assert "a tick of 0.25 kimg is 288 images" in schedule.rounding
    assert "hold 8x8 of 1.3 kimg is 1440 images" in schedule.rounding
    assert TABLE.rounding == ()


def test_next_tick_is_strictly_ahead():
    assert [TABLE.next_tick(n) for n in (0, 499, 500, 501)] == [500, 500, 1000, 1000]


def test_a_schedule_comes_back_from_plain_values():
    assert GrowthSchedule.from_dict(TABLE.to_dict()) == TABLE


@pytest.mark.parametrize(
    ("changes", "prolongs"),
    [
        ({}, True),
        ({"hold_kimg": {8: 1.0, 16: 1.5}}, True),
        ({"hold_kimg": {8: 1.0, 16: 1.5}, "learning_rate": 0.1}, True),
        ({"hold_kimg": {8: 1.0, 16: 0.5}}, False),
        ({"hold_kimg": {8: 1.0, 16: 0.0}}, False),
        ({"hold_kimg": {8: 1.5, 16: 1.5}}, False),
        ({"fade_kimg": 2.0}, False),
        ({"tick_kimg": 0.25}, False),
        ({"batch_size": 4}, False),
        ({"final_resolution": 32, "hold_kimg": 1.0}, False),
    ],
)
def test_only_a_longer_last_hold_prolongs_a_schedule(changes, prolongs):
    first = {"start_resolution": 8, "final_resolution": 16, "fade_kimg": 1.0, "batch_size": 8}
    first |= {"hold_kimg": {8: 1.0, 16: 1.0}, "tick_kimg": 0.5}
    assert GrowthSchedule(**{**first, **changes}).prolongs(GrowthSchedule(**first)) == prolongs


def test_a_schedule_that_ends_with_a_fade_is_prolonged_by_a_hold():
    faded, held = (GrowthSchedule(8, 16, 1.0, {8: 1.0, 16: x}, 8, None, 0.5) for x in (0, 1.0))
    assert held.prolongs(faded)
    assert not faded.prolongs(held)
    longer = GrowthSchedule(8, 16, 1.5, {8: 1.0, 16: 0}, 8, None, 0.5)
    assert not longer.prolongs(faded)


def test_a_schedule_can_be_cut_at_both_ends_by_its_resolutions_alone():
    whole = {"fade_kimg": {8: 1, 16: 1, 32: 1, 64: 1}, "hold_kimg": {4: 1, 8: 2, 16: 3, 32: 4}}
    cut = GrowthSchedule(8, 16, **whole, batch_size={4: 3, 8: 10, 16: 10, 512: 7}, tick_kimg=1)
    assert [(p.kind, p.resolution, p.end) for p in cut.phases] == [
        ("hold", 8, 2000), ("fade", 16, 3000), ("hold", 16, 6000)
    ]  # fmt: skip
    assert cut.tick_images == 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"final_resolution": 48}, "final_resolution is 48.*power of two.*nearest is 64"),
        ({"start_resolution": 2}, "start_resolution is 2"),
        ({"final_resolution": 2048}, "nearest is 1024"),
        ({"start_resolution": 64, "final_resolution": 32}, "above final_resolution"),
        ({"batch_size": {8: 4}}, "batch_size has no value for 16, 32"),
        ({"batch_size": {8: 4, 16: 4, 32: 4, 48: 4}}, "has a value for 48"),
        ({"tick_kimg": float("inf")}, "tick_kimg is inf"),
        ({"batch_size": 0}, "batch_size at 8 is 0"),
        ({"hold_kimg": -1.0}, "hold_kimg at 8 is -1"),
        ({"hold_kimg": float("nan")}, "hold_kimg at 8 is nan"),
        ({"tick_kimg": 0.0}, "tick_kimg is 0"),
        ({"learning_rate": 0.0}, "learning_rate at 8"),
        ({"cooldown_kimg": -1.0}, "cooldown_kimg is -1"),
        ({"cooldown_kimg": float("nan")}, "cooldown_kimg is nan"),
        ({"hold_kimg": 0.0, "fade_kimg": 0.0}, "shows no image"),
    ],
)
def test_bad_schedules_are_refused_by_message(settings, message):
    with pytest.raises(UserError, match=message):
        GrowthSchedule(**{"start_resolution": 8, "final_resolution": 32, **settings})


def test_rates_fall_by_half_a_cosine_at_the_end():
    total = TABLE.total_images
    cooled = replace(TABLE, cooldown_kimg=total / 2000)
    factors = [cooled.rate_factor(total * n // 4) for n in range(5)]
    assert factors == pytest.approx([1.0, 1.0, 1.0, 0.5, 0.0])
    # longer than the schedule is as long as the schedule
    assert replace(TABLE, cooldown_kimg=1e5).rate_factor(total // 2) == pytest.approx(0.5)
    assert {TABLE.rate_factor(n) for n in (0, total - 1, total, 2 * total)} == {1.0}
    assert cooled.prolongs(TABLE)


def test_negative_time_is_refused():
    with pytest.raises(ValueError, match="images_shown is -1"):
        TABLE.at(-1)
