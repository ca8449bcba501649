"""The command line, for tests: a tiny configuration, and how to run and to stop it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys

import pytorch_lightning as pl
import torch

from blastogan.__main__ import main

TINY = """
schedule: {start_resolution: 8, final_resolution: 16, fade_kimg: 0.064,
           hold_kimg: {8: 0.064, 16: 0.064}, batch_size: 8, tick_kimg: 0.032}
model:
  class_path: ProGANModule
  init_args: {latent_dim: 8, channel_base: 64, channel_cap: 8}
data: {num_phantoms: 60}
samples: {rows: 1}
fidelity: {extractor: none, metrics: [swd], num_fakes: 16}
trainer: {accelerator: cpu, enable_model_summary: false}
"""


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


class StopAt(pl.Callback):
    """Presses Ctrl-C in the batch that begins at so many images."""

    def __init__(self, images: int):
        self.images = images

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.images_shown == self.images:
            os.kill(os.getpid(), signal.SIGINT)


class StopTwiceAt(StopAt):
    """Presses Ctrl-C, and again before that batch has ended."""

    def on_train_batch_start(self, *args):
        super().on_train_batch_start(*args)
        super().on_train_batch_start(*args)


class StopInValidation(pl.Callback):
    """Presses Ctrl-C in the first batch of a validation."""

    def on_validation_batch_start(self, trainer, module, *args):
        if trainer.state.fn == "fit":
            os.kill(os.getpid(), signal.SIGINT)
