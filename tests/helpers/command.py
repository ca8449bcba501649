"""The command line, for tests: a tiny configuration, and how to run and to stop it."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from blastogan.__main__ import main

TINY = """
schedule: {start_resolution: 8, final_resolution: 16, fade_kimg: 0.064,
           hold_kimg: {8: 0.064, 16: 0.064}, batch_size: 8, tick_kimg: 0.032}
model:
  class_path: ProGANModule
  init_args: {latent_dim: 8, channel_base: 64, channel_cap: 8}
data: {num_phantoms: 60, phantom_counts: balanced}
samples: {rows: 1}
fidelity: {extractor: none, metrics: [swd], num_fakes: 16}
trainer: {accelerator: cpu, enable_model_summary: false}
"""

# one phase in one tick, for runs of which only the outside matters
SHORT = (
    "--schedule={start_resolution: 16, final_resolution: 16, hold_kimg: 0.032, batch_size: 8, "
    "tick_kimg: 0.032}"
)


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
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            # for callbacks of these tests
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            ),
        },
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


class StopAt(pl.Callback):
    """Sends a signal, that of Ctrl-C, in the batch that begins at so many images."""

    def __init__(self, images: int, number: int = int(signal.SIGINT)):
        self.images, self.number = images, number

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.images_shown == self.images:
            os.kill(os.getpid(), self.number)


class StopTwiceAt(StopAt):
    """Presses Ctrl-C, and again before that batch has ended."""

    def on_train_batch_start(self, *args):
        super().on_train_batch_start(*args)
        super().on_train_batch_start(*args)


class StopInValidation(pl.Callback):
    """Sends a signal in the first batch of a validation."""

    def __init__(self, number: int = int(signal.SIGINT)):
        self.number = number

    def on_validation_batch_start(self, trainer, module, *args):
        if trainer.state.fn == "fit":
            os.kill(os.getpid(), self.number)


class StopInSetup(pl.Callback):
    """Sends a signal before anything is trained."""

    def setup(self, trainer, module, stage):
        os.kill(os.getpid(), signal.SIGTERM)


class StopInSaving(pl.Callback):
    """Sends a signal while a checkpoint is gathered, after so many images."""

    def __init__(self, images: int):
        self.images = images

    def on_save_checkpoint(self, trainer, module, checkpoint):
        if module.images_shown == self.images:
            self.images = 0
            os.kill(os.getpid(), signal.SIGTERM)


class KillWorkerAt(StopAt):
    """Kills a process that loads images."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.images_shown == self.images:
            for process in multiprocessing.active_children():
                process.kill()
                process.join()


class Order(pl.Callback):
    """Writes which images each batch held, by images shown and rank."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        path = Path(trainer.default_root_dir) / f"order-{trainer.global_rank}.csv"
        index = " ".join(map(str, batch["index"].tolist()))
        with path.open("a") as file:
            file.write(f"{module.images_shown},{trainer.global_rank},{index}\n")


class OtherSeed(pl.Callback):
    """Gives each rank other weights before the strategy is set up; writes those it begins with."""

    def setup(self, trainer, module, stage):
        torch.manual_seed(trainer.global_rank)
        for weight in module.parameters():
            torch.nn.init.normal_(weight)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        path = Path(trainer.default_root_dir) / f"rank-{trainer.global_rank}.pt"
        if module.images_shown == 0:
            torch.save(module.state_dict(), path)


class NaNAt(pl.Callback):
    """Spoils a weight in the batch that begins at so many images, the first times in a run."""

    def __init__(self, images: int, times: int):
        self.images, self.times = images, times

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        marks = Path(trainer.default_root_dir) / "spoilt"
        spoilt = marks.stat().st_size if marks.exists() else 0
        if module.images_shown == self.images and spoilt < self.times:
            with marks.open("a") as file:
                file.write("x")
            with torch.no_grad():
                next(module.discriminator.parameters()).fill_(float("nan"))
