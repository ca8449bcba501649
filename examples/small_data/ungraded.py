"""What are images without a grade worth? 300 graded of 3,000, against 300 alone and 3,000 graded.

    python examples/small_data/ungraded.py [--kimg 48] [--seeds 2] [--folder runs/small-data]

Draws 3,000 phantoms, with classes as rare as in public data, and trains three conditional GANs for
each seed: on 300 graded phantoms alone, on all 3,000 of which the same 300 are graded, and on
3,000 graded ones. A grader trained on 20,000 other phantoms reads the letters of 200 samples per
class, and of 200 phantoms per class that no network has seen; KID, FID, SWD and recall compare
2,000 samples with 2,000 such phantoms.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiment import (
    ARCHITECTURES,
    STYLE,
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

IMAGES, GRADED = 3000, 300
PHANTOM_SEED = 300
RAMP = (0.2, 0.5)
"""Shares of `--kimg` at which the condition weight leaves 0 and reaches 1."""

SETTINGS = {"300 alone": ("some", "drop"), "300 of 3,000": ("some", "use"), "3,000": ("all", "use")}
"""Table of grades and treatment of ungraded images, by the name of a setting."""


def draw(folder: Path, resolution: int) -> Path:
    """A folder of phantoms, drawn once."""
    root = folder / f"phantoms-{resolution}"
    command = [sys.executable, "-m", "blastogan", "phantom", str(root), "--count", str(IMAGES)]
    command += ["--resolution", str(resolution), "--style", STYLE, "--seed", str(PHANTOM_SEED)]
    subprocess.run(command, check=True)
    return root


def write_tables(root: Path, folder: Path, seed: int) -> dict[str, Path]:
    """Tables with the grades of ``all`` phantoms, and of ``some``, drawn by the seed."""
    with (root / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    chosen = set(random.Random(seed).sample(range(len(rows)), GRADED))
    tables = {}
    for name in ("some", "all"):
        tables[name] = folder / f"ungraded-{name}-{seed}.csv"
        with tables[name].open("w", newline="") as file:
            write = csv.writer(file).writerow
            write(["image", "grade", "embryo"])
            for n, row in enumerate(rows):
                grade = row["grade"] if name == "all" or n in chosen else "NA"
                write([f"{row['folder']}/{row['filename']}", grade, row["embryo_guid"]])
    return tables


def runs_of(options: Any, root: Path) -> dict[str, list[Run]]:
    """A run for each seed of each setting."""
    runs: dict[str, list[Run]] = {name: [] for name in SETTINGS}
    for seed in range(options.seeds):
        tables = write_tables(root, options.folder, seed)
        for name, (table, rule) in SETTINGS.items():
            given = {
                **settings(options),
                **ARCHITECTURES[options.architecture],
                "data.root": str(root),
                "data.table": str(tables[table].resolve()),
                "data.ungraded": rule,
                # all 3,000 and 300 are trained on; what is measured is drawn anew
                "data.val_fraction": 0,
                "data.test_fraction": 0,
                "data.balance": "sqrt",
                "data.augment": "dihedral",
                "model.init_args.augment": "grade-preserving",
                "model.init_args.augment_kimg": 100,
                "model.init_args.ramp_kimg": [share * options.kimg for share in RAMP],
                "seed_everything": seed,
            }
            short = name.replace(" ", "-").replace(",", "")
            runs[name].append(Run(f"ungraded-{short}-{seed}", given))
    return runs


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, measure and print."""
    found = parser(__doc__ or "", kimg=48)
    found.add_argument("--seeds", type=int, default=2)
    found.add_argument("--count", type=int, default=200, help="samples of each class")
    found.add_argument("--architecture", choices=list(ARCHITECTURES), default="ProGANModule")
    options = found.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    root = draw(options.folder, options.resolution)
    runs, grader = runs_of(options, root), grader_of(options)
    train_in_turn(runs, options.folder, options.jobs)
    content: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for name, some in runs.items():
        for run in some:
            module = load(options.folder, run)
            values = fidelity(module, grader, "study")
            rows = agreement(module, grader, options.count)
            content[name].append({"fidelity": values, "classes": rows, **mean_ratios(rows)})
    show_fidelity({name: [row["fidelity"] for row in some] for name, some in content.items()})
    for part in ("ICM", "TE"):
        cells = [f"{name} {summary([row[part] for row in some])}" for name, some in content.items()]
        sys.stdout.write(f"{part:>8} letters found, relative to phantoms: {'   '.join(cells)}\n")
    save(content, options.folder / "ungraded.json")
    return content


if __name__ == "__main__":
    main()
