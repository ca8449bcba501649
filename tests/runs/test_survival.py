"""Runs that are killed, or whose checkpoints are damaged, resume by ``--resume``."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import torch
from helpers.command import TINY, assert_same_run, blastogan, read_table, weights
from helpers.processes import begin, kill_at, run

from blastogan.errors import UserError
from blastogan.runs.checkpoint_files import latest_valid_checkpoint, read_checkpoint
from blastogan.runs.folder import checkpoints_in, newest_run

RESUME = ("fit", "--config", "tiny.yaml", "--resume")


def files(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "a byte": lambda content: content[:1],
    "halved": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "a bit in the middle": lambda content: flip(content, len(content) // 2),
}


def damage(path, how):
    path.write_bytes(DAMAGES[how](path.read_bytes()))


def content(images, **state):
    """A checkpoint, as far as it is read here."""
    return {
        "pytorch-lightning_version": "2.6.6",
        "blastogan": {"architecture": "GradeClassifier", "images_shown": images},
        "hyper_parameters": {},
        "state_dict": state,
    }


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(content(8, weights=torch.rand(3000)), path)
    return path


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_of_a_checkpoint_is_noticed(how, checkpoint):
    assert read_checkpoint(checkpoint)["blastogan"]["images_shown"] == 8
    damage(checkpoint, how)
    with pytest.raises(UserError, match=r"cannot read the checkpoint .*last\.ckpt: it is damaged"):
        read_checkpoint(checkpoint)


def test_no_bit_of_the_weights_flips_unnoticed(checkpoint):
    content = checkpoint.read_bytes()
    raw = read_checkpoint(checkpoint)["state_dict"]["weights"].numpy().tobytes()
    place = content.index(raw)
    for step in range(0, len(raw), len(raw) // 7):
        checkpoint.write_bytes(flip(content, place + step))
        # torch would have trained on
        torch.load(checkpoint, weights_only=True)
        with pytest.raises(UserError, match="damaged"):
            read_checkpoint(checkpoint)


def test_the_latest_valid_checkpoint_is_found(tmp_path):
    shown = {
        "last.ckpt": 90, "last-1.ckpt": 60, "last-2.ckpt": 40, "last-10.ckpt": 20,
        "phase-00-hold-0008.ckpt": 30, "phase-01-fade-0016.ckpt": 70, "best.ckpt": 80,
        "diverged.ckpt": 95,
    }  # fmt: skip
    for name, images in shown.items():
        torch.save(content(images), tmp_path / name)
    found = [path.name for path in checkpoints_in(tmp_path)]
    assert found == [
        "last.ckpt", "last-1.ckpt", "last-2.ckpt", "last-10.ckpt",
        "phase-01-fade-0016.ckpt", "phase-00-hold-0008.ckpt",
    ]  # fmt: skip
    taken = []
    while (newest := latest_valid_checkpoint(checkpoints_in(tmp_path))[0]) is not None:
        taken.append(newest.images_shown)
        newest.path.write_bytes(b"")
    assert taken == [90, 70, 60, 40, 30, 20]


@pytest.fixture
def intact(trained):
    """The last checkpoint of a run that was left alone; its end is to come again."""
    folder = trained / "runs/tiny/checkpoints"
    (folder / "phase-02-hold-0016.ckpt").unlink()
    return (folder / "last.ckpt").rename(trained / "intact.ckpt")


class TestDamagedRuns:
    pytestmark = pytest.mark.slow

    def test_the_predecessor_resumes_to_the_same_end(self, intact, caplog):
        last = Path("runs/tiny/checkpoints/last.ckpt")
        last.write_bytes(intact.read_bytes())
        damage(last, "a bit in the middle")
        damaged = last.read_bytes()
        assert blastogan(*RESUME) == 0
        before = "runs/tiny/checkpoints/last-1.ckpt, at 0.16 kimg"
        assert f"runs/tiny/checkpoints/last.ckpt is damaged; used instead: {before}" in caplog.text
        assert_same_run(last, intact)
        assert last.with_name("last.ckpt.damaged").read_bytes() == damaged
        # the damaged one does not count as the one before
        assert weights(last.with_name("last-1.ckpt"))["blastogan"]["images_shown"] == 160
        kimg = [row["kimg"] for row in read_table(Path("runs/tiny/metrics.csv")) if row["swd"]]
        assert kimg == ["0.032", "0.064", "0.096", "0.128", "0.16", "0.192"]
        assert not list(Path().rglob("*.part"))

    def test_if_none_is_valid_each_is_reported_and_best_is_left_alone(self, trained, capfd):
        folder = Path("runs/tiny/checkpoints")
        for path in checkpoints_in(folder):
            damage(path, "halved")
        before = files(trained)
        assert blastogan(*RESUME) == 2
        output = capfd.readouterr().err
        count = len(checkpoints_in(folder))
        assert f"none of the checkpoints of runs/tiny can be read ({count}):" in output
        assert all(f"{path}: it is damaged" in output for path in checkpoints_in(folder))
        assert "best.ckpt" not in output
        assert files(trained) == before

    def test_a_damaged_one_that_is_given_is_refused_with_the_latest_valid_one(self, intact, capfd):
        last = Path("runs/tiny/checkpoints/last.ckpt")
        last.write_bytes(intact.read_bytes()[:-9])
        before = files(".")
        assert blastogan("fit", "--ckpt_path", last) == 2
        newest = f"{last.with_name('last-1.ckpt')}, at 0.16 kimg"
        assert f"latest valid checkpoint is {newest}" in capfd.readouterr().err
        early = last.with_name("phase-00-hold-0008.ckpt")
        assert blastogan("fit", "--ckpt_path", early) == 2
        assert "continued to 0.16 kimg" in capfd.readouterr().err
        assert files(".") == before
        assert blastogan("fit", "--ckpt_path", last.with_name("last-1.ckpt")) == 0
        assert_same_run(last, intact)
        assert weights(last.with_name("last-1.ckpt"))["blastogan"]["images_shown"] == 160


class TestResume:
    pytestmark = pytest.mark.slow

    def test_one_command_starts_resumes_and_ends(self, trained, caplog):
        command = *RESUME, "--run_dir", "cut"
        code, output = run(*command, *kill_at(24))
        assert code == -signal.SIGKILL, output
        left = files("cut")
        assert {path.name for path in left} >= {"config.yaml", "split.csv", ".lock"}
        assert not checkpoints_in(Path("cut/checkpoints"))
        # it died before the first checkpoint; the next one dies in the middle of a fade
        assert run(*command, *kill_at(88))[0] == -signal.SIGKILL
        assert weights("cut/checkpoints/last.ckpt")["blastogan"]["images_shown"] == 64
        Path("cut/checkpoints/best.ckpt.9.part").write_bytes(b"what a process died of")
        assert blastogan(*command) == 0
        intact = Path("runs/tiny")
        assert_same_run("cut/checkpoints/last.ckpt", intact / "checkpoints/last.ckpt")
        assert read_table(Path("cut/metrics.csv")) == read_table(intact / "metrics.csv")
        kept = files("cut")
        for path in (Path("cut/config.yaml"), Path("cut/split.csv")):
            assert kept[path] == left[path]
        assert left.keys() <= kept.keys()
        assert not list(Path("cut").rglob("*.part"))
        # and once more, when it is done
        caplog.clear()
        assert blastogan(*command) == 0
        assert "has shown all 192 images of its schedule: nothing is left" in caplog.text
        assert files("cut") == kept
        # nothing is trained by another configuration, nor in another folder
        assert blastogan(*command, "--model.init_args.r1_gamma", 3) == 0
        assert files("cut") == kept
        away = "--ckpt_path", "cut/checkpoints/last.ckpt", "--run_dir", "away"
        assert blastogan("fit", "--config", "tiny.yaml", *away) == 2
        assert not list(Path("away").rglob("*.ckpt"))

    def test_the_newest_run_of_the_name_is_found(self, trained, caplog):
        Path("runs/tiny").rename("runs/tiny-10")
        for name in ("runs/tiny", "runs/tiny-9", "runs/tiny-x"):
            Path(name).mkdir()
            Path(name, "config.yaml").write_text("an older one\n")
        before = files("runs")
        assert blastogan(*RESUME) == 0
        assert "resuming from runs/tiny-10/checkpoints/last.ckpt, at 0.192 kimg" in caplog.text
        assert files("runs") == before

    def test_a_folder_is_enough_and_a_yaml_may_ask(self, trained, caplog):
        Path("more.yaml").write_text("resume: true\n")
        before = files("runs")
        folder = "--run_dir", "runs/tiny"
        for args in (["--resume"], ["--config", "tiny.yaml", "--config", "more.yaml"]):
            caplog.clear()
            assert blastogan("fit", *args, *folder) == 0
            assert "resuming from runs/tiny/checkpoints/last.ckpt" in caplog.text
        assert before.items() <= files("runs").items()
        # asking is no setting of the run, and one that has ended is not trained by another
        assert "resume" not in Path("runs/tiny/config.yaml").read_text()
        assert not Path("runs/tiny/config-2.yaml").exists()
        assert blastogan("validate", "--config", "tiny.yaml", "--config", "more.yaml") == 0

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ([*RESUME, "--ckpt_path", "runs/tiny/checkpoints/last.ckpt"], "leave out --ckpt_path"),
            ([*RESUME, "--run_dir", "papers"], "papers exists and is not empty"),
            (["fit", "--resume"], "no configuration given"),
            (["fit", "--resume", "--run_dir", "papers"], "no configuration given"),
            (["fit", "--resume=false", "--run_dir", "runs/tiny"], "no configuration given"),
            (["test", "--config", "tiny.yaml", "--resume"], "--resume works with fit"),
        ],
    )
    def test_wrong_use_changes_nothing(self, args, message, trained, capfd):
        Path("papers").mkdir()
        Path("papers/thesis.tex").write_text("no run")
        before = files(".")
        assert blastogan(*args) == 2
        assert message in capfd.readouterr().err
        assert files(".") == before

    def test_a_grader_resumes_too(self, here, caplog):
        grader = (
            "grade", "fit", "--data.num_phantoms=60", "--data.resolution=32",
            "--data.epoch_kimg=0.032", "--data.batch_size=16", "--trainer.accelerator=cpu",
            "--trainer.enable_model_summary=false", "--resume", "--trainer.max_epochs",
        )  # fmt: skip
        assert blastogan(*grader, 1) == 0
        assert blastogan(*grader, 2) == 0
        last = Path("runs/grader/checkpoints/last.ckpt")
        assert "resuming from runs/grader/checkpoints/last.ckpt, at 0.032 kimg" in caplog.text
        assert weights(last)["blastogan"]["images_shown"] == 64
        assert not Path("runs/grader-2").exists()
        damage(last, "halved")
        assert blastogan(*grader, 3) == 2


@pytest.mark.slow
def test_a_killed_command_resumes(here):
    long = TINY.replace("8: 0.064, 16", "8: 64, 16")
    Path("long.yaml").write_text(long)
    args = "fit", "--config", "long.yaml", "--resume"
    process = begin(*args, "--fidelity.metrics=[]")
    last = here / "runs/long/checkpoints/last.ckpt"
    end = time.monotonic() + 120
    while not last.exists() and time.monotonic() < end and process.is_alive():
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    shown = read_checkpoint(last)["blastogan"]["images_shown"]
    assert shown > 0
    code, output = run(*args, *kill_at(shown + 40), "--run_dir", "runs/long")
    assert code == -signal.SIGKILL
    assert f"resuming from runs/long/checkpoints/last.ckpt, at {shown / 1000:g} kimg" in output
    assert read_checkpoint(last)["blastogan"]["images_shown"] == shown + 32


def test_a_link_to_a_run_is_followed_and_one_to_elsewhere_is_not(here):
    Path("runs").mkdir()
    Path("elsewhere/checkpoints").mkdir(parents=True)
    Path("runs/demo-2").symlink_to("../elsewhere")
    Path("runs/demo").mkdir()
    for folder in ("runs/demo", "elsewhere"):
        Path(folder, ".lock").touch()
    assert newest_run("demo") == Path("runs/demo")
    torch.save({}, "elsewhere/checkpoints/last.ckpt")
    assert newest_run("demo") == Path("runs/demo-2")
    assert newest_run("dem") is None
