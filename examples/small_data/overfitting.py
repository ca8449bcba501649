"""What adaptive augmentation is worth with 300 embryos.

    python examples/small_data/overfitting.py [--seeds 3] [--kimg 160] [--folder runs/small-data]

Trains ProGANs without labels on 300 phantoms, with and without augmentation that adapts, from the
same seeds. Draws how far D overfits (r_v: 0 where it scores held-out images as those it is trained
on, 1 where it scores them as samples) and how far samples are from held-out images (SWD) against
images shown, into ``overfitting.png``. Prints KID, FID and SWD of 2,000 samples of the last state
to 2,000 phantoms that no network has seen, by the features of a grader that was trained on 20,000
others, with means and deviations over the seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from runs import (
    Run,
    column,
    fidelity,
    grader_of,
    load,
    parser,
    save,
    settings,
    show_fidelity,
    summary,
    train_in_turn,
)

SIDES = {"none": "none", "adaptive": "grade-preserving"}
COLOURS = {"none": "tab:red", "adaptive": "tab:blue"}


def runs_of(options: argparse.Namespace, seeds: range) -> dict[str, list[Run]]:
    """Both sides, a run for each seed."""
    common = {
        **settings(options),
        "data.num_phantoms": 500,
        "data.phantom_counts": "balanced",
        # 300 embryos, an image each; 150 held out to watch D
        "data.val_fraction": 0.3,
        "data.test_fraction": 0.1,
        "model.init_args.conditional": False,
        "model.init_args.augment_kimg": 50,
    }
    return {
        side: [
            Run(
                f"overfitting-{side}-{seed}",
                {**common, "model.init_args.augment": augment, "seed_everything": seed},
            )
            for seed in seeds
        ]
        for side, augment in SIDES.items()
    }


def draw(folder: Path, runs: Mapping[str, Sequence[Run]], path: Path) -> None:
    """The curves of all runs."""
    titles = {
        "overfitting": "r_v of D (0: none, 1: all)",
        "swd": "SWD x 1000 to 150 held-out phantoms",
        "augment_p": "probability p",
    }
    figure = Figure(figsize=(12, 3.4), dpi=110, layout="constrained")
    figure.suptitle(
        "ProGAN on 300 phantoms: with and without augmentation that adapts", fontsize=10
    )
    panels = figure.subplots(1, len(titles))
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        for side, some in runs.items():
            for n, run in enumerate(some):
                points = column(folder, run, name)
                label = f"{side} ({len(some)} seeds)" if n == 0 else None
                if points:
                    axes.plot(*zip(*points, strict=True), color=COLOURS[side], lw=1, label=label)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("thousands of images shown", fontsize=8)
        axes.set_ylim(bottom=0 if name != "overfitting" else None)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, measure, print."""
    found = parser(__doc__ or "", kimg=160)
    found.add_argument("--seeds", type=int, default=3)
    options = found.parse_args(arguments)
    runs = runs_of(options, range(options.seeds))
    grader = grader_of(options)
    train_in_turn(runs, options.folder, options.jobs)
    rows = {
        side: [fidelity(load(options.folder, run), grader, "balanced") for run in some]
        for side, some in runs.items()
    }
    show_fidelity(rows)
    for name in ("kid", "swd"):
        sums = {side: sum(row[name] for row in some) for side, some in rows.items()}
        better = 1 - sums["adaptive"] / sums["none"]
        sys.stdout.write(f"{name:>8} with adaptive augmentation: {better:+.0%} less\n")
    for side, some in runs.items():
        last = [column(options.folder, run, "overfitting")[-5:] for run in some]
        values = [sum(value for _, value in points) / len(points) for points in last]
        sys.stdout.write(f"     r_v, last 5 looks  {side} {summary(values)}\n")
    draw(options.folder, runs, options.folder / "overfitting.png")
    save(rows, options.folder / "overfitting.json")
    return rows


if __name__ == "__main__":
    main()
