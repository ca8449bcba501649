"""Parts shared by the experiments on small data: training runs, a grader, and metrics.

Each run has its own folder and is trained by `blastogan fit --resume`: an experiment that was
stopped continues, and one that has finished is only measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from blastogan import FidelityEvaluator
from blastogan.grades import CLASSES, LETTERS, Grade
from blastogan.modules import BaseGANModule, GradeClassifier, load_module
from blastogan.phantoms import PhantomDataset
from blastogan.phantoms.dataset import render_phantoms
from blastogan.utils.files import write_json

STYLE = "dic"
GRADER_IMAGES, GRADER_EPOCHS, GRADER_SEED = 20_000, 6, 100
REFERENCE_SEED = 200

NETWORKS: dict[str, Any] = {"latent_dim": 64, "channel_base": 384, "channel_cap": 64}
"""Widths that train in minutes on one core: at most 64 channels; the papers have 512."""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "ProGANModule": {"model.class_path": "ProGANModule"},
    "StyleGANModule": {
        "model.class_path": "StyleGANModule",
        "model.init_args.w_dim": 64,
        "model.init_args.mapping_layers": 8,
    },
}
"""Options of an architecture besides `NETWORKS`."""


@dataclass
class Run:
    """One training of an experiment.

    Attributes:
        name: Name of its folder.
        options: Command line options by key.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)


def parser(description: str, kimg: float) -> argparse.ArgumentParser:
    """Parser with the options of all experiments."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument(
        "--folder", type=Path, default=Path("runs/small-data"), help="folder of all runs"
    )
    found.add_argument("--kimg", type=float, default=kimg, help="kimg at the final resolution")
    found.add_argument("--resolution", type=int, default=32)
    found.add_argument("--jobs", type=int, default=2, help="runs trained at a time")
    found.add_argument("--accelerator", default="cpu", help="cpu, or gpu with --jobs 1")
    return found


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Options common to all runs of an experiment: growth from 8 pixels, Adam, no well."""
    steps, size = [], 8
    while size <= options.resolution:
        steps.append(size)
        size *= 2
    below = {r: 3.2 if r < options.resolution / 2 else 6.4 for r in steps[:-1]}
    return {
        "config": "demo",
        "schedule.start_resolution": 8,
        "schedule.final_resolution": options.resolution,
        "schedule.fade_kimg": 6.4,
        "schedule.hold_kimg": {**below, options.resolution: options.kimg},
        "schedule.batch_size": 16,
        "model.init_args.channel_base": NETWORKS["channel_base"] * options.resolution // 32,
        "data.phantom_style": STYLE,
        "trainer.accelerator": options.accelerator,
        "trainer.check_val_every_n_epoch": 8,
        "fidelity.metrics": [],
        "checkpoints.keep_phases": False,
    }


def train(runs: Sequence[Run], folder: Path, jobs: int) -> None:
    """Train all unfinished runs, several at a time, one core each."""

    def one(run: Run) -> None:
        command = [sys.executable, "-m", "blastogan", "fit", "--resume", "true"]
        command += ["--run_dir", str(folder / run.name)]
        for key, value in run.options.items():
            command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
        log = folder / f"{run.name}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with log.open("a") as file:
            code = subprocess.run(command, stdout=file, stderr=file, env=environment).returncode
        if code:
            raise SystemExit(f"{run.name} ended with exit code {code}: see {log}")

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, runs))


def train_in_turn(runs: Mapping[str, Sequence[Run]], folder: Path, jobs: int) -> None:
    """Train the runs of all settings, seed by seed."""
    train([run for some in zip(*runs.values(), strict=True) for run in some], folder, jobs)


def show_fidelity(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Print a line per metric: mean and deviation over the seeds of each setting."""
    for name, scale in (("kid", 1000), ("fid", 1), ("swd", 1), ("recall", 1)):
        cells = [
            f"{side} {summary([scale * row[name] for row in some])}" for side, some in rows.items()
        ]
        sys.stdout.write(f"{name:>8} x {scale:<5} {'   '.join(cells)}\n")


def grader_of(options: argparse.Namespace) -> Path:
    """Weights of a grader trained, once, on 20,000 phantoms of another seed."""
    folder = options.folder / f"grader-{options.resolution}"
    best = folder / "checkpoints/best.ckpt"
    if not (folder / "done").exists():
        resume = ["--resume", "true"] if folder.exists() else []
        command = [sys.executable, "-m", "blastogan", "grade", "fit", *resume]
        command += ["--run_dir", str(folder), "--seed_everything", str(GRADER_SEED)]
        command += ["--data.resolution", str(options.resolution), "--data.phantom_style", STYLE]
        command += ["--data.num_phantoms", str(GRADER_IMAGES * 5 // 4)]
        command += ["--data.phantom_counts", "balanced"]
        command += ["--trainer.max_epochs", str(GRADER_EPOCHS)]
        command += ["--trainer.accelerator", options.accelerator]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        (folder / "done").touch()
    return best


@cache
def reference(count: int, counts: str, resolution: int, seed: int = REFERENCE_SEED) -> Any:
    """Phantoms that no network has seen: images uint8 ``(N, 1, R, R)`` and labels ``(N, 2)``."""
    phantoms = PhantomDataset(count, counts, seed, resolution, style=STYLE)
    images = render_phantoms(phantoms, 1, 0)
    labels = torch.tensor([phantoms.grade(n).labels for n in range(len(phantoms))])
    return images, labels


def fidelity(
    module: BaseGANModule, grader: Path, counts: str, count: int = 2000
) -> dict[str, float]:
    """KID and FID by the features of the grader, and SWD, to phantoms that no network has seen."""
    reals, labels = reference(count, counts, module.final_resolution)
    names = [Grade.from_labels(*each).name for each in labels.tolist()]
    fakes = module.generate(len(reals), names, seed=1)
    evaluator = FidelityEvaluator(
        "grader", weights=str(grader), metrics=("fid", "kid", "swd", "recall")
    )
    sides = [evaluator.gather(torch.split(side, 100)) for side in (reals, fakes)]
    return evaluator.compare(*sides).values


def agreement(module: BaseGANModule, grader: Path, count: int) -> dict[str, dict[str, float]]:
    """How often a grader finds the grade asked for, in samples and in unseen phantoms.

    Args:
        module: Conditional GAN.
        grader: Weights of the grader.
        count: Number of samples, and of phantoms, per class.

    Returns:
        Shares by class: `icm`, `te` and `both` of samples; `real_icm`, `real_te` and `real_both` of
        phantoms; and `chance`, how often samples of other classes are taken for this one.
    """
    judge = GradeClassifier.load_from_checkpoint(grader)
    found = {}
    for name in CLASSES:
        fakes = module.generate(count, name, seed=2)
        reals, _ = reference(count, f"{name}:{count}", module.final_resolution)
        found[name] = [
            torch.cat([judge.grade(part) for part in side.split(100)]) for side in (fakes, reals)
        ]
    rows = {}
    for name, sides in found.items():
        label = torch.tensor(Grade.parse(name).labels)
        row = {}
        for prefix, letters in zip(("", "real_"), sides, strict=True):
            right = letters == label
            shares = [*right.float().mean(dim=0).tolist(), float(right.all(1).float().mean())]
            row |= dict(zip((f"{prefix}icm", f"{prefix}te", f"{prefix}both"), shares, strict=True))
        others = torch.cat([sides[0] for other, sides in found.items() if other != name])
        row["chance"] = float((others == label).all(1).float().mean())
        rows[name] = row
    return rows


def load(folder: Path, run: Run) -> BaseGANModule:
    """The module at the end of a run."""
    return load_module(str(folder / run.name / "checkpoints/last.ckpt"))


def column(folder: Path, run: Run, name: str) -> list[tuple[float, float]]:
    """Pairs of kimg and a column of the log, where it has a value."""
    with (folder / run.name / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [(float(row["kimg"]), float(row[name])) for row in rows if row.get(name)]


def summary(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.4g} +- {spread:.2g}"


def save(content: Mapping[str, Any], path: Path) -> None:
    """Write all numbers, and print the path."""
    path.unlink(missing_ok=True)
    write_json(dict(content), path)
    sys.stdout.write(f"all numbers: {path}\n")


def letters_of(rows: Mapping[str, Mapping[str, float]]) -> list[tuple[str, float, float]]:
    """Mean agreement of samples and of phantoms over the classes of each ICM and TE letter."""
    lines = []
    for place, part in enumerate(("icm", "te")):
        for letter in LETTERS:
            names = [name for name in rows if name[place] == letter]
            means = [
                statistics.fmean(rows[name][f"{prefix}{part}"] for name in names)
                for prefix in ("", "real_")
            ]
            lines.append((f"{part.upper()} {letter}", means[0], means[1]))
    return lines


def mean_ratios(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Agreement of samples relative to phantoms, mean over the letters of ICM and of TE."""
    letters = letters_of(rows)
    return {
        part: statistics.fmean(
            share / max(real, 1e-9) for letter, share, real in letters if letter.startswith(part)
        )
        for part in ("ICM", "TE")
    }
