from __future__ import annotations

import csv
import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.small_modules import TINY, same_weights
from PIL import Image

import blastogan
from blastogan import FadeIn, GrowthSchedule, ProgressiveGrowing, SampleGrid
from blastogan.callbacks import (
    GracefulInterrupt,
    GrowthCheckpoint,
    GrowthProgress,
    RandomState,
    TrainingLog,
    training_log,
)
from blastogan.callbacks.defaults import DEFAULT_CALLBACKS, default_callbacks
from blastogan.callbacks.progress import PaceMeter, format_seconds
from blastogan.callbacks.sample_grid import training_sheet
from blastogan.data import BlastocystDataModule
from blastogan.data.records import ImageRecord, embryos_first
from blastogan.errors import DivergenceError, UserError
from blastogan.grades import Grade
from blastogan.runs.loggers import CSVLog
from blastogan.runs.table import RunTable
from blastogan.utils.sheets import image_sheet


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Watch(pl.Callback):
    """Records the input of each step."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        size = batch["image"].shape
        self.steps.append((module.images_shown, size[0], size[-1], module.resolution, module.alpha))


def test_each_step_works_on_what_the_schedule_says(make_module, make_data, make_trainer, schedule):
    # before the watcher, after it: the order does not matter
    watch = Watch()
    trainer = make_trainer(watch)
    trainer.fit(make_module(), make_data())
    for shown, batch, size, resolution, alpha in watch.steps:
        state = schedule.at(shown)
        assert (batch, size) == (state.batch_size, state.resolution)
        assert (resolution, alpha) == (state.resolution, state.alpha)
    assert [step[0] for step in watch.steps][:6] == [0, 8, 16, 24, 32, 36]
    assert len(watch.steps) == 4 + 16 + 16


def test_the_order_of_the_callbacks_does_not_matter(make_module, make_data, make_trainer, schedule):
    modules = []
    for callbacks in (
        [ProgressiveGrowing(schedule), FadeIn(schedule)],
        [FadeIn(schedule), ProgressiveGrowing(schedule)],
    ):
        pl.seed_everything(0)
        modules.append(make_module())
        make_trainer(callbacks=callbacks, enable_checkpointing=False).fit(modules[-1], make_data())
    assert same_weights(*modules)


def test_without_callbacks_a_module_trains_at_full_resolution(make_module, make_trainer):
    from blastogan import BlastocystDataModule

    schedule = GrowthSchedule(16, 16, 0.0, 0.032, 8, tick_kimg=0.032)
    watch = Watch()
    trainer = make_trainer(callbacks=[watch], max_epochs=1, enable_checkpointing=False)
    trainer.fit(make_module(), BlastocystDataModule(schedule, num_phantoms=60))
    assert {step[2:] for step in watch.steps} == {(16, 16, 1.0)}


def test_the_learning_rate_of_the_schedule_reaches_both_optimisers(
    make_module, make_data, make_trainer
):
    schedule = GrowthSchedule(**{**TINY, "learning_rate": {8: 0.25, 16: 0.125}})
    seen = []

    class Rates(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append([g["lr"] for o in trainer.optimizers for g in o.param_groups])

    callbacks = [ProgressiveGrowing(schedule), FadeIn(schedule), Rates()]
    make_trainer(callbacks=callbacks, max_epochs=2, enable_checkpointing=False).fit(
        make_module(), make_data()
    )
    assert seen[0] == [0.25, 0.25]
    assert seen[-1] == [0.125, 0.125]


def test_the_cooldown_lowers_the_rate_of_steps_but_not_that_of_checkpoints(
    make_module, make_data, make_trainer
):
    schedule = GrowthSchedule(16, 16, 0.0, 0.064, 16, cooldown_kimg=0.032, tick_kimg=0.064)
    seen = []

    class Rates(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            seen.append(optimizer.param_groups[0]["lr"])

    trainer = make_trainer(
        callbacks=[ProgressiveGrowing(schedule), Rates()], max_epochs=1, enable_checkpointing=False
    )
    module = make_module()
    trainer.fit(module, BlastocystDataModule(schedule, num_phantoms=60))
    base = trainer.optimizers[0].param_groups[0]["lr"]
    # D and G of each of four batches
    assert seen == pytest.approx([base * f for f in (1, 1, 1, 1, 1, 1, 0.5, 0.5)])
    assert base == 0.001


def test_schedule_and_module_must_match(make_module, make_data, make_trainer, schedule):
    with pytest.raises(UserError, match="the networks from 8 to 32"):
        make_trainer().fit(make_module(resolution=32), make_data())
    with pytest.raises(UserError, match="stddev"):
        make_trainer().fit(make_module(stddev_group=3), make_data())
    growing = ProgressiveGrowing(GrowthSchedule(**{**TINY, "batch_size": 9, "hold_kimg": 0.072}))
    with pytest.raises(UserError, match="batch_size at 8 is 9"):
        growing._check_batches(make_module(), 2)
    growing = ProgressiveGrowing(GrowthSchedule(**{**TINY, "batch_size": 12, "hold_kimg": 0.072}))
    with pytest.raises(UserError, match="6 images"):
        growing._check_batches(make_module(), 2)
    with pytest.raises(UserError, match="FadeIn needs ProgressiveGrowing"):
        make_trainer(callbacks=[FadeIn(schedule)]).fit(make_module(), make_data())


@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_samples_and_logs_do_not_change_the_weights(
    name, make_module, make_data, make_trainer, schedule, tmp_path
):
    modules = []
    for extra in ([], [SampleGrid(rows=2), TrainingLog(schedule, 0.01), GrowthProgress(schedule)]):
        pl.seed_everything(0)
        modules.append(make_module(name))
        trainer = make_trainer(
            *extra,
            folder=f"run-{len(extra)}",
            logger=CSVLog(tmp_path / "log") if extra else False,
            enable_progress_bar=bool(extra),
            limit_val_batches=1 if extra else 0,
        )
        trainer.fit(modules[-1], make_data())
    assert same_weights(*modules)


def test_sample_sheets_have_a_column_per_class_and_a_caption(
    make_module, make_data, make_trainer, tmp_path
):
    data = make_data(num_phantoms=None, phantom_counts="AA:20,BB:20,DD:20")
    make_trainer(SampleGrid(rows=2, every_n_ticks=2)).fit(make_module(), data)
    folder = tmp_path / "run/samples"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "kimg-00000.064-0016.png",
        "kimg-00000.128-0016.png",
        "kimg-00000.160-0016.png",
        "training-images.png",
    ]
    sheet = np.asarray(Image.open(folder / names[0]))
    tile, gap, top = 96, 3, 40
    classes = [name for name, count in data.class_counts("train").items() if count]
    assert classes == ["AA", "BB", "DD"]
    width = len(classes) * (tile + gap) + gap
    # the caption is wider than three columns
    assert sheet.shape[0] == top + 2 * (tile + gap) + gap
    assert width < sheet.shape[1] < width + 96
    assert np.asarray(Image.open(folder / "training-images.png")).shape[1] == width
    assert (sheet[:top] < 128).any()
    columns = [sheet[top : top + tile, gap + n * 99 :][:, :tile] for n in range(len(classes))]
    assert not np.array_equal(columns[0], columns[-1])


def test_training_images_are_of_as_many_embryos_as_possible():
    embryos = ["a", "a", "b", "a", "c", "b"]
    records = [ImageRecord(Path(str(n)), Grade("A", "A"), e) for n, e in enumerate(embryos)]
    assert embryos_first(records) == [0, 2, 4, 1, 5, 3]


def test_a_sheet_of_training_images_begins_with_an_image_of_each_embryo(make_data):
    # three planes of an embryo follow each other
    data = make_data()
    data.setup("fit")
    data.records = tuple(replace(r, embryo=str(n // 9)) for n, r in enumerate(data.records))
    shown = []
    data.images = lambda part, index: (
        shown.append(list(index)) or torch.zeros(len(index), 1, 16, 16, dtype=torch.uint8)
    )
    training_sheet(data, rows=2)
    records = [data.records[n] for n in data.split["train"]]
    for column in shown:
        name = records[column[0]].grade.name
        of_class = {record.embryo for record in records if record.grade.name == name}
        embryos = {records[n].embryo for n in column}
        assert len(embryos) == min(len(column), len(of_class))


def test_a_sheet_is_as_wide_as_its_caption():
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    caption = "Generated: a caption of many words, longer than a sheet of one column"
    narrow, wide = (image_sheet(images, 1, caption=text) for text in ("X", caption))
    assert narrow.width == 96 + 2 * 3
    assert wide.width > 400
    # the last letter is visible
    assert (np.asarray(wide)[:20, -12:] < 128).any()


def test_the_end_of_a_schedule_is_always_validated(make_module, make_data, make_trainer, schedule):
    seen = []

    class Seen(pl.Callback):
        def on_validation_end(self, trainer, module):
            seen.append(module.images_shown)

    trainer = make_trainer(Seen(), max_epochs=schedule.total_ticks, check_val_every_n_epoch=3)
    trainer.fit(make_module(), make_data())
    assert seen == [96, schedule.total_images]


def test_sheets_go_to_loggers_with_images(make_module, make_data, make_trainer, tmp_path):
    seen = []

    class Writer:
        def add_image(self, name, array, step, dataformats):
            seen.append((name, array.shape[2], step, dataformats))

    class WithWriter(CSVLog):
        experiment = Writer()

    class WithImages(CSVLog):
        def log_image(self, name, images, step):
            seen.append((name, images[0].mode, step))

    loggers = [WithWriter(tmp_path / "a"), WithImages(tmp_path / "b")]
    make_trainer(SampleGrid(rows=1), logger=loggers, max_epochs=1).fit(make_module(), make_data())
    assert seen == [("samples", 3, 32, "HWC"), ("samples", "RGB", 32)]


def test_training_log_writes_means_against_kimg(
    make_module, make_data, make_trainer, schedule, tmp_path
):
    log = CSVLog(tmp_path / "run")
    make_trainer(TrainingLog(schedule, 0.032), logger=log, limit_val_batches=1).fit(
        make_module(), make_data()
    )
    rows = read_table(tmp_path / "run/metrics.csv")
    trained = [row for row in rows if row["loss_d"]]
    assert [float(row["kimg"]) for row in trained] == [0.032, 0.064, 0.096, 0.128, 0.160]
    assert [row["resolution"] for row in trained] == ["8", "16", "16", "16", "16"]
    assert [float(row["alpha"]) for row in trained] == [1.0, 0.5, 1.0, 1.0, 1.0]
    assert all(float(row["images_per_second"]) > 0 for row in trained)
    assert any(row["swd"] for row in rows)


def test_time_between_ticks_does_not_count_as_training(
    make_module, make_data, make_trainer, schedule, tmp_path, monkeypatch
):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(training_log, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    class Clock(pl.Callback):
        def on_train_batch_start(self, *args):
            clock.now += 1

        def on_train_epoch_end(self, *args):
            clock.now += 1000

    # spans of three batches of 4 straddle the ticks
    callbacks = [TrainingLog(schedule, 0.012), Clock()]
    log = CSVLog(tmp_path / "run")
    make_trainer(*callbacks, logger=log, limit_val_batches=0).fit(make_module(), make_data())
    rows = read_table(tmp_path / "run/metrics.csv")
    assert len(rows) > 8
    # a second for a batch of 8 or of 4
    assert {float(row["images_per_second"]) for row in rows} == {8.0, 6.0, 4.0}


def test_a_row_cut_by_a_crash_is_left_out(tmp_path):
    table = RunTable(tmp_path / "table.csv")
    for kimg in (1.0, 2.0):
        table.append({"kimg": kimg, "fid": 12.345})
    whole = table.path.read_bytes()
    table.path.write_bytes(whole[:-4])
    assert [row["kimg"] for row in table.rows()] == ["1.0"]
    table.truncate(2.0, inclusive=False)
    table.append({"kimg": 2.0, "fid": 12.345})
    assert table.path.read_bytes() == whole


def test_a_row_of_another_text_is_not_replaced(tmp_path):
    table = RunTable(tmp_path / "table.csv")
    for extractor, kid in (("one", 1.0), ("other", 2.0), ("one", 3.0)):
        table.replace({"kimg": 1.0, "extractor": extractor, "kid": kid}, same=("extractor",))
    assert [(row["extractor"], row["kid"]) for row in table.rows()] == [
        ("one", "3.0"),
        ("other", "2.0"),
    ]


def test_csv_log_continues_where_a_run_resumes(tmp_path):
    log = CSVLog(tmp_path)
    for kimg in (1, 2, 3):
        log.log_metrics({"loss": kimg}, step=kimg * 1000)
    log.log_metrics({"swd": 9.0}, step=3000)
    again = CSVLog(tmp_path)
    again.log_metrics({"loss": 33.0}, step=3000)
    rows = read_table(tmp_path / "metrics.csv")
    assert [(row["kimg"], row["loss"], row["swd"]) for row in rows] == [
        ("1.0", "1", ""),
        ("2.0", "2", ""),
        ("3.0", "33.0", ""),
    ]


def test_all_random_states_are_restored():
    callback = RandomState()
    state = callback.state_dict()
    first = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    again = RandomState()
    again.load_state_dict(state)
    again.on_train_start(None, None)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first  # noqa: NPY002


@pytest.mark.parametrize("due", [True, False])
def test_a_checkpoint_is_written_when_it_is_due(
    due, make_module, make_data, make_trainer, schedule, tmp_path
):
    timed = GrowthCheckpoint(schedule, every_minutes=1e-9 if due else 60.0)
    written = []
    timed.save_last = lambda trainer, **kwargs: written.append(
        trainer.lightning_module.images_shown
    )
    timed.keep_phases = False
    callbacks = [ProgressiveGrowing(schedule), FadeIn(schedule), timed]
    make_trainer(callbacks=callbacks, max_epochs=1).fit(make_module(), make_data())
    assert written == ([8, 16, 24, 32] if due else [32])


def test_phases_and_the_last_state_are_kept(make_module, make_data, make_trainer, tmp_path):
    make_trainer().fit(make_module(), make_data())
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == [
        "best.ckpt",
        "last-1.ckpt",
        "last-2.ckpt",
        "last.ckpt",
        "phase-00-hold-0008.ckpt",
        "phase-01-fade-0016.ckpt",
        "phase-02-hold-0016.ckpt",
    ]
    state = torch.load(tmp_path / "run/checkpoints" / names[4], weights_only=True)["blastogan"]
    assert (state["images_shown"], state["resolution"], state["alpha"]) == (32, 8, 1.0)


class BreakAt(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.images_shown == self.step:
            next(module.discriminator.parameters()).data.fill_(float("nan"))


def test_a_nan_stops_the_run_and_keeps_the_last_checkpoint(
    make_module, make_data, make_trainer, tmp_path
):
    with pytest.raises(DivergenceError, match=r"step 11 \(0\.060 kimg, fade 16x16"):
        make_trainer(BreakAt(56)).fit(make_module(), make_data())
    folder = tmp_path / "run/checkpoints"
    assert (folder / "diverged.ckpt").exists()
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["blastogan"]["images_shown"] == 32
    assert all(value.isfinite().all() for value in last["state_dict"].values())


class PressCtrlC(pl.Callback):
    def __init__(self, images):
        self.images = images

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.images_shown == self.images:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_finishes_the_batch_saves_and_reports_how_to_resume(
    make_module, make_data, make_trainer, schedule, tmp_path, caplog
):
    graceful = GracefulInterrupt(schedule)
    with pytest.raises(SystemExit) as caught:
        make_trainer(PressCtrlC(48), graceful).fit(make_module(), make_data())
    assert isinstance(caught.value.__context__, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert graceful.interrupted
    path = tmp_path / "run/checkpoints/last.ckpt"
    assert str(path) in caplog.text
    assert "--resume" in caplog.text
    assert torch.load(path, weights_only=True)["blastogan"]["images_shown"] == 52


def test_an_interrupt_in_the_last_batch_of_a_tick_waits_for_its_validation(
    make_module, make_data, make_trainer, schedule, tmp_path
):
    log = CSVLog(tmp_path / "run")
    callbacks = [PressCtrlC(24), GracefulInterrupt(schedule), TrainingLog(schedule, 0.032)]
    with pytest.raises(SystemExit):
        make_trainer(*callbacks, logger=log).fit(make_module(), make_data())
    rows = read_table(tmp_path / "run/metrics.csv")
    assert [(row["kimg"], bool(row["loss_d"])) for row in rows] == [
        ("0.032", True),
        ("0.032", False),
    ]
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["blastogan"]["images_shown"] == 32


def test_time_left_counts_every_resolution_at_its_own_pace():
    schedule = GrowthSchedule(8, 32, 1.0, 1.0, 10, tick_kimg=1.0)
    pace = PaceMeter(schedule)
    assert pace.seconds_left(0) is None
    pace.add(8, images=100, seconds=1.0)
    # 1000 images at 8, 2000 at 16 for twice as much each, 2000 at 32 for four times
    assert pace.seconds_left(0) == pytest.approx(10 + 40 + 80)
    pace.add(16, images=100, seconds=3.0)
    assert pace.seconds_left(1000) == pytest.approx(60 + 120)
    assert pace.seconds_left(5000) == 0
    # a plan knows more than that a doubling costs twice as much
    pace.costs = {8: 1.0, 16: 3.0, 32: 15.0}
    assert pace.seconds_left(1000) == pytest.approx(60 + 2000 * 0.03 * 5)


def test_times_are_readable():
    assert [format_seconds(s) for s in (None, 5, 65, 3661, 90061)] == [
        "?",
        "0:05",
        "1:05",
        "1:01:01",
        "1 d 1:01:01",
    ]


def test_progress_reports_the_position_of_the_run(schedule):
    progress = GrowthProgress(schedule)
    progress.pace.add(16, images=100, seconds=1.0)
    text = progress.describe(80, "D 1.000 G 0.500")
    # the time left first, as a narrow terminal cuts the end
    assert "0.1/0.2 kimg  0:01 left  fade 16x16  alpha 0.75  100 img/s  D 1.000 G 0.500" in text


def test_without_a_terminal_the_time_left_is_logged_before_the_first_tick_ends(
    make_module, make_data, make_trainer, schedule, monkeypatch, caplog
):
    caplog.set_level("INFO", "blastogan")
    monkeypatch.setattr(GrowthProgress, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(GrowthProgress, "FIRST_LINE", 0.0)
    progress = GrowthProgress(schedule)
    trainer = make_trainer(progress, enable_progress_bar=True, max_epochs=1)
    trainer.fit(make_module(), make_data())
    (first, *_) = [line for line in caplog.messages if " left  " in line]
    assert first.startswith("0.0/")


def test_a_notebook_shows_one_bar_that_is_updated(
    make_module, make_data, make_trainer, schedule, monkeypatch
):
    shown = []

    def display(bar, display_id):
        shown.append(bar)
        return SimpleNamespace(update=shown.append)

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    progress = GrowthProgress(schedule)
    make_trainer(progress, enable_progress_bar=True, max_epochs=1).fit(make_module(), make_data())
    assert [bar.done for bar in shown] == [0, schedule.tick_images]
    assert f'value="{schedule.tick_images}"' in shown[-1]._repr_html_()
    assert "hold 8x8" in repr(shown[-1])


def test_default_callbacks_are_all_of_them_and_take_settings_by_key(schedule):
    names = {type(each).__name__ for each in default_callbacks(schedule)}
    assert names == set(blastogan.callbacks.__all__) - {"default_callbacks"}
    (fewer, *_) = default_callbacks(
        schedule, samples={"rows": 3}, **dict.fromkeys(DEFAULT_CALLBACKS.keys() - {"samples"})
    )
    assert fewer.rows == 3
    with pytest.raises(UserError, match="sample: expected some of growing"):
        default_callbacks(schedule, sample={})
    with pytest.raises(UserError, match="no setting row: expected some of rows"):
        default_callbacks(schedule, samples={"row": 3})


def test_no_partial_files_are_left(make_module, make_data, make_trainer, tmp_path):
    make_trainer(SampleGrid(rows=1)).fit(make_module(), make_data())
    assert not list(Path(tmp_path).rglob("*.part"))
