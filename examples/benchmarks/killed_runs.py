"""Do runs that are killed at random moments and resumed end like an undisturbed run?

    python examples/benchmarks/killed_runs.py [--runs 20] [--kills 3] [--seed 0]

Trains one tiny run on phantoms without interruption. Then each of `--runs` others is killed
(SIGKILL) `--kills` times, at a moment drawn uniformly from the duration of a full run, and resumed
by the same command until it ends. Prints how far each was when it was killed, and whether its
weights, optimisers and fidelity table equal those of the first, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

CONFIG = """
schedule: {start_resolution: 8, final_resolution: 16, fade_kimg: 0.32,
           hold_kimg: {8: 0.32, 16: 0.64}, batch_size: 8, tick_kimg: 0.064}
model:
  class_path: StyleGANModule
  init_args: {latent_dim: 8, w_dim: 8, mapping_layers: 2, channel_base: 256, channel_cap: 32}
data: {num_phantoms: 60, num_workers: 1}
samples: {rows: 1}
fidelity: {extractor: none, metrics: [swd], num_fakes: 16, every_kimg: 0.128}
checkpoints: {every_minutes: 0.005}
trainer: {accelerator: cpu, enable_model_summary: false}
"""


def command(folder: Path) -> list[str]:
    options = ("--config", str(folder.parent / "tiny.yaml"), "--run_dir", str(folder), "--resume")
    return [sys.executable, "-m", "blastogan", "fit", *options]


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command(folder), env=environment, stdout=quiet, stderr=quiet)


def finish(folder: Path) -> float:
    """Run the command to its end; return the seconds it took."""
    began = time.perf_counter()
    code = start(folder).wait()
    if code:
        raise SystemExit(f"{folder}: exit code {code}; reproduce with\n{command(folder)}")
    return time.perf_counter() - began


def state(folder: Path) -> dict[str, Any]:
    """State that must be equal."""
    content = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    kept = {key: content[key] for key in ("state_dict", "optimizer_states", "blastogan")}
    return {**kept, "fidelity": (folder / "fidelity.csv").read_text()}


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def reached(folder: Path) -> str:
    path = folder / "checkpoints/last.ckpt"
    if not path.exists():
        return "-"
    return str(torch.load(path, weights_only=True)["blastogan"]["images_shown"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3, help="kills per run")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "tiny.yaml").write_text(CONFIG)
        whole = home / "whole"
        seconds = finish(whole)
        print(f"a run left alone takes {seconds:.0f} s", flush=True)
        equal = 0
        for number in range(args.runs):
            folder, kills = home / f"run-{number}", []
            for _ in range(args.kills):
                process = start(folder)
                time.sleep(moments.uniform(0, seconds))
                process.kill()
                process.wait()
                kills.append(reached(folder))
            finish(folder)
            alike = same(state(whole), state(folder))
            equal += alike
            print(
                f"run {number}: killed with {', '.join(kills)} images saved; "
                f"{'bit-equal' if alike else 'DIFFERENT'}",
                flush=True,
            )
        print(f"{equal} of {args.runs} runs, killed {args.kills} times each, are bit-equal")


if __name__ == "__main__":
    main()
