"""Sets without grades, or with some, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.command import blastogan, weights
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture
def fit(here):
    """Fit a tiny model to 40 images with these grades in turn."""

    def fit(run, *grades, **options):
        Path("set").mkdir(exist_ok=True)
        for n in range(40):
            Image.effect_noise((20, 20), 20 + n).save(f"set/e{n:02}.png")
        rows = [f"e{n:02}.png,{grades[n % len(grades)]}" for n in range(40)]
        Path("set/grades.csv").write_text("\n".join(["image,grade", *rows]))
        more = [f"--{name}={value}" for name, value in options.items()]
        command = ("fit", "--config", "tiny.yaml", "--data.root", "set", "--run_dir", run, *more)
        return blastogan(*command)

    return fit


def model_of(run):
    return yaml.safe_load(Path(run, "config.yaml").read_text())["model"]["init_args"]


def test_a_set_without_grades_is_trained_resumed_tested_and_sampled(fit, caplog):
    assert fit("run", "NA") == 0
    assert "without grades" in caplog.text
    assert model_of("run")["conditional"] is False
    last = "run/checkpoints/last.ckpt"
    assert weights(Path(last))["hyper_parameters"]["conditional"] is False
    assert blastogan("fit", "--resume", "--run_dir", "run") == 0
    assert blastogan("test", "--ckpt_path", last) == 0
    assert blastogan("generate", last, "out", "--count", "3") == 0
    assert len(list(Path("out").rglob("*.png"))) == 3
    assert Path("run/samples/training-images.png").exists()


def test_a_partly_graded_set_trains_a_conditional_model(fit, capsys):
    assert fit("run", "AA", "NA", "BB") == 0
    assert model_of("run")["ramp_kimg"] == [0.0, 0.0]
    counts = weights(Path("run/checkpoints/last.ckpt"))["state_dict"]["grade_counts"]
    assert counts[0, 0] > 0
    assert counts[1, 1] > 0
    assert fit("dropped", "AA", "NA", "BB", **{"data.ungraded": "drop"}) == 0
    assert model_of("dropped").get("ramp_kimg") is None
    # one message, before anything is written
    capsys.readouterr()
    assert fit("none", "NA", **{"data.ungraded": "drop"}) == 2
    assert "no graded image is left" in capsys.readouterr().err
    assert not Path("none").exists()
