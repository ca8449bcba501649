"""Commands, scripts and cells in processes of their own, which have nothing to import."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import signal
import socket
import sys
import time
from pathlib import Path

import pytorch_lightning as pl
import torch

from blastogan.__main__ import main
from blastogan.metrics import extractors
from helpers.cheaper import make_runs_cheaper

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


def _write_to(output):
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)


def _command(args, output, largest_file, environment):
    _write_to(output)
    os.environ.update(environment)
    torch.set_num_threads(1)
    make_runs_cheaper(setattr)
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.exit(main(list(args)))


def _script(path, args, output):
    _write_to(output)
    torch.set_num_threads(1)
    sys.argv = [path, *args]
    runpy.run_path(path, run_name="__main__")


def _cells(sources, output):
    # of a notebook alone
    from IPython.core.interactiveshell import InteractiveShell

    _write_to(output)
    # features of a few hundred images take longer than all cells
    extractors.AUTOMATIC = ()
    torch.set_num_threads(1)
    os.environ["MPLBACKEND"] = "agg"
    shell = InteractiveShell.instance()
    for source in sources:
        shell.run_cell(source).raise_error()


def _run(target, *args):
    path = Path("output.txt")
    path.unlink(missing_ok=True)
    process = CONTEXT.Process(target=target, args=(*args, str(path.resolve())))
    process.start()
    process.join(300)
    return process.exitcode, path.read_text()


def run_script(path, *args):
    """Exit code and output of a script."""
    return _run(_script, str(path), tuple(map(str, args)))


def run_cells(sources):
    """Exit code, 0 if none failed, and output of the cells of a notebook, here."""
    return _run(_cells, tuple(sources))


def begin(*args, output="output.txt", largest_file=None, environment=()):
    """Begin a command, which writes to a file."""
    path = str(Path(output).resolve())
    arguments = tuple(map(str, args)), path, largest_file, dict(environment)
    process = CONTEXT.Process(target=_command, args=arguments)
    process.start()
    return process


def run(*args, **settings):
    """Exit code, minus the signal that killed it, and output of a command."""
    Path("output.txt").unlink(missing_ok=True)
    process = begin(*args, **settings)
    process.join(120)
    return process.exitcode, Path("output.txt").read_text()


def run_on_two(*args, folder=None, seconds=120):
    """Exit code of the first of two ranks, which must end alike, and what both wrote.

    Args:
        args: A command; ``--trainer.devices 2`` is added.
        folder: Run folder of a fit, of which the first rank tells those that it launches.
        seconds: Time until both are killed.
    """
    Path("output.txt").unlink(missing_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"WORLD_SIZE": "2", "NODE_RANK": "0"}
    ranks = []
    for rank in ("0", "1"):
        told = {"BLASTOGAN_RUN_FOLDER": str(folder)} if folder and rank == "1" else {}
        environment = {**common, **told, "LOCAL_RANK": rank}
        ranks.append(begin(*args, "--trainer.devices", 2, environment=environment))
    end = time.monotonic() + seconds
    # one that has failed leaves the other waiting
    while time.monotonic() < end and any(r.is_alive() for r in ranks):
        if any(r.exitcode not in (None, 0, 75, 130) for r in ranks):
            break
        ranks[0].join(0.1)
    for rank in ranks:
        rank.join(5)
        rank.kill()
        rank.join()
    said = Path("output.txt").read_text()
    assert ranks[0].exitcode == ranks[1].exitcode, said
    return ranks[0].exitcode, said
