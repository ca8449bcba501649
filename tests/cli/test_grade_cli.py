"""``blastogan grade`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from helpers.command import assert_same_run, blastogan, read_table, weights

from blastogan.cli.grade import kept_checkpoints
from blastogan.data import GradeDataModule
from blastogan.modules import GradeClassifier
from blastogan.utils.version import provenance

pytestmark = pytest.mark.slow

SMALL = [
    "--data.num_phantoms=60",
    "--data.phantom_counts=balanced",
    "--data.resolution=32",
    "--data.epoch_kimg=0.032",
    "--data.batch_size=16",
    "--trainer.accelerator=cpu",
    "--trainer.enable_model_summary=false",
]


def fit(*args, epochs=3):
    return blastogan("grade", "fit", *SMALL, f"--trainer.max_epochs={epochs}", *args)


def test_fit_and_test_without_a_config(here, capfd, caplog):
    assert fit() == 0
    run = here / "runs/grader"
    best, last = run / "checkpoints/best.ckpt", run / "checkpoints/last.ckpt"
    assert {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()} == {
        ".lock",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "metrics.csv",
        "split.csv",
    }
    # the last epoch is kept though it was not the best
    saved = weights(last)["blastogan"]
    assert saved == {"architecture": "GradeClassifier", "images_shown": 96, **provenance()}
    rows = [row for row in read_table(run / "metrics.csv") if row["kappa"]]
    assert [row["kimg"] for row in rows] == ["0.032", "0.064", "0.096"]
    first = max(rows, key=lambda row: float(row["kappa"]))
    assert weights(best)["blastogan"]["images_shown"] == float(first["kimg"]) * 1000
    for use in ("blastogan grade test --ckpt_path", "--extractor grader --weights"):
        assert f"{use} runs/grader/checkpoints/best.ckpt" in caplog.text
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["resolution"] == 32

    # a second run of the same command gets a folder of its own
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert fit() == 0
    assert all(p.read_bytes() == content for p, content in before.items())
    assert_same_run(last, here / "runs/grader-2/checkpoints/last.ckpt")

    capfd.readouterr()
    caplog.clear()
    assert blastogan("grade", "test", "--ckpt_path", best) == 0
    assert "icm_balanced_accuracy" in capfd.readouterr().out
    assert "not the images" not in caplog.text
    assert blastogan("grade", "validate", "--ckpt_path", best) == 0
    assert f"{float(first['loss']):.4g}" in capfd.readouterr().out
    (result,) = run.glob("grade-test-*.json")
    assert {"kappa", "loss"} <= set(json.loads(result.read_text())["values"])
    result.unlink()
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


class Scripted(GradeClassifier):
    """Its kappa is best in the second epoch."""

    def on_validation_epoch_end(self):
        self.log("kappa", [0.1, 0.5, 0.3][self.trainer.current_epoch])


def test_the_grader_of_highest_kappa_is_kept_and_the_last(tmp_path, make_trainer):
    data = GradeDataModule(resolution=32, num_phantoms=60, epoch_kimg=0.032, batch_size=16)
    checkpoints = kept_checkpoints(tmp_path, best=True)
    make_trainer(max_epochs=3, callbacks=checkpoints).fit(Scripted(resolution=32), datamodule=data)
    kept = {p.name: weights(p)["blastogan"]["images_shown"] for p in tmp_path.rglob("*.ckpt")}
    assert kept == {"best.ckpt": 64, "last.ckpt": 96}


def test_a_run_stopped_and_resumed_is_bit_equal(here, caplog):
    assert fit("--run_dir", "whole") == 0
    stop = "trainer: {callbacks: [{class_path: helpers.command.StopAt, init_args: {images: 80}}]}"
    Path("stop.yaml").write_text(stop)
    assert fit("--config", "stop.yaml", "--run_dir", "cut") == 130
    last = Path("cut/checkpoints/last.ckpt")
    assert f"{last}; the same command with --resume" in caplog.text
    assert weights(last)["blastogan"]["images_shown"] == 64
    resume = ["--ckpt_path", last, "--trainer.callbacks=null"]
    assert fit(*resume) == 0
    assert_same_run(last, "whole/checkpoints/last.ckpt")
    tables = [read_table(Path(name) / "metrics.csv") for name in ("cut", "whole")]
    assert tables[0] == tables[1]

    caplog.clear()
    assert fit(*resume) == 0
    assert "nothing is left" in caplog.text
    assert fit(*resume, epochs=4) == 0
    assert weights(last)["blastogan"]["images_shown"] == 128


def test_files_are_graded_in_colour(here):
    assert blastogan("phantom", "set", "--count", "60", "--resolution", "32") == 0
    options = ["--data.root=set", "--data.img_channels=3", "--model.backbone=resnet18"]
    assert fit(*options, "--data.val_fraction=0", "--run_dir", "rgb", epochs=1) == 0
    # nothing to choose the best by
    assert [path.name for path in Path("rgb/checkpoints").iterdir()] == ["last.ckpt"]
    grader = GradeClassifier.load_from_checkpoint(Path("rgb/checkpoints/last.ckpt"))
    assert grader.hparams["backbone"] == "resnet18"
    assert grader.hparams["img_channels"] == 3


def test_a_grader_and_a_gan_are_not_taken_for_each_other(trained, capfd):
    assert fit(epochs=1) == 0
    gan, grader = (Path("runs") / name / "checkpoints/last.ckpt" for name in ("tiny", "grader"))
    before = sorted(trained.rglob("*"))
    for command, message in (
        (["grade", "fit", "--config=runs/grader/config.yaml", "--ckpt_path", gan], "a ProGAN"),
        (["grade", "test", "--config=runs/grader/config.yaml", "--ckpt_path", gan], "a ProGAN"),
        (["grade", "test", "--ckpt_path", gan], "ProGANModule, not a GradeClassifier"),
        (["test", "--config=tiny.yaml", "--ckpt_path", grader], "GradeClassifier, not a ProGAN"),
        (["generate", grader, "out"], "holds a GradeClassifier: expected one of ProGANModule"),
    ):
        capfd.readouterr()
        assert blastogan(*command) == 2
        assert message in capfd.readouterr().err
    assert sorted(trained.rglob("*")) == before


WRONG = {
    "no command": ([], "grade"),
    "unknown command": (["predict"], "predict"),
    "untrained": (["test"], "test needs a grader: add --ckpt_path"),
    "no checkpoint": (["test", "--ckpt_path", "no.ckpt"], "no checkpoint at no.ckpt"),
    "junk checkpoint": (["fit", *SMALL, "--ckpt_path", "junk.ckpt"], "cannot read"),
    "no folder": (["fit", *SMALL, "--data.root", "absent"], "absent"),
    "resolution": (["fit", *SMALL, "--data.resolution", "48"], "power of two"),
    "too small": (["fit", *SMALL, "--data.resolution", "16"], "expected 32 or more"),
    "backbone": (["fit", *SMALL, "--model.backbone", "resnet19"], "expected small or one of"),
    "no config": (["fit", "--config", "absent.yaml"], "absent.yaml"),
    "full folder": (["fit", *SMALL, "--run_dir", "full"], "nothing is overwritten"),
    "seed": (["fit", *SMALL, "--seed_everything", "-1"], "seed_everything is -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_gets_one_clear_message_and_leaves_nothing_behind(case, here, capfd):
    Path("junk.ckpt").write_bytes(b"GIF89a")
    Path("full").mkdir()
    Path("full/file").write_text("")
    args, message = WRONG[case]
    before = sorted(here.rglob("*"))
    assert blastogan("grade", *args) == 2
    output = capfd.readouterr()
    assert message in output.err + output.out
    assert "Traceback" not in output.err + output.out
    assert sorted(here.rglob("*")) == before


def test_a_run_goes_on_with_its_own_data_and_network_only(here, capfd):
    assert fit(epochs=1) == 0
    last = Path("runs/grader/checkpoints/last.ckpt")
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    for option, message in (
        ("--data.num_phantoms=61", "images is 60 in the checkpoint and 61"),
        ("--seed_everything=1", "seed is 0 in the checkpoint and 1 here"),
        ("--model.feature_dim=8", "feature_dim is 64 in the checkpoint and 8"),
        ("--data.resolution=64", "resolution is 32 in the checkpoint and 64"),
    ):
        assert fit(option, "--ckpt_path", last) == 2
        assert message in capfd.readouterr().err
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before
