from __future__ import annotations

import csv
import json
import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from helpers.small_modules import blank, same_weights

from blastogan import FadeIn, ProgressiveGrowing
from blastogan.callbacks import DivergenceWatch, GrowthCheckpoint, RandomState
from blastogan.callbacks.watch import alarms
from blastogan.errors import DivergenceError, UserError
from blastogan.runs.loggers import CSVLog

EVEN_PARTS = {"val_fraction": 0.3, "test_fraction": 0.3}
WATCH = "blastogan.callbacks.watch.callback"
LOGITS = {"logits_train": 0.0, "logits_held_out": 0.0, "logits_generated": 0.0}


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def watched(make_trainer, schedule):
    """A trainer with a watch that uses few images, after callbacks that spoil the run."""

    def make(*spoilers, folder="run", trainer=None, **settings):
        watch = DivergenceWatch(schedule, **{"num_images": 16, **settings})
        growth = [ProgressiveGrowing(schedule), FadeIn(schedule)]
        callbacks = [*growth, *spoilers, watch, GrowthCheckpoint(schedule), RandomState()]
        settings = {"limit_val_batches": 0, **(trainer or {})}
        return make_trainer(callbacks=callbacks, folder=folder, **settings), watch

    return make


@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_a_watched_run_ends_with_the_same_weights(
    name, make_module, make_data, make_trainer, schedule
):
    modules = []
    for watch in ([], [DivergenceWatch(schedule, num_images=16)]):
        pl.seed_everything(0)
        modules.append(make_module(name))
        growth = [ProgressiveGrowing(schedule), FadeIn(schedule)]
        trainer = make_trainer(callbacks=[*growth, *watch], limit_val_batches=0, max_epochs=3)
        trainer.fit(modules[-1], make_data(**EVEN_PARTS))
    assert same_weights(*modules)


class At(pl.Callback):
    """Does something at a hook, from `images` images shown on."""

    def __init__(self, hook, images, do):
        self.images = images
        self.do = do
        setattr(self, hook, self._call)

    def _call(self, trainer, module, *args):
        if module.images_shown >= self.images:
            self.do(module, *args)


def spoil(module, *args):
    if module.images_shown == 56:
        next(module.discriminator.parameters()).data.fill_(math.nan)


def test_probes_are_logged_against_images_shown(watched, make_module, make_data, tmp_path):
    log = CSVLog(tmp_path / "run")
    trainer, _ = watched(every_n_ticks=2, trainer={"logger": log})
    trainer.fit(make_module(), make_data(**EVEN_PARTS))
    rows = read_table(tmp_path / "run/metrics.csv")
    assert [(row["kimg"], row["resolution"], row["alpha"]) for row in rows] == [
        ("0.064", "16", "0.5"),
        ("0.128", "16", "1.0"),
    ]
    for name in ("logits_train", "logits_held_out", "logits_generated", "diversity"):
        assert all(math.isfinite(float(row[name])) for row in rows)
    assert all(-1 <= float(row["sign_real"]) <= 1 for row in rows)
    for row in rows:
        for name in ("grad_norm_d", "grad_norm_g"):
            assert float(row[f"{name}_max"]) >= float(row[f"{name}_median"]) > 0
    # the columns of leaks are gone
    assert not any(name.startswith(("turned", "shifted", "dark", "leak")) for name in rows[0])


def test_a_nan_stops_the_run_names_its_terms_and_keeps_the_state(
    watched, make_module, make_data, tmp_path
):
    trainer, _ = watched(At("on_train_batch_start", 56, spoil), on_nan="stop")
    with pytest.raises(DivergenceError, match="loss_d is NaN") as caught:
        trainer.fit(make_module(), make_data(**EVEN_PARTS))
    assert "at or before 0.032 kimg" in str(caught.value)
    folder = tmp_path / "run/checkpoints"
    assert (
        torch.load(folder / "diverged.ckpt", weights_only=True)["blastogan"]["images_shown"] == 60
    )
    assert torch.load(folder / "last.ckpt", weights_only=True)["blastogan"]["images_shown"] == 32


def test_a_nan_is_reported_with_the_phase_of_its_step(watched, make_module, make_data):
    def spoil_last_step(module, *args):
        next(module.discriminator.parameters()).data.fill_(math.nan)

    trainer, _ = watched(At("on_train_batch_start", 92, spoil_last_step))
    with pytest.raises(DivergenceError, match=r"0\.096 kimg, fade 16x16, alpha 0\.938"):
        trainer.fit(make_module(), make_data())


def test_a_gpu_waits_at_some_steps_only_and_at_the_last_of_a_tick(schedule, monkeypatch):
    checked = []
    monkeypatch.setattr(f"{WATCH}.as_gan", lambda module: module)
    monkeypatch.setattr(
        f"{WATCH}.is_finite",
        lambda *args: bool(checked.append(step)) or True,
    )
    watch = DivergenceWatch(schedule, every_n_steps=3)
    for step in range(8):
        module = SimpleNamespace(images_shown=4 * (step + 1), device=torch.device("cuda"))
        watch.on_train_batch_end(None, module, {}, None, step)
    assert checked == [0, 3, 6, 7]


def test_a_diverged_state_does_not_train_on(watched, make_module, make_data, tmp_path):
    first, _ = watched(At("on_train_batch_start", 56, spoil))
    with pytest.raises(DivergenceError, match="NaN"):
        first.fit(make_module(), make_data())
    second, _ = watched(folder="again")
    kept = tmp_path / "run/checkpoints/diverged.ckpt"
    with pytest.raises(DivergenceError, match=r"0\.064 kimg"):
        second.fit(make_module(), make_data(), ckpt_path=kept, weights_only=True)


def test_a_nan_is_warned_of_once(watched, make_module, make_data, caplog):
    trainer, _ = watched(At("on_train_batch_start", 56, spoil), on_nan="warn")
    trainer.fit(make_module(), make_data())
    assert caplog.text.count("NaN: training diverged") == 1
    assert trainer.current_epoch == trainer.max_epochs


def test_a_probe_that_is_not_finite_is_a_nan(watched, make_module, make_data, tmp_path):
    """Weights that break in the last step of a tick reach no checkpoint of it."""

    def spoil_weights(module, *args):
        next(module.discriminator.parameters()).data.fill_(math.nan)

    trainer, _ = watched(At("on_train_epoch_end", 64, spoil_weights))
    with pytest.raises(DivergenceError, match=r"0\.064 kimg, fade.*logits_train is NaN"):
        trainer.fit(make_module(), make_data(**EVEN_PARTS))
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["blastogan"]["images_shown"] == 32


@pytest.fixture
def _soon(monkeypatch):
    monkeypatch.setattr(alarms, "ENOUGH_KIMG", 0.0)


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_a_collapsed_generator_is_noticed_at_the_second_probe(
    name, watched, make_module, make_data, caplog
):
    trainer, _ = watched(At("on_train_epoch_end", 64, blank))
    trainer.fit(make_module(name), make_data(**EVEN_PARTS))
    assert caplog.text.count("mode collapse") == 1
    assert "mode collapse at 0.096 kimg: the diversity of the samples is 0.00" in caplog.text


@pytest.mark.usefixtures("_soon")
def test_a_collapse_can_stop_the_run(watched, make_module, make_data, tmp_path):
    trainer, watch = watched(At("on_train_epoch_end", 64, blank), on_collapse="stop")
    with pytest.raises(DivergenceError, match=r"at or before 0\.032 kimg"):
        trainer.fit(make_module(), make_data(**EVEN_PARTS))
    assert watch.alarms.good_images == 32
    assert not (tmp_path / "run/checkpoints/diverged.ckpt").exists()
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["blastogan"]["images_shown"] == 64


@pytest.mark.usefixtures("_soon")
def test_a_resumed_run_decides_as_one_that_was_not_interrupted(
    watched, make_module, make_data, tmp_path, caplog
):
    spoiler = At("on_train_epoch_end", 64, blank)
    first, _ = watched(spoiler, trainer={"max_epochs": 2})
    first.fit(make_module(), make_data(**EVEN_PARTS))
    assert "mode collapse" not in caplog.text
    second, watch = watched(spoiler)
    last = tmp_path / "run/checkpoints/last.ckpt"
    second.fit(make_module(), make_data(**EVEN_PARTS), ckpt_path=last, weights_only=True)
    assert "mode collapse at 0.096 kimg" in caplog.text
    assert watch.alarms.good_images == 32


def test_the_state_is_plain_and_complete(schedule):
    watch = DivergenceWatch(schedule)
    norms = {"grad_norm_d": torch.tensor(3.0), "grad_norm_g": torch.tensor(1.0)}
    module = SimpleNamespace(images_shown=4, device=torch.device("cuda"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{WATCH}.as_gan", lambda module: module)
        for _ in range(3):
            watch.on_train_batch_end(None, module, norms, None, batch_idx=1)
    for largest in (3.0, 900.0):
        watch.alarms.update_norms({"grad_norm_d_max": largest, "grad_norm_d_median": 2.0}, 1)
    watch.alarms.update_diversity({"diversity": 0.5}, 1)
    watch.alarms.update_diversity({"diversity": 0.1}, 2)
    watch.alarms.nan.update(bad=True, clear=False)
    state = watch.state_dict()
    again = DivergenceWatch(schedule)
    again.load_state_dict(json.loads(json.dumps(state)))
    assert again.state_dict() == state
    assert again.alarms == watch.alarms
    expected = {"grad_norm_d_max": 3.0, "grad_norm_d_median": 3.0}
    expected |= {"grad_norm_g_max": 1.0, "grad_norm_g_median": 1.0}
    assert again._summary() == expected
    # kept until the tick is judged, in case that a signal comes before
    assert again._summary() == expected


def test_exploding_gradients_are_warned_of(watched, make_module, make_data, caplog):
    def explode(module, outputs, batch, batch_idx):
        if module.images_shown == 80:
            outputs["grad_norm_d"] = outputs["grad_norm_d"] * 1e5

    trainer, watch = watched(At("on_train_batch_end", 80, explode), every_n_ticks=1000)
    trainer.fit(make_module(), make_data(**EVEN_PARTS))
    assert caplog.text.count("exploding gradients at 0.096 kimg: the discriminator's") == 1
    # no probe has confirmed a good state
    assert watch.alarms.good_images == 0


@pytest.mark.parametrize("action", ["warn", "stop"])
def test_overfitting_is_warned_of_or_stops_the_run(
    action, watched, make_module, make_data, caplog, monkeypatch
):
    found = LOGITS | {"overfitting": 0.67}
    seeds = []

    def probe_discriminator(*args, seed, **settings):
        seeds.append(seed)
        return found

    monkeypatch.setattr(f"{WATCH}.probe_discriminator", probe_discriminator)
    trainer, _ = watched(on_overfitting=action)
    if action == "stop":
        with pytest.raises(DivergenceError, match=r"overfitting .* at 0\.096 kimg"):
            trainer.fit(make_module(), make_data())
    else:
        trainer.fit(make_module(), make_data())
        assert caplog.text.count("overfitting of the discriminator at 0.096 kimg") == 1
    # other images and latents in each probe
    assert len(set(seeds)) == len(seeds) >= 3


def test_too_few_held_out_images_are_reported_once(
    watched, make_module, make_data, caplog, tmp_path
):
    caplog.set_level("INFO")
    trainer, _ = watched(trainer={"logger": CSVLog(tmp_path / "run")})
    trainer.fit(make_module(), make_data())
    assert caplog.text.count("overfitting is not watched") == 1
    assert "got 6" in caplog.text
    rows = read_table(tmp_path / "run/metrics.csv")
    assert "logits_held_out" not in rows[0]
    assert len(rows) == 5


def test_a_probe_needs_a_group_of_images(watched, make_module, make_data, caplog):
    caplog.set_level("INFO")
    trainer, _ = watched(num_images=3, trainer={"max_epochs": 1})
    trainer.fit(make_module(), make_data(**EVEN_PARTS))
    assert caplog.text.count("probes need at least 4 images") == 1


def test_without_a_blastocyst_data_module_there_are_no_probes(
    watched, make_module, make_data, caplog, tmp_path
):
    caplog.set_level("INFO")
    data = make_data()
    data.setup("fit")
    loader = data.train_dataloader()
    trainer, _ = watched(trainer={"max_epochs": 1, "logger": CSVLog(tmp_path / "run")})
    trainer.fit(make_module(), loader)
    assert caplog.text.count("probes need a BlastocystDataModule") == 1
    (row,) = read_table(tmp_path / "run/metrics.csv")
    assert float(row["grad_norm_d_max"]) > 0
    assert "logits_train" not in row


def test_processes_decide_by_the_probe_of_the_first(schedule, monkeypatch, caplog):
    """Devices may round differently; if they disagreed, some would stop and others wait."""
    mine, first = {"diversity": 0.26}, {"diversity": 0.24, "logits_train": 0.0}
    watch = DivergenceWatch(schedule)
    watch.alarms.update_diversity({"diversity": 0.5}, 0)
    watch.alarms.update_diversity({"diversity": 0.1}, 32)
    monkeypatch.setattr(f"{WATCH}.as_gan", lambda module: module)
    monkeypatch.setattr(watch, "_probe", lambda trainer, module: mine)
    strategy = SimpleNamespace(broadcast=lambda row: first)
    trainer = SimpleNamespace(world_size=2, strategy=strategy, loggers=[], default_root_dir="run")
    watch.on_train_epoch_end(trainer, SimpleNamespace(images_shown=64))
    assert "mode collapse at 0.064 kimg" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps is 0"),
        ({"every_n_ticks": 0}, "every_n_ticks is 0"),
        ({"num_images": 0}, "num_images is 0"),
        ({"on_nan": "roll_back"}, "on_nan is 'roll_back': expected warn or stop"),
        ({"on_collapse": "roll_back"}, "on_collapse is 'roll_back'"),
        ({"on_overfitting": "go"}, "on_overfitting is 'go'"),
    ],
)
def test_invalid_settings_are_refused(settings, message, schedule):
    with pytest.raises(UserError, match=message):
        DivergenceWatch(schedule, **settings)
