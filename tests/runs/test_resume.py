"""A run that is cut off anywhere and resumed ends bit-equal to one that was left alone."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from helpers.small_modules import same_weights

# TINY: hold 8 to 32 images, fade 16 to 96, hold 16 to 160, ticks of 32
POINTS = {
    "mid-hold": 16,
    "phase end": 32,
    "first batch of a fade": 36,
    "mid-fade": 60,
    "tick within a fade": 64,
    "fade end": 96,
    "last batch but one": 156,
}


class Crash(RuntimeError):
    pass


class SaveAt(pl.Callback):
    """Saves in a hook when so many images were shown."""

    def __init__(self, images, path, hook):
        self.images, self.path, self.hook = images, path, hook

    def _reached(self, hook, trainer, module):
        if hook == self.hook and module.images_shown == self.images:
            trainer.save_checkpoint(self.path, weights_only=False)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self._reached("batch", trainer, module)

    def on_validation_batch_end(self, trainer, module, *args):
        self._reached("validation", trainer, module)

    def on_train_epoch_end(self, trainer, module):
        self._reached("tick", trainer, module)


class CrashAt(SaveAt):
    """Dies after it has saved."""

    def _reached(self, hook, trainer, module):
        super()._reached(hook, trainer, module)
        if self.path.exists():
            raise Crash


class Order(pl.Callback):
    def __init__(self):
        self.seen = {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen[module.images_shown] = batch["index"].tolist()


# architecture, settings of the module, of the trainer
KINDS = {
    "progan": ("progan", {}, {}),
    "stylegan": ("stylegan", {"fake_labels": "balanced"}, {}),
    "accumulated": ("stylegan", {"micro_batch": 2, "stddev_group": 2, "generator_clip": 1.0}, {}),
    "bfloat16": ("stylegan", {}, {"precision": "bf16-mixed"}),
    # a stage takes seconds to trace: to the end of the fade
    "compiled": ("progan", {"compile_mode": "default"}, {"max_epochs": 3}),
    "small data": (
        "stylegan",
        {
            "augment": "bgc",
            "augment_kimg": 0.1,
            "augment_target": 0.0,
            "ramp_kimg": [0.03, 0.12],
        },
        {},
    ),
    "gradient penalty": ("progan", {"regularizer": "gradient_penalty", "reuse_fakes": True}, {}),
}


@pytest.fixture(autouse=True)
def _without_compiler(monkeypatch):
    """`torch.compile` traces as always, but generates no code."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, mode: compile_(network, backend="eager"))


def fit(make_module, make_data, make_trainer, *callbacks, name, workers, ckpt=None, seed=1):
    pl.seed_everything(seed)
    kind, settings, of_trainer = KINDS[name]
    module, order = make_module(kind, **settings), Order()
    trainer = make_trainer(*callbacks, order, **of_trainer)
    data = make_data(num_workers=workers, augment="dihedral")
    try:
        trainer.fit(module, data, ckpt_path=ckpt, weights_only=True)
    except Crash:
        return None, order.seen
    return trainer, order.seen


@pytest.fixture
def run(make_module, make_data, make_trainer):
    return partial(fit, make_module, make_data, make_trainer)


def same_optimizers(first, second):
    for mine, theirs in zip(first.optimizers, second.optimizers, strict=True):
        a, b = mine.state_dict()["state"], theirs.state_dict()["state"]
        assert a.keys() == b.keys()
        for key in a:
            for name, value in a[key].items():
                if not torch.equal(value, b[key][name]):
                    return False
    return True


@pytest.fixture(scope="module")
def known():
    """Runs that are left alone, by their settings; each is trained once."""
    return {}


@pytest.fixture
def alone(run, known, tmp_path_factory):
    """Give a run that was left alone, its order, its random state, and what it saved on the way."""

    def train_once(name, workers):
        if (name, workers) not in known:
            folder = tmp_path_factory.mktemp("saved")
            saved = {
                (point, hook): folder / f"{point}-{hook}.ckpt"
                for kind, point, _, hook in CASES
                if kind == name
            }
            callbacks = [SaveAt(POINTS[at], path, hook) for (at, hook), path in saved.items()]
            trainer, order = run(*callbacks, name=name, workers=workers)
            state = torch.get_rng_state()
            last = Path(trainer.default_root_dir, "checkpoints", "last.ckpt")
            saved["end"] = shutil.copy(last, folder)
            known[name, workers] = trainer, order, state, saved
        return known[name, workers]

    return train_once


CASES = [
    ("progan", point, 0, hook)
    for point in POINTS
    for hook in (["batch", "validation", "tick"] if POINTS[point] % 32 == 0 else ["batch"])
]
CASES += [("progan", "mid-fade", 2, "batch"), ("progan", "phase end", 2, "tick")]
# when it is saved and by whom is no matter of the module: the others within a tick and at its end
CASES += [
    (name, point, 0, hook)
    for name in KINDS
    if name != "progan"
    for point, hook in (("mid-fade", "batch"), ("tick within a fade", "tick"))
    if name != "compiled" or point == "mid-fade"
]


@pytest.mark.parametrize(("name", "point", "workers", "hook"), CASES)
def test_resume_is_bit_equal(name, point, workers, hook, run, alone):
    whole, order, state, saved = alone(name, workers)
    resumed, after = run(name=name, workers=workers, ckpt=saved[point, hook])
    assert same_weights(resumed.lightning_module, whole.lightning_module)
    assert resumed.lightning_module.images_shown == (96 if name == "compiled" else 160)
    assert same_optimizers(resumed, whole)
    assert torch.equal(torch.get_rng_state(), state)
    assert after == {shown: seen for shown, seen in order.items() if shown >= POINTS[point]}


@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_saving_changes_nothing_and_neither_does_a_crash(name, run, alone, tmp_path):
    saving, order, state, _ = alone(name, 0)
    whole, seen = run(name=name, workers=0)
    assert same_weights(whole.lightning_module, saving.lightning_module)
    assert same_optimizers(whole, saving)
    assert torch.equal(torch.get_rng_state(), state)
    assert seen == order
    path = tmp_path / "crash.ckpt"
    crashed, before = run(CrashAt(60, path, "batch"), name=name, workers=0)
    assert crashed is None
    resumed, after = run(name=name, workers=0, ckpt=path)
    assert same_weights(resumed.lightning_module, whole.lightning_module)
    assert before | after == order


def test_a_finished_run_has_nothing_left_to_do(run, alone):
    whole, _, _, saved = alone("progan", 0)
    again, seen = run(name="progan", workers=0, ckpt=saved["end"])
    assert seen == {}
    assert same_weights(again.lightning_module, whole.lightning_module)


def test_what_is_random_in_the_steps_comes_with_the_checkpoint(run, alone, tmp_path):
    whole, _, _, saved = alone("progan", 0)
    resumed, _ = run(name="progan", workers=0, ckpt=saved["mid-fade", "batch"], seed=2)
    assert same_weights(resumed.lightning_module, whole.lightning_module)
    checkpoint = torch.load(saved["mid-fade", "batch"], weights_only=True)
    checkpoint["blastogan"]["draw_seed"] += 1
    torch.save(checkpoint, tmp_path / "other.ckpt")
    other, _ = run(name="progan", workers=0, ckpt=tmp_path / "other.ckpt", seed=2)
    assert not same_weights(other.lightning_module, whole.lightning_module)
