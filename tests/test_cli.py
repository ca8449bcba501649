"""The command line as a user meets it."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from PIL import Image

from blastogan.__main__ import main
from blastogan.errors import UserError
from blastogan.grades import CLASSES
from blastogan.presets import find_config, preset_names

pytestmark = pytest.mark.slow

TINY = """
schedule: {start_resolution: 8, final_resolution: 16, fade_kimg: 0.064,
           hold_kimg: {8: 0.064, 16: 0.064}, batch_size: 8, tick_kimg: 0.032}
model:
  class_path: ProGANModule
  init_args: {latent_dim: 8, channel_base: 64, channel_cap: 8}
data: {num_phantoms: 60}
samples: {rows: 1}
trainer: {accelerator: cpu, enable_model_summary: false}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return tmp_path


def blastogan(*args):
    """Run the command in this process and give its exit code."""
    try:
        return main([str(arg) for arg in args])
    except SystemExit as error:
        return error.code


def start(*args, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "blastogan", *map(str, args)],
        **{"stdout": subprocess.PIPE, **settings},
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def weights(path):
    return torch.load(path, weights_only=True)


def same(first, second):
    """Whether two checkpoints hold the same weights, optimiser states and random states."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def assert_same_run(first, second):
    mine, theirs = weights(first), weights(second)
    for key in ("state_dict", "optimizer_states", "blastogan"):
        assert same(mine[key], theirs[key]), key
    assert same(mine["callbacks"]["RandomState"], theirs["callbacks"]["RandomState"])


def test_fit_test_resume_and_generate_from_a_preset_like_file(here, capfd):
    assert blastogan("fit", "--config", "tiny.yaml") == 0
    run = here / "runs/tiny"
    assert {path.name for path in run.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "samples",
    }
    rows = read_table(run / "metrics.csv")
    assert float(rows[-1]["kimg"]) == 0.192
    assert any(row["swd"] for row in rows)
    assert len(list((run / "samples").glob("kimg-*.png"))) == 6
    last = run / "checkpoints/last.ckpt"

    # a second run of the same command gets a folder of its own
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert blastogan("fit", "--config=tiny.yaml") == 0
    assert all(p.read_bytes() == content for p, content in before.items())
    assert_same_run(last, here / "runs/tiny-2/checkpoints/last.ckpt")

    # from the end of the first phase, with the configuration that lies in the run folder
    middle = run / "checkpoints/phase-00-hold-0008.ckpt"
    other = here / "other/checkpoints"
    other.mkdir(parents=True)
    shutil.copy(middle, other / "last.ckpt")
    shutil.copy(run / "config.yaml", here / "other/config.yaml")
    assert blastogan("fit", "--ckpt_path", other / "last.ckpt") == 0
    assert_same_run(last, other / "last.ckpt")

    capfd.readouterr()
    assert blastogan("test", "--ckpt_path", last) == 0
    assert "swd" in capfd.readouterr().out
    assert blastogan("validate", "--ckpt_path", last) == 0
    assert "ms_ssim" in capfd.readouterr().out

    assert blastogan("generate", last, "out", "--count", "20", "--seed", "3") == 0
    files = sorted(Path("out").rglob("*.png"))
    assert len(files) == 20
    assert {file.parent.name for file in files} == set(CLASSES)
    assert np.asarray(Image.open(files[0])).shape == (16, 16)
    table = read_table(Path("out/metadata.csv"))
    assert [row["filename"] for row in table] == [f"generated-{n:06d}.png" for n in range(20)]

    predicted = ["--run_dir", "predicted", "--data.predict_count", "20", "--data.predict_seed", "3"]
    assert blastogan("predict", "--ckpt_path", last, *predicted) == 0
    for file in files:
        other = Path("predicted") / file.relative_to("out")
        difference = np.asarray(Image.open(file)).astype(int) - np.asarray(Image.open(other))
        assert abs(difference).max() <= 1

    assert blastogan("generate", last, "out") == 2
    assert "out exists and is not empty" in capfd.readouterr().err


class StopAt(pl.Callback):
    """Presses Ctrl-C in the batch that begins at so many images."""

    def __init__(self, images: int):
        self.images = images

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.images_shown == self.images:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("images", "workers"),
    [(24, 0), (56, 2), (88, 0), (96, 2), (152, 0)],
    ids=["mid-hold", "phase end", "mid-fade", "tick in a fade", "second hold"],
)
def test_a_run_stopped_anywhere_and_resumed_is_bit_equal(images, workers, here):
    Path("stop.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: {__name__}.StopAt, "
        f"init_args: {{images: {images}}}}}]}}"
    )
    fit = ["fit", "--config", "tiny.yaml", "--data.num_workers", workers]
    assert blastogan(*fit, "--run_dir", "whole") == 0
    handler = signal.getsignal(signal.SIGINT)
    assert blastogan(*fit, "--config", "stop.yaml", "--run_dir", "cut") == 130
    signal.signal(signal.SIGINT, handler)
    cut = Path("cut/checkpoints/last.ckpt")
    assert weights(cut)["blastogan"]["images_shown"] == images + 8
    assert blastogan(*fit, "--ckpt_path", cut) == 0
    assert_same_run(cut, "whole/checkpoints/last.ckpt")
    cut, whole = (read_table(Path(name) / "metrics.csv") for name in ("cut", "whole"))
    assert [row["kimg"] for row in cut] == ["0.032", "0.064", "0.096", "0.128", "0.16", "0.192"]
    assert cut == whole
    sheets = [sorted(p.name for p in Path(name).glob("samples/*")) for name in ("cut", "whole")]
    assert sheets[0] == sheets[1]


def test_generated_sets_can_be_trained_on(here):
    assert blastogan("phantom", "set", "--count", "60", "--resolution", "16") == 0
    assert blastogan("fit", "--config", "tiny.yaml", "--data.root", "set") == 0
    sheet = here / "runs/tiny/samples/training-images.png"
    assert sheet.exists()


def test_phantom_draws_what_it_says(here):
    assert blastogan("phantom", "a", "--count", "30", "--resolution", "32", "--seed", "5") == 0
    assert blastogan("phantom", "b", "--count", "10", "--resolution", "32", "--seed", "5") == 0
    for file in Path("b").rglob("*.png"):
        assert file.read_bytes() == (Path("a") / file.relative_to("b")).read_bytes()
    assert len(read_table(Path("a/metadata.csv"))) == 30


WRONG = {
    "preset": (["fit", "--config", "dem"], "did you mean demo"),
    "preset with =": (["fit", "--config=paper-progam"], "did you mean paper-progan"),
    "config path": (["fit", "--config", "absent.yaml"], "no configuration at absent.yaml"),
    "no config": (["fit"], "no configuration given"),
    "max_epochs": (["fit", "--config", "tiny.yaml", "--trainer.max_epochs", "3"], "schedule"),
    "part": (["fit", "--config", "tiny.yaml", "--trainer.limit_train_batches", "3"], "schedule"),
    "clipping": (["fit", "--config", "tiny.yaml", "--trainer.gradient_clip_val", "1"], "manual"),
    "bad data, wandb": (
        ["fit", "--config", "tiny.yaml", "--wandb", "offline", "--data.root", "absent"], "absent"),
    "junk checkpoint": (["generate", "junk.ckpt", "x"], "cannot read"),
    "resolution": (["fit", "--config", "tiny.yaml", "--schedule.final_resolution", "24"], "power"),
    "stddev": (["fit", "--config", "tiny.yaml", "--schedule.batch_size", "6"], "multiple of the"),
    "seed": (["fit", "--config", "tiny.yaml", "--seed_everything", "-1"], "seed_everything is -1"),
    "no folder": (["fit", "--config", "tiny.yaml", "--data.root", "absent"], "absent"),
    "empty folder": (["fit", "--config", "tiny.yaml", "--data.root", "empty"], "empty"),
    "broken image": (["fit", "--config", "tiny.yaml", "--data.root", "broken"], "broken"),
    "unknown grade": (["fit", "--config", "tiny.yaml", "--data.root", "graded"], "line 2"),
    "no checkpoint": (["fit", "--config", "tiny.yaml", "--ckpt_path", "no.ckpt"], "no checkpoint"),
    "no zip": (["test", "--config", "tiny.yaml", "--ckpt_path", "text.ckpt"], "cannot read"),
    "wandb": (["fit", "--config", "tiny.yaml", "--wandb", "sometimes"], "wandb"),
    "command": (["train"], "no command 'train'"),
    "count": (["generate", "text.ckpt", "x", "--grades", "ZZ:3"], "cannot read"),
    "phantom size": (["phantom", "p", "--resolution", "8"], "16 to 512"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_gets_one_clear_message_and_leaves_nothing_behind(case, here, capfd):
    Path("empty").mkdir()
    Path("broken/AA").mkdir(parents=True)
    Path("broken/AA/a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    for n in range(30):
        Image.new("L", (16, 16), n).save(f"broken/AA/{n}.png")
    Path("graded").mkdir()
    Image.new("L", (16, 16)).save("graded/a.png")
    Path("graded/metadata.csv").write_text("filename,grade\na.png,ZZ\n")
    Path("text.ckpt").write_text("no checkpoint")
    Path("junk.ckpt").write_bytes(b"GIF89a")
    args, message = WRONG[case]
    before = sorted(here.rglob("*"))
    assert blastogan(*args) == 2
    output = capfd.readouterr()
    assert message in output.err + output.out
    assert "Traceback" not in output.err + output.out
    assert sorted(here.rglob("*")) == before


def test_checkpoints_that_do_not_fit_are_refused_before_anything_happens(here, capfd):
    blastogan("fit", "--config", "tiny.yaml")
    last = here / "runs/tiny/checkpoints/last.ckpt"
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    for args, message in (
        (["--model.class_path", "StyleGANModule"], "holds a ProGANModule, not a StyleGANModule"),
        (["--schedule.hold_kimg", "0.128"], "another schedule: hold_kimg is {8: 0.064"),
        (["--model.init_args.channel_cap", "4"], "channel_cap is 8 in the checkpoint and 4"),
    ):
        args = ["fit", "--config", "tiny.yaml", *args, "--ckpt_path", last]
        assert blastogan(*args) == 2
        assert message in capfd.readouterr().err
    assert blastogan("fit", "--config", "tiny.yaml", "--run_dir", "runs/tiny") == 2
    assert "add --ckpt_path runs/tiny/checkpoints/last.ckpt" in capfd.readouterr().err
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds(name, here, capfd):
    assert blastogan("fit", "--config", name, "--print_config") == 0
    config = yaml.safe_load(capfd.readouterr().out)
    from blastogan.growth import GrowthSchedule

    def integers(value):
        return {int(k): v for k, v in value.items()} if isinstance(value, dict) else value

    schedule = GrowthSchedule(**{k: integers(v) for k, v in config["schedule"].items()})
    assert schedule.final_resolution in (32, 256)
    assert all(phase.batch_size % 4 == 0 for phase in schedule.phases)
    assert schedule.rounding == ()


@pytest.mark.parametrize("name", ["progan", "stylegan"])
def test_every_architecture_runs_from_its_preset_in_small(name, here):
    small = [
        "--schedule={start_resolution: 8, final_resolution: 16, fade_kimg: 0.064, hold_kimg: "
        "0.064, batch_size: 8, tick_kimg: 0.064}",
        "--model.init_args.channel_base=64",
        "--model.init_args.channel_cap=8",
        "--data.num_phantoms=60",
        "--data.num_workers=0",
        "--trainer.accelerator=cpu",
    ]
    for preset in (name, f"paper-{name}"):
        assert blastogan("fit", "--config", preset, *small) == 0
        last = here / f"runs/{preset}/checkpoints/last.ckpt"
        assert weights(last)["blastogan"]["images_shown"] == 192


def test_the_study_is_in_its_presets_to_the_letter():
    for name, start in (("paper-progan", 16), ("paper-stylegan", 8)):
        config = yaml.safe_load(find_config(name).read_text())
        schedule = config["schedule"]
        assert (schedule["start_resolution"], schedule["final_resolution"]) == (start, 256)
        sizes = {8: 64, 16: 32, 32: 32, 64: 16, 128: 8, 256: 4}
        assert schedule["batch_size"] == {r: b for r, b in sizes.items() if r >= start}
        model = config["model"]["init_args"]
        assert (model["loss"], model["regularizer"]) == ("wgan", "r1")
        assert config["data"]["augment"] == "none"
        for key in ("generator_optimizer", "discriminator_optimizer"):
            expected = {"lr": 0.001, "betas": [0.0, 0.99], "eps": 1e-8}
            assert config[key] == {"class_path": "torch.optim.Adam", "init_args": expected}
    with pytest.raises(UserError, match="Presets are demo, paper-progan"):
        find_config("xyzzy")


def test_the_progress_bar_can_be_switched_off(here, caplog):
    assert blastogan("fit", "--config", "tiny.yaml", "--trainer.enable_progress_bar=false") == 0
    assert "img/s" not in caplog.text


def test_help_and_version(capfd):
    assert blastogan("--help") == 0
    assert "presets for --config: demo, paper-progan" in capfd.readouterr().out
    assert blastogan() == 2
    assert blastogan("--version") == 0


LONG = "--schedule.hold_kimg=64"


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ctrl_c_leaves_a_checkpoint_says_how_to_go_on_and_exits_with_130(here):
    process = start("fit", "--config", "tiny.yaml", LONG)
    last = here / "runs/tiny/checkpoints/last.ckpt"
    wait_for(last.exists, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "to go on, add --ckpt_path runs/tiny/checkpoints/last.ckpt" in output
    assert "Traceback" not in output
    assert weights(last)["blastogan"]["images_shown"] > 0


class StopInValidation(pl.Callback):
    """Presses Ctrl-C in the first batch of a validation."""

    def on_validation_batch_start(self, trainer, module, *args):
        if trainer.state.fn == "fit":
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_during_validation_keeps_its_metrics_and_the_checkpoint(here):
    Path("stop.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: {__name__}.StopInValidation}}]}}"
    )
    assert blastogan("fit", "--config", "tiny.yaml", "--config", "stop.yaml") == 130
    run = here / "runs/stop"
    assert weights(run / "checkpoints/last.ckpt")["blastogan"]["images_shown"] == 32
    assert [row["kimg"] for row in read_table(run / "metrics.csv") if row["swd"]] == ["0.032"]


def test_ctrl_c_twice_stops_at_once_and_keeps_the_last_checkpoint(here):
    # a validation of many images, so that there is something to cut short
    slow = ["--data.num_phantoms=3000", "--data.val_fraction=0.6"]
    with Path("log.txt").open("w+") as log:
        process = start("fit", "--config", "tiny.yaml", LONG, *slow, stdout=log)
        wait_for(lambda: Path("runs/tiny/config.yaml").exists(), process)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "interrupted:" in Path("log.txt").read_text(), process)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
    output = Path("log.txt").read_text()
    assert process.returncode == 130, output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data.num_phantoms", "61"], "trained on other data: images is 60"),
        (["--seed_everything", "1"], "seed is 0 in the checkpoint and 1 here"),
    ],
)
def test_a_run_goes_on_with_its_own_data_only(args, message, here, capfd):
    assert blastogan("fit", "--config", "tiny.yaml") == 0
    last = here / "runs/tiny/checkpoints/last.ckpt"
    before = sorted(here.rglob("*"))
    assert blastogan("fit", "--config", "tiny.yaml", *args, "--ckpt_path", last) == 2
    assert message in capfd.readouterr().err
    assert sorted(here.rglob("*")) == before


def test_a_run_can_go_on_with_another_learning_rate(here):
    shorter = ["--config", "tiny.yaml", "--config", "stop.yaml"]
    Path("stop.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: {__name__}.StopAt, init_args: {{images: 88}}}}]}}"
    )
    assert blastogan("fit", *shorter) == 130
    last = here / "runs/stop/checkpoints/last.ckpt"
    rate = ["--generator_optimizer.init_args.lr", "0.0005"]
    assert blastogan("fit", "--config", "tiny.yaml", *rate, "--ckpt_path", last) == 0
    generator, discriminator = weights(last)["optimizer_states"]
    assert generator["param_groups"][0]["lr"] == 0.0005
    assert discriminator["param_groups"][0]["lr"] == 0.001
    assert "0.0005" in (here / "runs/stop/config-2.yaml").read_text()
    # from now on, that is the configuration of the run
    assert blastogan("fit", "--ckpt_path", last) == 0
    assert weights(last)["optimizer_states"][0]["param_groups"][0]["lr"] == 0.0005


def test_untrained_networks_do_not_predict_and_say_what_they_are(here, capfd):
    assert blastogan("predict", "--config", "tiny.yaml") == 2
    assert "predict needs a model" in capfd.readouterr().err
    assert blastogan("validate", "--config", "tiny.yaml") == 0
