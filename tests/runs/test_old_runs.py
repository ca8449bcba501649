"""A run of version 0.1: its checkpoint loads, generates the same images, and the run resumes.

``version_0_1`` holds a StyleGAN of 60 phantoms to 16x16 pixels, with augmentation and a ramp, as it
was at the end of its second phase, beside the tables of the whole run and ten samples.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.command import blastogan, read_table, weights
from PIL import Image

from blastogan.grades import CLASSES
from blastogan.modules import load_module

RUN = Path(__file__).parent / "version_0_1"


def test_a_checkpoint_generates_the_same_images():
    images = load_module(str(RUN / "checkpoints/last.ckpt")).generate(10, list(CLASSES), seed=3)
    sheet = images[:, 0].permute(1, 0, 2).reshape(16, -1).int().numpy()
    with Image.open(RUN / "samples.png") as before:
        # another processor may round a pixel to the next grey level
        assert np.abs(sheet - np.asarray(before, dtype=np.int32)).max() <= 1


@pytest.mark.slow
def test_a_run_resumes_as_it_went_on_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUN, "run")
    assert blastogan("fit", "--config", "run/config.yaml", "--resume") == 0
    assert weights("run/checkpoints/last.ckpt")["blastogan"]["images_shown"] == 192
    before, after = (read_table(Path(run, "metrics.csv")) for run in (RUN, Path("run")))
    assert [row["kimg"] for row in after] == [row["kimg"] for row in before]
    for old, new in zip(before, after, strict=True):
        # tests compare fewer pairs for MS-SSIM, see conftest.py
        named = {name: float(old[name]) for name in old if old[name] and "ms_ssim" not in name}
        found = {name: float(new[name]) for name in named}
        assert found == pytest.approx(named, rel=0.02, abs=0.02)
