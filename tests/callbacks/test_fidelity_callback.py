"""Evaluation within runs: when, against which images, and without effect on the weights."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from helpers.command import read_table
from helpers.small_modules import same_weights
from helpers.stand_in import Pixels
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint

from blastogan.callbacks import FidelityCallback, GrowthCheckpoint
from blastogan.callbacks.fidelity.callback import COMPARED, PANELS
from blastogan.callbacks.fidelity.statistics import RunStatistics
from blastogan.errors import UserError
from blastogan.evaluation.fakes import evaluation_fakes, sample_labels
from blastogan.metrics import fidelity
from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.specs import METRICS
from blastogan.runs.loggers import CSVLog
from blastogan.utils import curves as curves_module
from blastogan.utils.curves import plot_curves


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLASTOGAN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pixels(monkeypatch):
    extractor = Pixels()
    monkeypatch.setattr(fidelity, "load_extractor", lambda *args, **kwargs: extractor)
    return extractor


def callback(schedule, **settings):
    few = {"num_fakes": 24, "num_test_fakes": 40, "kid_subset_size": 10, "pixel_images": 16,
           "metrics": ("fid", "swd")}  # fmt: skip
    return FidelityCallback(schedule, **{**few, **settings})


def fit(make_module, make_data, trainer, name="progan", **settings):
    module = make_module(name)
    trainer.fit(module, datamodule=make_data(**settings), weights_only=True)
    return module


def rows(tmp_path, folder="run"):
    return read_table(tmp_path / folder / "fidelity.csv")


@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_weights_are_the_same_with_and_without_evaluation(
    name, schedule, make_module, make_data, make_trainer, pixels
):
    plain = fit(make_module, make_data, make_trainer(folder="plain"), name)
    seen = fit(make_module, make_data, make_trainer(callback(schedule), folder="seen"), name)
    assert pixels.calls > 0
    assert same_weights(plain, seen)


def test_every_phase_end_has_a_row_with_every_metric_and_a_plot(
    schedule, make_module, make_data, make_trainer, pixels, tmp_path, monkeypatch
):
    monkeypatch.setattr("blastogan.callbacks.fidelity.callback.plot_curves", plot_curves)
    fit(make_module, make_data, make_trainer(callback(schedule, metrics=METRICS)))
    found = rows(tmp_path)
    assert [float(row["kimg"]) * 1000 for row in found] == [phase.end for phase in schedule.phases]
    assert [row["resolution"] for row in found] == ["8", "16", "16"]
    for row in found:
        assert (row["extractor"], row["n_fake"]) == ("pixels", "24")
        for metric in (
            "fid",
            "kid",
            "precision",
            "recall",
            "density",
            "coverage",
            "swd",
            "ms_ssim",
        ):
            assert row[metric]
            assert row[f"{metric}_std"]
        assert row["floor_fid"]
    assert (tmp_path / "run" / "fidelity.png").stat().st_size > 10_000


def test_long_phases_are_evaluated_at_intervals(schedule):
    due = callback(schedule, every_kimg=0.064)._is_due
    # ticks of 32; hold 8 to 32, fade 16 to 96, hold 16 to 160
    assert [due(shown) for shown in (32, 64, 96, 128, 160)] == [True, False, True, False, True]
    often = callback(schedule, every_kimg=0.001)._is_due
    assert all(often(shown) for shown in (32, 64, 96, 128, 160))


def test_model_checkpoint_can_monitor_it(
    schedule, make_module, make_data, make_trainer, pixels, tmp_path
):
    best = ModelCheckpoint(monitor="fid", save_top_k=3, save_on_train_epoch_end=True)
    fit(make_module, make_data, make_trainer(callback(schedule), best))
    # ticks without an evaluation have no value, not the previous one
    values = [float(row["fid"]) for row in rows(tmp_path)]
    assert sorted(best.best_k_models.values()) == pytest.approx(sorted(values), rel=1e-6)
    assert best.best_model_score == pytest.approx(min(values), rel=1e-6)


def test_stage_whose_evaluation_was_cut_off_is_evaluated_at_the_next_start(
    schedule, make_module, make_data, make_trainer, pixels, tmp_path, caplog
):
    fit(make_module, make_data, make_trainer(callback(schedule), folder="whole"))

    class Crash(Exception):
        pass

    cut = callback(schedule)
    evaluate, calls = cut._evaluate, []

    def crash_at_the_second(trainer, module):
        calls.append(module.images_shown)
        if len(calls) == 2:
            raise Crash
        return evaluate(trainer, module)

    cut._evaluate = crash_at_the_second
    with pytest.raises(Crash):
        fit(make_module, make_data, make_trainer(cut))
    assert len(rows(tmp_path)) == 1
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["blastogan"]["images_shown"] == 96

    caplog.set_level(logging.INFO, "blastogan")
    trainer = make_trainer(callback(schedule))
    module = make_module()
    trainer.fit(module, datamodule=make_data(), ckpt_path=last, weights_only=True)
    assert "the stage up to 0.096 kimg" in caplog.text
    assert rows(tmp_path) == rows(tmp_path, "whole")


def test_rows_of_repeated_steps_are_replaced(
    schedule, make_module, make_data, make_trainer, pixels, tmp_path
):
    fit(make_module, make_data, make_trainer(callback(schedule)))
    first = rows(tmp_path)
    early = next((tmp_path / "run" / "checkpoints").glob("phase-01-*.ckpt"))
    module, trainer = make_module(), make_trainer(callback(schedule))
    trainer.fit(module, datamodule=make_data(), ckpt_path=early, weights_only=True)
    assert rows(tmp_path) == first


def test_fakes_have_exactly_the_class_distribution_of_the_reference(make_module):
    counts = {"AA": 7, "BC": 2, "DD": 1}
    labels = sample_labels(40, counts, seed=3)
    found = {tuple(pair): n for pair, n in zip(*torch.unique(labels, dim=0, return_counts=True))}  # noqa: B905
    assert {tuple(int(x) for x in pair): int(n) for pair, n in found.items()} == {
        (0, 0): 28, (1, 2): 8, (3, 3): 4,
    }  # fmt: skip
    assert not torch.equal(labels, labels.sort(dim=0).values)
    module = make_module()
    module.resolution = 8
    batches = list(evaluation_fakes(module, labels[:10], seed=0, batch_size=4))
    assert [len(batch["image"]) for batch in batches] == [4, 4, 2]
    assert all(batch["image"].shape[-1] == 16 for batch in batches)
    shares = [
        list(evaluation_fakes(module, labels[:10], seed=0, batch_size=4, rank=n, world_size=2))
        for n in range(2)
    ]
    whole = torch.cat([batch["image"] for batch in batches])
    for rank, share in enumerate(shares):
        assert torch.equal(torch.cat([batch["image"] for batch in share]), whole[rank::2])
    assert torch.equal(torch.cat([batch["labels"] for batch in batches]), labels[:10])


def test_fakes_of_an_unconditional_module_have_no_grades(make_module):
    module, labels = make_module(conditional=False), torch.zeros(4, 2, dtype=torch.int64)
    (batch,) = evaluation_fakes(module, labels, seed=0, batch_size=4)
    assert batch.keys() == {"image", "index"}


def test_settings_reach_the_evaluator_and_the_cache(schedule, make_data, monkeypatch, tmp_path):
    given, data = [], make_data()
    monkeypatch.setattr(
        fidelity, "load_extractor", lambda *args, **rest: given.append((args, rest)) or Pixels()
    )
    data.setup("fit")
    strategy = SimpleNamespace(
        root_device="cpu", reduce_boolean_decision=lambda decision, **_: decision
    )
    trainer = SimpleNamespace(world_size=1, global_rank=0, datamodule=data, strategy=strategy)
    for seed in (0, 1):
        seen = callback(schedule, weights="mine.pth", seed=seed, metrics=("kid", "swd"))
        for stage, most in (("fit", 16), ("test", 2000)):
            seen.setup(trainer, None, stage)
            evaluator = seen._statistics.evaluator
            assert (evaluator.kid_subset_size, evaluator.swd_images) == (10, most)
            assert (evaluator.seed, evaluator.metrics) == (seed, ("kid", "swd"))
        real = seen._statistics.real("train")
        assert real.groups == tuple(data.records[n].embryo for n in data.split["train"])
        assert len(list((tmp_path / "cache").iterdir())) == seed + 1
    assert given[0] == (("inception-clean", "mine.pth"), {"device": "cpu"})
    uncached = callback(schedule, seed=2, cache=False)
    uncached.setup(trainer, None, "fit")
    uncached._statistics.real("train")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_fewer_images_than_processes_are_refused_on_all_of_them(schedule, make_data, pixels):
    data = make_data()
    data.setup("fit")
    for rank in (0, 63):
        trainer = SimpleNamespace(world_size=64, global_rank=rank, datamodule=data)
        statistics = RunStatistics(trainer, FidelityEvaluator(pixels), batch_size=8, cache=False)
        with pytest.raises(UserError, match="48 train"):
            statistics.real("train")
        with pytest.raises(UserError, match="24 fakes"):
            statistics.fake(24)


def test_real_images_are_processed_once_and_cached_for_the_next_run(
    schedule, make_module, make_data, make_trainer, pixels
):
    fit(make_module, make_data, make_trainer(callback(schedule), folder="first"))
    first = pixels.calls
    fit(make_module, make_data, make_trainer(callback(schedule), folder="second"))
    # two batches of 48 training images, one of 24 fakes at each of three stages
    assert first == 2 + 3
    assert pixels.calls - first == 3
    # other images of the same number are other images
    fit(make_module, make_data, make_trainer(callback(schedule), folder="third"), seed=1)
    assert pixels.calls - first == 3 + 5


def test_without_weights_there_is_one_message_and_metrics_of_pixels(
    schedule, make_module, make_data, make_trainer, tmp_path, caplog, monkeypatch
):
    from blastogan.metrics.weights import WeightsNotFound

    def not_there(*args, **kwargs):
        raise WeightsNotFound("fetch this and put it there")

    monkeypatch.setattr(fidelity, "load_extractor", not_there)
    fit(make_module, make_data, make_trainer(callback(schedule)))
    assert caplog.text.count("fetch this and put it there") == 1
    found = rows(tmp_path)
    assert len(found) == 3
    assert found[0]["extractor"] == "none"
    assert found[0]["swd"]
    assert "fid" not in found[0]


def test_another_extractor_begins_curves_and_a_best_of_its_own(
    schedule, make_module, make_data, make_trainer, pixels, tmp_path, caplog, monkeypatch
):
    def run(label, ticks, **settings):
        pixels.label, pixels.key = label, f"{label}-1"
        trainer = make_trainer(callback(schedule, metrics=("kid", "swd")), max_epochs=ticks,
                               logger=CSVLog(tmp_path / "run"))  # fmt: skip
        trainer.fit(make_module(), datamodule=make_data(), weights_only=True, **settings)
        return next(c for c in trainer.checkpoint_callbacks if isinstance(c, GrowthCheckpoint))

    drawn = []
    monkeypatch.setattr(
        "blastogan.callbacks.fidelity.callback.plot_curves",
        lambda rows, panels, schedule, caption: (
            drawn.append((rows, caption)) or Image.new("L", (9, 9))
        ),
    )
    first = run("grader (weights 1)", 3).best
    checkpoints = tmp_path / "run" / "checkpoints"
    kept = (checkpoints / "best.ckpt").read_bytes()
    assert first["extractor"] == "grader (weights 1)"
    # far better than any that the next one can measure
    state = torch.load(checkpoints / "last.ckpt", weights_only=True)
    state["callbacks"]["GrowthCheckpoint"]["best"]["value"] = -9.0
    torch.save(state, tmp_path / "last.ckpt")
    best = run("other", 5, ckpt_path=tmp_path / "last.ckpt").best
    assert (best["extractor"], best["kimg"]) == ("other", 0.16)
    assert (checkpoints / "best-grader-weights-1.ckpt").read_bytes() == kept
    assert "begins anew" in caplog.text
    assert [row["extractor"] for row in rows(tmp_path)] == ["grader (weights 1)"] * 2 + ["other"]
    # the log has a name of its own for the second one, whatever draws it
    logged = [row for row in read_table(tmp_path / "run/metrics.csv") if row["extractor"]]
    assert [bool(row["kid"]) for row in logged] == [True, True, False]
    assert [bool(row["other/kid"]) for row in logged] == [False, False, True]
    assert logged[-1]["other/n_fake"] == "24"
    found, caption = drawn[-1]
    texts = [f"extractor {name}, 24 fakes, 48 reals" for name in ("grader (weights 1)", "other")]
    assert [row[COMPARED] for row in found] == [texts[0], *texts]
    assert all(text in caption for text in texts)


def test_curves_of_two_extractors_are_two_and_named():
    table = [
        {"kimg": str(n), "kid": "0.1", "swd": "3", "floor_kid": str(n), COMPARED: name}
        for n, name in enumerate(("one", "one", "other", "other"))
    ]
    curves = {}
    for panel in PANELS:
        if panel.name in ("kid", "swd"):
            axes = Figure().add_subplot()
            curves_module._draw(axes, table, panel)
            curves[panel.name] = [
                (each.get_label(), each[0].get_xdata().tolist()) for each in axes.containers
            ]
            assert bool(axes.get_legend()) == (panel.name == "kid")
            floors = [line for line in axes.lines if line.get_linestyle() == ":"]
            assert len(floors) == (2 if panel.name == "kid" else 0)
    assert curves["kid"] == [("one", [0.0, 1.0]), ("other", [2.0, 3.0])]
    # pixels are compared without an extractor
    assert [x for _, x in curves["swd"]] == [[0.0, 1.0, 2.0, 3.0]]


def test_training_images_may_be_limited(schedule, make_data):
    data = make_data()
    data.setup("fit")
    trainer = SimpleNamespace(world_size=1, global_rank=0, datamodule=data)
    for stage_reals, count in ((10, 10), (99, 48), (None, 48)):
        evaluator = FidelityEvaluator(Pixels(), metrics=("kid",))
        statistics = RunStatistics(trainer, evaluator, 8, True, stage_reals)
        real = statistics.real("train")
        assert real.count == count
        assert real.groups == tuple(
            data.records[data.split["train"][n]].embryo for n in real.index.tolist()
        )
    with pytest.raises(UserError, match="num_reals"):
        callback(schedule, num_reals=1)


def test_no_metrics_means_no_evaluation(schedule, make_module, make_data, make_trainer, tmp_path):
    fit(make_module, make_data, make_trainer(callback(schedule, metrics=())))
    assert not (tmp_path / "run" / "fidelity.csv").exists()


def test_a_test_compares_with_both_sets_and_overwrites_no_file(
    schedule, make_module, make_data, make_trainer, pixels, tmp_path, capsys
):
    trainer = make_trainer(callback(schedule, metrics=METRICS))
    data = make_data()
    for _ in range(2):
        found = trainer.test(make_module(), datamodule=data)[0]
    assert {"fid_train", "fid_held_out", "gap_kid", "gap_nearest_p"} <= found.keys()
    files = sorted(path.name for path in (tmp_path / "run").glob("*.json"))
    assert files == ["fidelity-test-0-2.json", "fidelity-test-0.json"]
    content = json.loads((tmp_path / "run" / files[0]).read_text())
    assert content["train"]["n_fake"] == content["held_out"]["n_fake"] == 40
    assert content["train"]["n_real"] == 48
    assert content["train"]["floor"]["fid"] > 0
    assert content["gap"]["kid_p"] > 0
    shown = capsys.readouterr().out
    for text in ("48 trained on", "6 held out", "real half against real half", "held-out gap"):
        assert text in shown, text


def test_invalid_settings_and_other_data_modules_are_refused(
    schedule, make_module, make_trainer, pixels
):
    with pytest.raises(UserError, match="num_fakes"):
        callback(schedule, num_fakes=1)
    trainer = make_trainer(callback(schedule))
    with pytest.raises(UserError, match="BlastocystDataModule"):
        trainer.fit(make_module(), [{"image": torch.zeros(8, 1, 8, 8, dtype=torch.uint8)}])
