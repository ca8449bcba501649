"""ProGAN against StyleGAN with equal images, widths, optimisers and augmentation, over seeds.

    python examples/small_data/architectures.py [--seeds 3] [--kimg 100] [--folder runs/small-data]

Both are trained with grades on 3,000 phantoms, with classes as rare as in public data. Prints KID,
FID and SWD of 2,000 samples to 2,000 phantoms that no network has seen, by the features of a grader
trained on 20,000 others. Also prints how often the grader finds the letter asked for in 200 samples
of each class, relative to phantoms. All are means and deviations over the seeds. Writes samples of
both, for the first seed, to `architectures.png`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from experiment import (
    ARCHITECTURES,
    Run,
    agreement,
    fidelity,
    grader_of,
    load,
    mean_ratios,
    parser,
    save,
    settings,
    show_fidelity,
    summary,
    train_in_turn,
)
from PIL import Image

from blastogan.grades import CLASSES, Grade
from blastogan.modules import BaseGANModule
from blastogan.utils.sheets import image_sheet

EMBRYOS = 3000


def runs_of(options: argparse.Namespace, seeds: range) -> dict[str, list[Run]]:
    """A run per architecture and seed."""
    common = {
        **settings(options),
        "data.num_phantoms": EMBRYOS * 5 // 4,
        "data.phantom_counts": "study",
        "model.init_args.augment": "grade-preserving",
        "model.init_args.augment_kimg": 100,
        "model.init_args.ramp_kimg": [0.2 * options.kimg, 0.5 * options.kimg],
    }
    return {
        name: [
            Run(
                f"architectures-{name}-{seed}",
                {**common, **own, "seed_everything": seed},
            )
            for seed in seeds
        ]
        for name, own in ARCHITECTURES.items()
    }


def draw(modules: Mapping[str, BaseGANModule], rows: int = 3) -> Image.Image:
    """Samples of each architecture, one latent per row."""
    names = [module.removesuffix("Module") for module in modules]
    asked = [grade for _ in range(rows) for grade in CLASSES]
    labels = torch.tensor([Grade.parse(grade).labels for grade in asked])
    latents = [row for row in range(rows) for _ in CLASSES]
    images = [module.sample(latents, labels, seed=0) for module in modules.values()]
    caption = f"Generated, trained on 3,000 phantoms: {names[0]} above, {names[1]} below"
    return image_sheet(torch.cat(images), len(CLASSES), caption=caption, titles=CLASSES)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, measure and print."""
    found = parser(__doc__ or "", kimg=100)
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--count", type=int, default=200, help="samples of each class")
    options = found.parse_args(arguments)
    runs, grader = runs_of(options, range(options.seeds)), grader_of(options)
    train_in_turn(runs, options.folder, options.jobs)
    modules = {name: [load(options.folder, run) for run in some] for name, some in runs.items()}
    rows = {
        name: [
            {
                **fidelity(module, grader, "study"),
                **mean_ratios(agreement(module, grader, options.count)),
            }
            for module in some
        ]
        for name, some in modules.items()
    }
    show_fidelity(rows)
    for part in ("ICM", "TE"):
        cells = [f"{name} {summary([row[part] for row in some])}" for name, some in rows.items()]
        sys.stdout.write(f"{part:>8} letters {'   '.join(cells)}\n")
    path = options.folder / "architectures.png"
    draw({name: some[0] for name, some in modules.items()}).save(path)
    sys.stdout.write(f"samples: {path}\n")
    save(rows, options.folder / "architectures.json")
    return rows


if __name__ == "__main__":
    main()
