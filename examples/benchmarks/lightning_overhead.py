"""Overhead of loader, logging, callbacks and Lightning on a training step.

    python examples/benchmarks/lightning_overhead.py [--resolution 32] [--batch 32] [--steps 64]
        [--channel-base 2048 --channel-cap 128] [--peer gan-zoo=CHECKOUT]

Runs a fit on phantoms with the callbacks and the log of the command line. After each of its steps,
the bare step of an equal module runs on a fixed batch. Prints the mean time of both and the
difference; with --peer, also that of the step of public code, which runs after the two.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import ARCHITECTURES, own_step, peer_step, peers_of, prepare, synchronize
from peers import Setting
from pytorch_lightning import Callback, Trainer

from blastogan import BlastocystDataModule, FadeIn, GrowthSchedule, ProgressiveGrowing
from blastogan.callbacks import (
    DivergenceWatch,
    GracefulInterrupt,
    GrowthCheckpoint,
    GrowthProgress,
    RandomState,
    TrainingLog,
)
from blastogan.modules import BaseGANModule
from blastogan.runs.loggers import CSVLog

WARM_UP = 2


class Turns(Callback):
    """Time the fit from the end of a step to the end of the next, without the bare steps."""

    def __init__(self, bare: Sequence[Callable[[], object]]) -> None:
        self.bare = bare
        self.fit: list[float] = []
        self.others: list[list[float]] = [[] for _ in bare]
        self._since = 0.0

    def on_train_start(self, *_: Any) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        synchronize()
        self.fit.append(time.perf_counter() - self._since)
        for step, times in zip(self.bare, self.others, strict=True):
            began = time.perf_counter()
            step()
            synchronize()
            times.append(time.perf_counter() - began)
        self._since = time.perf_counter()


def mean(times: Sequence[float]) -> float:
    counted = times[WARM_UP:]
    return sum(counted) / len(counted)


def run_fit(options: argparse.Namespace, module: BaseGANModule, turns: Turns, folder: Path) -> None:
    images = options.batch * (options.steps + WARM_UP)
    schedule = GrowthSchedule(
        options.resolution,
        options.resolution,
        hold_kimg=images / 1000,
        batch_size=options.batch,
        tick_kimg=images / 1000,
    )
    trainer = Trainer(
        accelerator=torch.device(options.device).type,
        devices=1,
        max_epochs=schedule.total_ticks,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        default_root_dir=folder,
        logger=CSVLog(folder),
        callbacks=[
            ProgressiveGrowing(schedule),
            FadeIn(schedule),
            GrowthCheckpoint(schedule),
            DivergenceWatch(schedule),
            GracefulInterrupt(schedule),
            TrainingLog(schedule),
            GrowthProgress(schedule),
            RandomState(),
            turns,
        ],
    )
    data = BlastocystDataModule(schedule, num_phantoms=options.phantoms, phantom_counts="balanced")
    trainer.fit(module, data)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="progan")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--phantoms", type=int, default=500)
    parser.add_argument("--channel-base", type=int, default=2048)
    parser.add_argument("--channel-cap", type=int, default=128)
    parser.add_argument("--latent-dim", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=CHECKOUT")
    options = parser.parse_args()
    prepare(options.threads)
    setting = Setting(
        resolution=options.resolution,
        batch=options.batch,
        channel_base=options.channel_base,
        channel_cap=options.channel_cap,
        latent_dim=options.latent_dim,
        device=torch.device(options.device),
        img_channels=1,
    )
    own, module = own_step(options.architecture, "32-true", setting)
    contestants = [own]
    contestants += [peer_step(name, path, setting) for name, path in peers_of(options).items()]
    turns = Turns([each.step for each in contestants])
    with tempfile.TemporaryDirectory() as folder:
        # a new module: the other one is set up for bare steps
        run_fit(options, type(module)(**module.hparams), turns, Path(folder))
    fit, bare = mean(turns.fit), mean(turns.others[0])
    print(f"fit       {1000 * fit:9.2f} ms/step")
    for each, times in zip(contestants, turns.others, strict=True):
        print(f"{each.name:16s} {1000 * mean(times):9.2f} ms/step")
    print(f"the fit takes {fit / bare - 1:+.1%} more than its bare step ({options.steps} steps)")


if __name__ == "__main__":
    main()
