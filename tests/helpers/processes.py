"""Commands in processes of their own, to be killed, or to be run out of disk."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from PIL import Image

from blastogan.__main__ import main
from blastogan.callbacks.fidelity import callback as fidelity
from blastogan.metrics import sets
from blastogan.metrics.similarity import pairwise_ms_ssim

# a fork of a process that has loaded all but has not trained: loading takes longer than a tiny run
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["helpers.processes", "blastogan.cli.gan"])


class KillAt(pl.Callback):
    """Kills its process in the batch that begins at so many images."""

    def __init__(self, images: int):
        self.images = images

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if module.images_shown == self.images:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_at(images):
    """Options for a run that is killed."""
    Path(f"kill-{images}.yaml").write_text(
        "trainer: {callbacks: [{class_path: helpers.processes.KillAt, "
        f"init_args: {{images: {images}}}}}]}}\n"
    )
    return "--config", f"kill-{images}.yaml"


def _command(args, output, largest_file):
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    torch.set_num_threads(1)
    # as in conftest.py
    sets.pairwise_ms_ssim = partial(pairwise_ms_ssim, pairs=32)
    fidelity.plot_curves = lambda *args: Image.new("L", (9, 9))
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.exit(main(list(args)))


def begin(*args, output="output.txt", largest_file=None):
    """Begin a command, which writes to a file."""
    arguments = tuple(map(str, args)), str(Path(output).resolve()), largest_file
    process = CONTEXT.Process(target=_command, args=arguments)
    process.start()
    return process


def run(*args, **settings):
    """Exit code, minus the signal that killed it, and output of a command."""
    Path("output.txt").unlink(missing_ok=True)
    process = begin(*args, **settings)
    process.join(120)
    return process.exitcode, Path("output.txt").read_text()
