"""Do samples have the grade asked for, with 3,000 images of long-tailed classes?

    python examples/small_data/grades.py [--kimg 200] [--folder runs/small-data]

Trains conditional ProGANs (or StyleGANs, `--architecture`) on 3,000 phantoms, with classes as rare
as in public data: with a ramp of the grade and factorised embeddings, without one of the two, and
without both. A grader trained on 20,000 other phantoms reads the letters of 200 samples per class,
and of 200 phantoms per class that no network has seen. Prints how often it finds what was asked
for, by letter and by class, and for each class the chance level: how often samples of other classes
are taken for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from experiment import (
    ARCHITECTURES,
    Run,
    agreement,
    fidelity,
    grader_of,
    letters_of,
    load,
    mean_ratios,
    parser,
    save,
    settings,
    train,
)

EMBRYOS = 3000
RAMP = (0.2, 0.5)
"""Shares of `--kimg` at which the condition weight leaves 0 and reaches 1."""


def title(options: argparse.Namespace) -> str:
    """Prefix of file names."""
    return "grades-stylegan" if options.architecture == "StyleGANModule" else "grades"


def runs_of(options: argparse.Namespace) -> dict[str, Run]:
    """The recommended settings, and those with parts left out."""
    common = {
        **settings(options),
        **ARCHITECTURES[options.architecture],
        # 80 % are trained on; some embryos have several images
        "data.num_phantoms": EMBRYOS * 5 // 4,
        "data.phantom_counts": "study",
        "data.balance": "sqrt",
        "model.init_args.augment": "grade-preserving",
        "model.init_args.augment_kimg": 100,
        "seed_everything": options.seed,
    }
    ramp = {"model.init_args.ramp_kimg": [share * options.kimg for share in RAMP]}
    joint = {"model.init_args.factorised": False}
    changes: dict[str, dict[str, Any]] = {
        "recommended": ramp,
        "no ramp": {},
        "not factorised": {**ramp, **joint},
        "neither": joint,
    }
    return {
        name: Run(f"{title(options)}-{name.replace(' ', '-')}-{options.seed}", common | change)
        for name, change in changes.items()
        if not options.only or name in options.only
    }


def show(name: str, rows: dict[str, dict[str, float]]) -> None:
    """Print the tables of one run."""
    write = sys.stdout.write
    write(f"\n{name}\n  letter   samples  phantoms  ratio\n")
    for letter, share, real in letters_of(rows):
        write(f"  {letter:<8} {share:7.1%}  {real:8.1%}  {share / max(real, 1e-9):5.2f}\n")
    write("  class    ICM     TE      both    chance  phantoms: both\n")
    for grade, row in rows.items():
        cells = "  ".join(f"{row[key]:6.1%}" for key in ("icm", "te", "both", "chance"))
        write(f"  {grade:<7} {cells}  {row['real_both']:6.1%}\n")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, measure and print."""
    found = parser(__doc__ or "", kimg=200)
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--count", type=int, default=200, help="samples of each class")
    found.add_argument("--architecture", choices=list(ARCHITECTURES), default="ProGANModule")
    found.add_argument("--only", action="append", help="of the four runs")
    options = found.parse_args(arguments)
    runs, grader = runs_of(options), grader_of(options)
    train(list(runs.values()), options.folder, options.jobs)
    content: dict[str, Any] = {}
    for name, run in runs.items():
        module = load(options.folder, run)
        rows = agreement(module, grader, options.count)
        values = fidelity(module, grader, "study")
        show(name, rows)
        ratios = mean_ratios(rows)
        sys.stdout.write(
            f"  mean ratio ICM {ratios['ICM']:.2f}, TE {ratios['TE']:.2f}; KID x 1000 "
            f"{1000 * values['kid']:.3g}, FID {values['fid']:.3g}, SWD {values['swd']:.3g}\n"
        )
        content[name] = {"classes": rows, "fidelity": values}
    save(content, options.folder / f"{title(options)}-{options.seed}.json")
    return content


if __name__ == "__main__":
    main()
