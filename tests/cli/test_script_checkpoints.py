"""Commands read checkpoints that a script has written, without a configuration beside them."""

from __future__ import annotations

import pytest
from helpers.command import blastogan
from pytorch_lightning import Trainer

from blastogan import GrowthSchedule
from blastogan.callbacks import ProgressiveGrowing
from blastogan.modules import GradeClassifier

DATA = "--data.num_phantoms=40", "--trainer.accelerator=cpu"


def save(module, path, *callbacks):
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks))
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return str(path)


@pytest.mark.parametrize("grown", [True, False])
def test_a_gan_is_measured_by_its_own_settings(grown, make_module, here, capfd):
    schedule = GrowthSchedule(8, 16, hold_kimg={8: 0.064, 16: 0.032}, batch_size=4)
    callbacks = [ProgressiveGrowing(schedule)] if grown else []
    path = save(make_module("stylegan"), here / "mine.ckpt", *callbacks)
    assert blastogan("validate", "--ckpt_path", path, *DATA) == 0
    assert "MS-SSIM" in capfd.readouterr().out
    assert blastogan("fit", "--ckpt_path", path, *DATA) == 2
    assert "no configuration" in capfd.readouterr().err


def test_a_grader_is_tested_by_its_own_settings(here, capfd):
    path = save(GradeClassifier(resolution=32, feature_dim=8, img_channels=3), here / "mine.ckpt")
    assert blastogan("grade", "test", "--ckpt_path", path, *DATA) == 0
    assert "kappa" in capfd.readouterr().out
