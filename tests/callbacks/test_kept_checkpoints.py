"""The checkpoints that a run keeps: the last ones and the best."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.stand_in import Pixels

from blastogan.callbacks import FidelityCallback, GrowthCheckpoint
from blastogan.callbacks.checkpoints import _move_up
from blastogan.callbacks.fidelity import statistics as fidelity_statistics
from blastogan.errors import UserError
from blastogan.metrics import fidelity
from blastogan.runs.checkpoint_io import save_checkpoint
from blastogan.utils import files
from blastogan.utils.files import atomic_link, atomic_write


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("keep", [1, 2, 4])
def test_keep_last_checkpoints_are_kept_and_the_last_is_always_there(
    keep, links, tmp_path, monkeypatch
):
    def refuse(*args):
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(files.os, "link", refuse)
    last = tmp_path / "last.ckpt"
    for n in range(6):
        _move_up(last, keep)
        assert n == 0 or last.read_text() == str(n - 1)
        with atomic_write(last) as part:
            part.write_text(str(n))
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"last.ckpt": "5"} | {f"last-{n}.ckpt": str(5 - n) for n in range(1, keep)}
    _move_up(last, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_two_names_of_one_file_are_no_error(tmp_path):
    (tmp_path / "a").write_text("a")
    atomic_link(tmp_path / "a", tmp_path / "b")
    atomic_link(tmp_path / "a", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    seen, replace, fsync = [], Path.replace, os.fsync

    def note(descriptor):
        seen.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    def put(self, target):
        seen.append("replaced")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", note)
    monkeypatch.setattr(Path, "replace", put)
    if sys.platform != "linux":
        pytest.skip("reads names from /proc")
    with atomic_write(tmp_path / "file") as part:
        part.write_text("x")
    assert seen == [part.name, "replaced", tmp_path.name]
    seen.clear()
    with atomic_write(tmp_path / "file", durable=False) as part:
        part.write_text("x")
    assert seen == ["replaced"]


def test_a_tick_that_is_saved_twice_pushes_nothing_out(
    make_module, make_data, make_trainer, schedule, tmp_path, monkeypatch
):
    # the folder of temporary files is not used
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    trainer = make_trainer(max_epochs=3)
    trainer.fit(make_module(), make_data())
    folder = tmp_path / "run/checkpoints"
    keeper = next(c for c in trainer.checkpoint_callbacks if isinstance(c, GrowthCheckpoint))

    def shown():
        paths = [folder / "last.ckpt", *sorted(folder.glob("last-*.ckpt"))]
        return [torch.load(path, weights_only=True)["blastogan"]["images_shown"] for path in paths]

    assert shown() == [96, 64, 32]
    keeper.save_last(trainer)
    assert shown() == [96, 64, 32]
    resumed = GrowthCheckpoint(schedule)
    resumed.on_train_start(trainer, trainer.lightning_module)
    resumed.save_last(trainer)
    assert shown() == [96, 64, 32]
    trainer.lightning_module.images_shown += 4
    keeper.save_last(trainer)
    assert shown() == [100, 96, 64]
    save_checkpoint(trainer, folder / "other.ckpt")
    assert shown() == [100, 96, 64]


def judge(keeper, images, first=True, weight=1.0, **metrics):
    """One tick with logged metrics, and the SWD of its validation if there was one."""
    trainer = SimpleNamespace(callback_metrics={}, is_global_zero=first, sanity_checking=False)
    before = metrics.pop("before", None)
    if before is not None:
        trainer.callback_metrics["swd"] = before
    keeper.on_validation_start(trainer, None)
    trainer.callback_metrics |= {name: torch.tensor(value) for name, value in metrics.items()}
    keeper.on_validation_end(trainer, None)
    return keeper._is_best(trainer, images, weight)


def test_the_best_has_the_lowest_swd_at_the_highest_resolution(schedule):
    keeper = GrowthCheckpoint(schedule)
    assert judge(keeper, 32, swd=0.3)
    # a higher resolution precedes a lower SWD
    assert judge(keeper, 64, swd=0.5)
    assert not judge(keeper, 96, swd=0.6)
    # without a validation, the value is the previous one
    assert not judge(keeper, 96, before=torch.tensor(0.1))
    assert not judge(keeper, 96, swd=float("nan"))
    assert not judge(keeper, 128, first=False, swd=0.1)
    again = GrowthCheckpoint(schedule)
    again.load_state_dict(keeper.state_dict())
    assert not judge(again, 128, swd=0.55)
    assert judge(again, 128, swd=0.25)
    best = {"name": "swd", "value": 0.25, "kimg": 0.128, "resolution": 16, "heeds": 1.0}
    assert again.state_dict() == {"best": best, "evaluated": 0}
    assert not judge(GrowthCheckpoint(schedule, keep_best=False), 32, swd=0.3)


def test_if_kid_is_measured_it_alone_chooses_the_best(schedule):
    keeper = GrowthCheckpoint(schedule)
    assert not judge(keeper, 32, swd=0.3, kid=float("nan"))
    assert judge(keeper, 32, swd=0.3, kid=0.02)
    assert not judge(keeper, 64, swd=0.1, kid=0.03)
    assert not judge(keeper, 96, swd=0.1, kid=float("nan"))
    assert judge(keeper, 128, swd=0.5, kid=0.01)
    assert keeper.best == {"name": "kid", "value": pytest.approx(0.01), "kimg": 0.128,
                           "resolution": 0, "heeds": 1.0}  # fmt: skip


def test_kid_against_held_out_images_precedes_kid_against_training_images(schedule):
    keeper = GrowthCheckpoint(schedule)
    assert judge(keeper, 32, swd=0.3, kid=0.02, kid_held_out=0.05)
    assert not judge(keeper, 64, kid=0.01, kid_held_out=0.06)
    assert not judge(keeper, 96, kid=0.01, kid_held_out=float("nan"))
    assert judge(keeper, 128, kid=0.03, kid_held_out=0.04)
    assert keeper.best["name"] == "kid_held_out"


def test_while_grades_are_ramped_in_a_higher_condition_weight_is_better(schedule):
    keeper = GrowthCheckpoint(schedule)
    assert judge(keeper, 32, weight=0.0, kid=0.01)
    assert judge(keeper, 64, weight=0.5, kid=0.03)
    assert not judge(keeper, 96, weight=0.0, kid=0.001)
    assert judge(keeper, 96, weight=1.0, kid=0.02)
    assert not judge(keeper, 128, weight=1.0, kid=0.03)
    # early checkpoints have no condition weight
    keeper.best.pop("heeds")
    assert judge(keeper, 128, weight=1.0, kid=0.015)


def test_a_best_by_kid_is_not_replaced_by_one_without_kid(schedule):
    keeper = GrowthCheckpoint(schedule)
    assert judge(keeper, 32, swd=0.3)
    assert judge(keeper, 64, swd=0.4, kid=0.02)
    assert not judge(keeper, 96, swd=0.1)
    assert judge(keeper, 128, kid=0.5, kid_held_out=0.5)
    assert not judge(keeper, 160, kid=0.01)


# six of 60 phantoms are held out; with fewer than `fewest`, the training images decide
@pytest.mark.parametrize(("fewest", "name"), [(50, "kid"), (6, "kid_held_out")])
def test_the_best_is_the_state_at_its_evaluation(
    fewest, name, make_module, make_data, make_trainer, schedule, tmp_path, monkeypatch,
    caplog,
):  # fmt: skip
    monkeypatch.setattr(fidelity_statistics, "MIN_HELD_OUT", fewest)
    caplog.set_level("INFO", "blastogan")
    monkeypatch.setenv("BLASTOGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fidelity, "load_extractor", lambda *args, **kwargs: Pixels())
    measured = FidelityCallback(
        schedule, num_fakes=24, kid_subset_size=10, pixel_images=16, metrics=("kid",)
    )
    trainer = make_trainer(measured)
    trainer.fit(make_module(), datamodule=make_data())
    keeper = next(c for c in trainer.checkpoint_callbacks if isinstance(c, GrowthCheckpoint))
    assert keeper.best["name"] == name
    # named with its unit, and against what
    reals = {"kid": "training", "kid_held_out": "validation"}[name]
    kept = f"{1000 * keeper.best['value']:.4g} at {keeper.best['kimg']:g} kimg"
    assert f"best so far: KID x 1000 to the {reals} images, 16x16: {kept}" in caplog.text
    measured_text = "KID x 1000 to the validation images" in caplog.text
    assert measured_text == (name == "kid_held_out")
    best = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    assert best["blastogan"]["images_shown"] == keeper.best["kimg"] * 1000
    state = {"best": keeper.best, "evaluated": keeper.best["kimg"] * 1000}
    assert best["callbacks"]["GrowthCheckpoint"] == state
    with (tmp_path / "run/fidelity.csv").open() as file:
        rows = [line.split(",") for line in file.read().splitlines()]
    assert ("kid_held_out" in rows[0]) == (name == "kid_held_out")
    kid = {float(row[0]): float(row[rows[0].index(name)]) for row in rows[1:]}
    assert keeper.best["value"] == pytest.approx(min(kid.values()))
    assert kid[keeper.best["kimg"]] == min(kid.values())


def test_a_branch_has_its_own_best(make_module, make_data, make_trainer, tmp_path):
    make_trainer(max_epochs=1).fit(make_module(), make_data())
    early = tmp_path / "early.ckpt"
    content = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    content["callbacks"]["GrowthCheckpoint"]["best"] |= {"value": 0.0, "resolution": 16}
    torch.save(content, early)
    for folder, branched in (("run", False), ("branch", True)):
        make_trainer(max_epochs=2, folder=folder).fit(
            make_module(), make_data(), ckpt_path=early, weights_only=True
        )
        best = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
        assert best["blastogan"]["images_shown"] == 32
        assert (tmp_path / "branch/checkpoints/best.ckpt").exists() == branched


@pytest.mark.parametrize(("setting", "value"), [("keep_last", 0), ("every_minutes", 0.0)])
def test_invalid_settings_are_refused(setting, value, schedule):
    with pytest.raises(UserError, match=f"{setting} is {value}"):
        GrowthCheckpoint(schedule, **{setting: value})
