"""How much faster do several processes train than one, each on its own core?

    python examples/benchmarks/scaling.py [--processes 2] [--resolutions 32 64] [--rounds 3]
        [--seconds 10] [--architectures progan stylegan] [--per-process]

Processes exchange gradients by gloo, like a fit on several devices on a CPU. The global batch is
16, or with --per-process 16 for each process. One process and several run in turn, started again
each time. Needs as many idle cores as processes, and a system that can pin processes to cores
(Linux).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from measuring import ARCHITECTURES, convolution_rate, own_step, prepare, seconds_of
from peers import Setting

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def train(rank: int, world: int, args: argparse.Namespace, case: tuple[str, int], out: str) -> None:
    """Measure images/s on one rank's part of the batch."""
    os.sched_setaffinity(0, {CORES[rank]})
    if world > 1:
        store = f"file://{out}.store"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    prepare(1)
    architecture, resolution = case
    batch = args.batch * (world if args.per_process else 1)
    setting = Setting(
        resolution,
        batch // world,
        args.channel_base,
        args.channel_cap,
        latent_dim=128,
        img_channels=1,
        device=torch.device("cpu"),
    )
    contestant, _ = own_step(architecture, "32-true", setting)
    took = seconds_of(contestant.step, 2) / 2
    # the same number of steps on all ranks: whole periods of R1
    periods = torch.tensor(max(1, round(args.seconds / took / contestant.period)))
    if world > 1:
        dist.broadcast(periods, 0)
        dist.barrier()
    steps = int(periods) * contestant.period
    rate = steps * batch / seconds_of(contestant.step, steps)
    if rank == 0:
        Path(out).write_text(f"{rate} {convolution_rate(setting.device, torch.float32)}")
    if world > 1:
        dist.destroy_process_group()


def measure(world: int, args: argparse.Namespace, case: tuple[str, int]) -> tuple[float, float]:
    """Images/s of `world` processes together, and GFLOP/s of a convolution on the first."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "rate")
        mp.spawn(train, args=(world, args, case, out), nprocs=world)  # type: ignore[no-untyped-call]
        rate, convolution = Path(out).read_text().split()
    return float(rate), float(convolution)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--architectures", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--resolutions", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--per-process", action="store_true", help="this batch on each process")
    parser.add_argument("--channel-base", type=int, default=2048, help="papers: 8192")
    parser.add_argument("--channel-cap", type=int, default=128, help="papers: 512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round")
    args = parser.parse_args()
    if len(CORES) < args.processes:
        parser.error(f"{args.processes} processes need as many cores to be pinned to: {CORES}")
    for architecture in args.architectures:
        for resolution in args.resolutions:
            case = (architecture, resolution)
            # in turn, so that a busy machine slows both down
            rounds = [
                [measure(n, args, case) for n in (1, args.processes)] for _ in range(args.rounds)
            ]
            ratios = [several[0] / alone[0] for alone, several in rounds]
            alone, several = (statistics.median(r[n][0] for r in rounds) for n in (0, 1))
            print(
                f"{architecture} {resolution}x{resolution}: one {alone:.1f}, {args.processes} "
                f"{several:.1f} images/s: {statistics.median(ratios):.2f} times "
                f"({min(ratios):.2f} to {max(ratios):.2f}); a convolution alone and beside others "
                f"{rounds[0][0][1]:.0f}, {rounds[0][1][1]:.0f} GFLOP/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
