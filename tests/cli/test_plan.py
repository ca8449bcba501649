"""What a run will take is said before it begins, and nothing that is computed changes by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.command import SHORT, assert_same_run, blastogan
from helpers.small_modules import same_weights

from blastogan.cli import gan, plan
from blastogan.cli.plan import in_words, make_plan
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_steps_are_measured_on_a_copy(name, make_module, schedule):
    module = make_module(name, augment="grade-preserving")
    before = make_module(name, augment="grade-preserving")
    state = torch.get_rng_state()
    made = make_plan(module, schedule, device=CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(module, before)
    assert (module.images_shown, module.resolution, module.draw_seed) == (0, 16, None)
    assert all(weight.grad is None for weight in module.parameters())
    assert set(made.seconds) == {8, 16}
    assert 0 < made.hours < 1


def test_what_takes_too_long_to_measure_follows_from_the_layers(make_module, schedule, monkeypatch):
    module = make_module()
    for limit, measured in ((0.0, (8,)), (1e9, (8, 16))):
        monkeypatch.setattr(plan, "MAX_SECONDS", limit)
        made = make_plan(module, schedule, device=CPU)
        assert made.measured == measured
        assert set(made.seconds) == {8, 16}
        if not limit:
            assert 1 < made.seconds[16] / made.seconds[8] < 10
    # of a run that is resumed, the rest
    rest = make_plan(module, schedule, images_shown=schedule.total_images - 32, device=CPU)
    assert set(rest.seconds) == {16}
    assert rest.hours < made.hours
    unknown = make_plan(module, schedule, device=None)
    assert "training on" not in unknown.describe()


def test_the_size_of_a_checkpoint_is_that_of_weights_and_optimisers(make_module, schedule):
    module = make_module()
    made = make_plan(module, schedule)
    scratch = plan._scratch(module, CPU)
    plan._time_step(scratch, 16, 4)
    states = [each for optimizer in scratch.optimizers() for each in optimizer.state.values()]
    size = sum(value.nbytes for value in module.state_dict().values())
    size += sum(value.nbytes for state in states for value in state.values())
    assert made.checkpoint == pytest.approx(size, rel=0.2)
    assert made.checkpoints == 3 + 1 + len(schedule.phases)


def test_a_run_of_more_than_a_day_is_refused_on_a_cpu_only(make_module):
    long = GrowthSchedule(8, 16, fade_kimg=600, hold_kimg=600, batch_size=16)
    made = replace(
        make_plan(make_module(), long), seconds={8: 0.1, 16: 0.4}, measured=(8,), device="cpu"
    )
    assert made.hours == pytest.approx((600 * 0.1 + 1200 * 0.4) / 3.6)
    with pytest.raises(UserError, match=r"6 days.*--yes"):
        made.check()
    replace(made, device="cuda").check()
    columns, rows = made.table()
    assert columns[-1] == "time"
    assert [row[-1] for row in rows] == ["17 hours", "3 days", "3 days"]
    assert [row[3] for row in rows] == ["10", "~2.5", "~2.5"]


def test_a_disk_that_is_too_small_is_named(make_module, schedule, monkeypatch, caplog, tmp_path):
    made = make_plan(make_module(), schedule)
    for free, warnings in ((made.disk, 0), (made.disk - 1, 1)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(plan.shutil, "disk_usage", lambda path, usage=usage: usage)
        made.check_disk(tmp_path / "runs/none")
        assert caplog.text.count("GB are free") == warnings


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.001, "3.6 seconds"), (0.27, "16 minutes"), (30, "30 hours"), (300, "12 days"),
     (200_000, "23 years")],
)  # fmt: skip
def test_time_in_words(hours, text):
    assert in_words(hours) == text


@pytest.mark.slow
def test_a_plan_changes_nothing_that_is_computed(here, monkeypatch, capsys, caplog):
    fit = "fit", "--config", "tiny.yaml", SHORT
    assert blastogan(*fit, "--run_dir", "plain") == 0
    assert "plan: " not in caplog.text
    monkeypatch.setattr(gan, "MIN_IMAGES", 0)
    monkeypatch.setattr(plan, "MAX_HOURS", 0.0)
    for args, code in (([], 2), (["--dry_run"], 0)):
        assert blastogan(*fit, *args) == code
        assert not Path("runs").exists()
    shown = capsys.readouterr()
    assert "--yes" in shown.err
    assert "hold 16x16" in shown.out
    assert blastogan(*fit, "--run_dir", "planned", "--yes") == 0
    assert "plan: 0.032 kimg" in caplog.text
    names = [Path(run, "checkpoints/last.ckpt") for run in ("plain", "planned")]
    assert_same_run(*names)
    # nor does it make another configuration of it
    configs = [Path(run, "config.yaml").read_text() for run in ("plain", "planned")]
    assert configs[0].replace("run_dir: plain", "run_dir: planned") == configs[1]
    # a run that was begun goes on
    longer = "--schedule.hold_kimg=0.064"
    assert blastogan(*fit, longer, "--run_dir", "planned", "--resume") == 0
