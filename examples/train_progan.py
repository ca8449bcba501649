"""Grow a ProGAN on phantoms in Python: data, module, callbacks and trainer.

Run it with `python examples/train_progan.py`. The results are in `runs/example`. To train on your
own images, give a folder of graded images as the first argument.
"""

from __future__ import annotations

import logging
import sys

import pytorch_lightning as pl

from blastogan import (
    BlastocystDataModule,
    FadeIn,
    GrowthSchedule,
    ProGANModule,
    ProgressiveGrowing,
    SampleGrid,
)
from blastogan.callbacks import (
    DivergenceWatch,
    GrowthCheckpoint,
    GrowthProgress,
    RandomState,
    TrainingLog,
)
from blastogan.runs.loggers import CSVLog


def main(
    root: str | None = None,
    run_dir: str = "runs/example",
    hold_kimg: float = 4.0,
    num_phantoms: int = 1000,
) -> ProGANModule:
    """Train for a few minutes on two processor cores, and return the module."""
    pl.seed_everything(0)
    schedule = GrowthSchedule(
        start_resolution=8,
        final_resolution=16,
        fade_kimg=hold_kimg / 2,
        hold_kimg=hold_kimg,
        batch_size=16,
        tick_kimg=hold_kimg / 4,
    )
    data = BlastocystDataModule(schedule, root=root, num_phantoms=num_phantoms)
    module = ProGANModule(
        resolution=schedule.final_resolution,
        start_resolution=schedule.start_resolution,
        latent_dim=64,
        channel_base=512,
        channel_cap=64,
        r1_gamma=1.0,
    )
    trainer = pl.Trainer(
        max_epochs=schedule.total_ticks,  # one epoch is one tick
        default_root_dir=run_dir,
        logger=CSVLog(run_dir),
        num_sanity_val_steps=0,
        callbacks=[
            ProgressiveGrowing(schedule),
            FadeIn(schedule),
            SampleGrid(),
            GrowthCheckpoint(schedule),
            RandomState(),
            DivergenceWatch(schedule),
            TrainingLog(schedule),
            GrowthProgress(schedule),
        ],
    )
    trainer.fit(module, data)
    metrics = {name: round(float(value), 3) for name, value in trainer.callback_metrics.items()}
    print(f"metrics of the held-out images: {metrics}")
    print(f"samples are in {run_dir}/samples")
    return module


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(*sys.argv[1:2])
