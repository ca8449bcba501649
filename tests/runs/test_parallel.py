"""Runs on two processes: the numbers of one, one folder, one voice."""

from __future__ import annotations

import csv
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers.command import assert_same_run, blastogan, read_table, same, start, weights
from helpers.processes import run_on_two
from PIL import Image, ImageChops

pytestmark = pytest.mark.slow(seconds=8)

# 24 steps: hold 8, from step 8 on fade 16, from step 16 on hold 16
TWO = """
schedule: {start_resolution: 8, final_resolution: 16, fade_kimg: 0.064, hold_kimg: 0.064,
           batch_size: 8, tick_kimg: 0.032}
model:
  class_path: ProGANModule
  init_args: {latent_dim: 8, channel_base: 64, channel_cap: 8}
data: {num_phantoms: 60}
samples: {rows: 2}
watch: {num_images: 16}
training_log: {every_kimg: 0.032}
fidelity: {extractor: none, metrics: [swd], num_fakes: 16}
trainer: {accelerator: cpu, enable_model_summary: false, check_val_every_n_epoch: 3,
          callbacks: [{class_path: helpers.command.Order}]}
"""
STYLEGAN = ("--model.class_path=StyleGANModule", "--model.init_args.w_dim=8")
STYLEGAN += ("--model.init_args.fake_labels=balanced",)
PROGAN = tuple(
    f"--model.init_args.{option}"
    for option in ("augment=bgc", "augment_p=0.5", "ramp_kimg=[0.03,0.15]")
)
"""What is for small data."""

STEPS, TICK = 24, 32


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with finished runs, on two processes, on one in two passes, and on one in one."""
    home = tmp_path_factory.mktemp("parallel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        Path("two.yaml").write_text(TWO)
        for name, model in (("progan", PROGAN), ("stylegan", STYLEGAN)):
            said = on_two_processes(f"{name}-two", *model)
            Path(f"{name}.log").write_text(said)
            passes = ("--model.init_args.micro_batch", 4)
            assert on_one_process(f"{name}-passes", *model, *passes) == 0
            assert on_one_process(f"{name}-one", *model) == 0
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def on_one_process(folder, *args):
    return blastogan("fit", "--config", "two.yaml", "--run_dir", folder, *args)


def on_two_processes(folder, *args, code=0, config=("--config", "two.yaml")):
    """Run a fit on two ranks and give what they said."""
    found, said = run_on_two("fit", *config, "--run_dir", folder, *args, folder=folder)
    assert found == code, said
    assert "Traceback" not in said
    return said


def last(folder):
    return Path(folder, "checkpoints/last.ckpt")


def assert_same_training(first, second):
    mine, theirs = weights(last(first)), weights(last(second))
    for key in ("state_dict", "optimizer_states", "blastogan"):
        assert same(mine[key], theirs[key]), key


def difference(first, second):
    """Norm of the difference of two networks' weights and buffers, as a share of their norm."""
    mine, theirs = weights(last(first))["state_dict"], weights(last(second))["state_dict"]
    apart = sum((mine[name].double() - theirs[name]).square().sum() for name in mine)
    whole = sum(value.double().square().sum() for value in mine.values())
    return float((apart / whole).sqrt())


BOTH = pytest.mark.parametrize("name", ["progan", "stylegan"])


@BOTH
def test_two_processes_train_what_one_does(name):
    # the same sums in the same order
    assert_same_training(f"{name}-two", f"{name}-passes")
    # in another order: rounding, which training makes grow
    assert weights(last(f"{name}-one"))["blastogan"]["images_shown"] == STEPS * 8
    assert 0 < difference(f"{name}-one", f"{name}-two") < 5e-3
    if name == "progan":
        # which follows the signs of all images, and p follows it
        assert float(weights(last("progan-two"))["state_dict"]["augmentation.sign_real"]) != 0


@BOTH
def test_two_processes_speak_with_one_voice_into_one_folder(name):
    said = Path(f"{name}.log").read_text()
    assert "2 device(s), GrowingDDPStrategy; images of a pass on each: 4 of a batch of 8" in said
    for once in ("schedule:", "2 device(s)", "run folder:", "hold 8x8  alpha", "to generate"):
        assert said.count(once) == (2 if once.startswith("hold") else 1), once
    own = {f"order-{rank}.csv" for rank in (0, 1)}
    files = [
        {str(p.relative_to(run)) for p in Path(run).rglob("*")} - own
        for run in (f"{name}-two", f"{name}-one")
    ]
    assert files[0] == files[1]


@BOTH
def test_what_is_logged_and_shown_is_that_of_all_ranks(name):
    mine, theirs = (read_table(Path(f"{name}-{run}", "metrics.csv")) for run in ("two", "passes"))
    columns = set(mine[0]) - {"images_per_second"}
    assert {"loss_d", "loss_g", "grad_norm_d", "swd", "diversity", "ms_ssim"} <= columns
    for row, other in zip(mine, theirs, strict=True):
        for column in columns:
            if row[column] or other[column]:
                # in batches of other sizes, some processors round a pixel of a sample otherwise
                rel = 1e-3 if column.startswith("swd") else 1e-5
                assert float(row[column]) == pytest.approx(float(other[column]), rel=rel), column
    for path in Path(f"{name}-passes/samples").iterdir():
        with (
            Image.open(path) as first,
            Image.open(Path(f"{name}-two/samples", path.name)) as second,
        ):
            difference = ImageChops.difference(first, second)
        assert max(high for _, high in difference.getextrema()) <= 1


def order_of(folder):
    """Images shown and all images of the batch, by rank."""
    seen = {}
    for path in sorted(Path(folder).glob("order-*.csv")):
        with path.open(newline="") as file:
            for shown, _, index in csv.reader(file):
                seen.setdefault(int(shown), []).append(index)
    return {shown: " ".join(parts) for shown, parts in seen.items()}


def test_a_run_is_resumed_on_as_many_devices_or_on_others():
    Path("stop.yaml").write_text(
        "trainer: {callbacks+: [{class_path: helpers.command.StopAt, init_args: {images: 88}}]}"
    )
    scaled = (*PROGAN, "--scale_batch", "true", "--schedule.batch_size", 4)
    said = on_two_processes("cut", *scaled, "--config", "stop.yaml", code=130)
    assert "batch sizes, scaled to 2 devices: 8" in said
    assert weights(last("cut"))["blastogan"]["images_shown"] == 96
    shutil.copytree("cut", "fewer")
    # the configuration of the run has the product
    on_two_processes("cut", "--resume", config=())
    assert_same_run(last("cut"), last("progan-two"))
    fewer = ("--trainer.devices", 1, "--model.init_args.micro_batch", 4)
    assert blastogan("fit", "--run_dir", "fewer", "--resume", *fewer) == 0
    assert_same_training("fewer", "progan-passes")
    assert order_of("fewer") == order_of("cut") == order_of("progan-one")


def test_a_signal_to_one_process_stops_both_after_the_same_batch():
    Path("seeds.yaml").write_text("trainer: {callbacks: [{class_path: helpers.command.OtherSeed}]}")
    args = ("--config", "two.yaml", "--config", "seeds.yaml", "--schedule.hold_kimg", 64)
    # the first one launches the other and tells it their folder
    process = start("fit", *args, "--trainer.devices", 2)
    wait_for(last("runs/seeds"), process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert said.count("the same command with --resume continues") == 1
    assert "Traceback" not in said
    assert weights(last("runs/seeds"))["blastogan"]["images_shown"] >= TICK
    # they began with other weights each: those of the first were taken
    states = [torch.load(f"runs/seeds/rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert same(*states)


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--trainer.accumulate_grad_batches", 2], "use --model.init_args.micro_batch"),
        (["--trainer.gradient_clip_val", 1.0], "use --model.init_args.generator_clip"),
    ],
)
def test_options_that_are_not_for_two_networks_are_refused(args, message, capfd):
    assert on_one_process("refused", *args) == 2
    assert message in capfd.readouterr().err
    assert not Path("refused").exists()
