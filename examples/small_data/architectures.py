"""ProGAN against StyleGAN: the same images, widths, optimisers and augmentation, over seeds.

    python examples/small_data/architectures.py [--seeds 3] [--kimg 100] [--folder runs/small-data]

Both are trained with grades on 3,000 phantoms whose classes are as rare as in public data. Prints
KID, FID and SWD of 2,000 samples to 2,000 phantoms that no network has seen, by the features of a
grader that was trained on 20,000 others, with means and deviations over the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from runs import (
    Run,
    fidelity,
    grader_of,
    load,
    parser,
    save,
    settings,
    show_fidelity,
    train_in_turn,
)

OWN: dict[str, dict[str, Any]] = {
    "ProGANModule": {},
    "StyleGANModule": {"model.init_args.w_dim": 64, "model.init_args.mapping_layers": 8},
}


def runs_of(options: argparse.Namespace, seeds: range) -> dict[str, list[Run]]:
    """Both architectures, a run for each seed."""
    common = {
        **settings(options),
        "data.num_phantoms": 3750,
        "data.phantom_counts": "study",
        "model.init_args.augment": "grade-preserving",
        "model.init_args.augment_kimg": 100,
        "model.init_args.ramp_kimg": [0.2 * options.kimg, 0.5 * options.kimg],
    }
    return {
        name: [
            Run(
                f"architectures-{name}-{seed}",
                {**common, "model.class_path": name, **own, "seed_everything": seed},
            )
            for seed in seeds
        ]
        for name, own in OWN.items()
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, measure, print."""
    found = parser(__doc__ or "", kimg=100)
    found.add_argument("--seeds", type=int, default=3)
    options = found.parse_args(arguments)
    runs, grader = runs_of(options, range(options.seeds)), grader_of(options)
    train_in_turn(runs, options.folder, options.jobs)
    rows = {
        name: [fidelity(load(options.folder, run), grader, "study") for run in some]
        for name, some in runs.items()
    }
    show_fidelity(rows)
    save(rows, options.folder / "architectures.json")
    return rows


if __name__ == "__main__":
    main()
