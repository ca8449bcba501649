"""Grow a ProGAN on phantoms from parts: schedule, data, module, callbacks and trainer.

Run it with `python examples/train_progan.py`. The results are in `runs/example`. To train on your
own images, give a folder of graded images as the first argument. If you change no part,
`blastogan.train("demo", root=root)` does the same in one line.
"""

from __future__ import annotations

import logging
import sys

import pytorch_lightning as pl

from blastogan import BlastocystDataModule, GrowthSchedule, ProGANModule, open_run
from blastogan.callbacks import default_callbacks
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
        8, 16, fade_kimg=hold_kimg / 2, hold_kimg=hold_kimg, tick_kimg=hold_kimg / 4
    )
    data = BlastocystDataModule(schedule, root=root, num_phantoms=num_phantoms)
    sizes = {"latent_dim": 64, "channel_base": 512, "channel_cap": 64}
    module = ProGANModule(resolution=16, start_resolution=8, r1_gamma=1.0, **sizes)
    trainer = pl.Trainer(
        max_epochs=schedule.total_ticks,  # one epoch is one tick
        default_root_dir=run_dir,
        logger=CSVLog(run_dir),
        num_sanity_val_steps=0,
        callbacks=default_callbacks(schedule, fidelity=None),  # no FID or KID
    )
    trainer.fit(module, data)
    print(open_run(run_dir).metrics)
    return module


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(*sys.argv[1:2])
