"""Does the memory of a long run grow? The demo, several times as long.

    python examples/benchmarks/memory_growth.py [--times 10] [--every 5]

Trains the preset `demo` on phantoms with all phases multiplied, in a new process and a temporary
folder, and reads its resident size every few seconds (Linux). Prints for each phase of growth the
size a minute after its start, the largest size since then, and the growth in per cent.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from blastogan import GrowthSchedule
from blastogan.presets import find_config

SETTLED = 60.0
"""Seconds after which a phase has allocated all it needs."""


def resident(pid: int) -> float:
    """Resident size of a process in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0]) / 1000


def longer(times: float) -> dict[str, object]:
    """The schedule of the demo, multiplied."""
    schedule = yaml.safe_load(find_config("demo").read_text())["schedule"]
    for name in ("fade_kimg", "hold_kimg"):
        schedule[name] = {r: kimg * times for r, kimg in schedule[name].items()}
    return dict(schedule)


def kimg_of(folder: Path) -> float:
    """Last kimg in the log of a run."""
    path = folder / "metrics.csv"
    if not path.exists():
        return 0.0
    with path.open(newline="") as file:
        return max((float(row["kimg"]) for row in csv.DictReader(file) if row["kimg"]), default=0.0)


def watch(
    folder: Path, schedule: dict[str, object], every: float
) -> list[tuple[float, float, float]]:
    """Seconds, kimg and megabytes, every few seconds until the run ends."""
    options = [f"--schedule.{name}={json.dumps(value)}" for name, value in schedule.items()]
    command = [
        sys.executable,
        "-m",
        "blastogan",
        "fit",
        "--config",
        "demo",
        "--run_dir",
        str(folder),
    ]
    samples = []
    began = time.perf_counter()
    with (folder.parent / "log.txt").open("w") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(every)
            if process.poll() is None:
                now = time.perf_counter() - began
                samples.append((now, kimg_of(folder), resident(process.pid)))
    if process.returncode:
        raise SystemExit((folder.parent / "log.txt").read_text())
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two readings")
    args = parser.parse_args()
    schedule = longer(args.times)
    with tempfile.TemporaryDirectory() as name:
        samples = watch(Path(name) / "run", schedule, args.every)
    print(f"{samples[-1][0] / 60:.0f} minutes, {samples[-1][1]:.0f} kimg")
    for phase in GrowthSchedule(**schedule).phases:  # type: ignore[arg-type]
        span = [s for s in samples if phase.start <= s[1] * 1000 < phase.end]
        settled = [size for at, _, size in span if at - span[0][0] > SETTLED]
        if len(settled) < 2:
            print(f"{phase}: over within a minute or two")
            continue
        growth = 100 * (max(settled) / settled[0] - 1)
        print(
            f"{phase}: {settled[0]:.0f} MB after a minute, at most {max(settled):.0f} MB in the "
            f"{(span[-1][0] - span[0][0]) / 60:.0f} minutes: {growth:+.1f} %"
        )


if __name__ == "__main__":
    main()
