"""Images per second of a training step, next to the machine's own rate and to public code.

    python examples/benchmarks/training_step.py [--resolutions 32 64 128 256] [--batch 8]
        [--channel-base 2048 --channel-cap 128] [--precisions 32-true bf16-mixed]
        [--reuse-fakes] [--profile] [--memory] [--peer akanimax=CHECKOUT] [--peer ...]

A step is D, G, lazy R1 and the moving average on fully grown networks. All contestants run in turn
in one process, with equal numbers of threads and equal settings of the memory allocator. GFLOP are
counted by PyTorch; the share is relative to the rate of one large convolution, measured first, in
the precision of the contestant. --profile shows where the time of a step goes, --memory what a step
needs, measured in a new process for each contestant.

--peer runs the step of public code from a checkout of yours; peers.py lists the names and what each
does in a step.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from measuring import (
    DTYPES,
    Contestant,
    Memory,
    add_setting,
    convolution_rate,
    in_turn,
    measure_memory,
    median,
    operations_per_image,
    own_step,
    peer_step,
    peers_of,
    prepare,
    settings_of,
)
from peers import Setting
from torch.profiler import profile


def own_options(options: argparse.Namespace) -> dict[str, Any]:
    names = ("compile_mode", "channels_last", "reuse_fakes")
    return {name: getattr(options, name) for name in names}


def contestants_of(options: argparse.Namespace, setting: Setting) -> list[Contestant]:
    own = own_options(options)
    return [
        *(
            own_step(architecture, precision, setting, **own)[0]
            for architecture, precision in product(options.architectures, options.precisions)
        ),
        *(peer_step(name, path, setting) for name, path in peers_of(options).items()),
    ]


def memory_of(
    name: str, setting: Setting, own: dict[str, Any], path: Path | None, threads: int
) -> Memory:
    """Measure memory; to be run in a new process."""
    prepare(threads)
    if path is not None:
        return measure_memory(peer_step(name, path, setting))
    architecture, precision = name.split()
    return measure_memory(own_step(architecture, precision, setting, **own)[0])


def print_memory(options: argparse.Namespace, setting: Setting) -> None:
    own = own_options(options)
    names: dict[str, Path | None] = {
        f"{architecture} {precision}": None
        for architecture, precision in product(options.architectures, options.precisions)
    }
    for name, path in {**names, **peers_of(options)}.items():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            task = process.submit(memory_of, name, setting, own, path, options.threads)
            memory = task.result()
        print(f"  memory   {name:20s} peak {memory.peak:7,.0f} MB  kept {memory.kept:7,.0f} MB")


def print_profile(contestant: Contestant) -> None:
    """Print shares of the time by part of the step and by kind of operation."""
    with profile() as profiler:
        for _ in range(contestant.period):
            contestant.step()
    events = profiler.key_averages()
    on_cuda = next(contestant.generator.parameters()).is_cuda
    own_time = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    whole_time = "device_time_total" if on_cuda else "cpu_time_total"
    total = sum(getattr(event, own_time) for event in events)
    parts = {
        event.key: getattr(event, whole_time) / total
        for event in events
        if event.key.startswith(("discriminator: ", "generator: "))
    }
    for name, share in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"  profile  {share:6.1%}  {name}")
    kinds = {
        "convolutions": ("conv",),
        "copies": ("copy", "clone"),
        "activations": ("leaky_relu",),
        "normalisation": ("norm",),
        "products, sums": ("aten::mul", "aten::add", "aten::sum", "aten::div", "addcmul"),
    }
    for name, marks in kinds.items():
        matching = [e for e in events if any(mark in e.key for mark in marks)]
        share = sum(getattr(event, own_time) for event in matching) / total
        print(f"  profile  {share:6.1%}  in {name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_setting(parser)
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=["32-true"])
    parser.add_argument("--compile-mode", default="off")
    parser.add_argument("--contiguous", dest="channels_last", action="store_false")
    parser.add_argument(
        "--reuse-fakes", action="store_true", help="one set of fakes for both networks"
    )
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    prepare(options.threads)
    for resolution in options.resolutions:
        setting = settings_of(options, resolution)
        contestants = contestants_of(options, setting)
        dtypes = {contestant.dtype for contestant in contestants}
        machine = {dtype: convolution_rate(setting.device, dtype) for dtype in dtypes}
        rates = in_turn(contestants, options.rounds, options.seconds)
        limits = ", ".join(f"{rate:,.0f} in {str(d)[6:]}" for d, rate in machine.items())
        print(
            f"{resolution}x{resolution}, batch {options.batch}; a convolution's GFLOP/s: {limits}"
        )
        print("  million parameters      images/s  (least to most)   GFLOP/image   GFLOP/s  share")
        for each in contestants:
            rate, operations = median(rates[each.name]), operations_per_image(each)
            share = rate * operations / machine[each.dtype]
            print(
                f"  {each.name:20s} {each.millions:11s} {rate:8.2f}"
                f"  ({min(rates[each.name]):.2f} to {max(rates[each.name]):.2f})"
                f"  {operations:8.2f}  {rate * operations:8,.0f}  {share:5.0%}",
                flush=True,
            )
        if options.profile:
            for each in contestants:
                print(f"  {each.name}")
                print_profile(each)
        del contestants
        if options.memory:
            print_memory(options, setting)


if __name__ == "__main__":
    main()
