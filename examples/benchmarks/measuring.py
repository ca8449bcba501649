"""Parts shared by the training benchmarks: steps, rates, operation counts, memory."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from peers import Setting, load_peer
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from blastogan import ProGANModule, StyleGANModule
from blastogan.modules import BaseGANModule
from blastogan.utils.allocator import keep_freed_memory

ARCHITECTURES: dict[str, type[BaseGANModule]] = {
    "progan": ProGANModule,
    "stylegan": StyleGANModule,
}
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class Contestant:
    """A training step to measure, or a batch of samples.

    `period` is the number of steps after which the cost repeats: the interval of lazy
    regularisation.
    """

    name: str
    step: Callable[[], object]
    batch: int
    period: int
    generator: nn.Module
    discriminator: nn.Module
    dtype: torch.dtype

    @property
    def millions(self) -> str:
        """Parameters of G and D, in millions."""
        sizes = (
            sum(weight.numel() for weight in network.parameters())
            for network in (self.generator, self.discriminator)
        )
        return " + ".join(f"{size / 1e6:.2f}" for size in sizes)


def own_step(
    architecture: str, precision: str, setting: Setting, **options: Any
) -> tuple[Contestant, BaseGANModule]:
    """The training step of a module on a fixed batch, fully grown, without a trainer."""
    widths = {"channel_base": setting.channel_base, "channel_cap": setting.channel_cap}
    sizes = {"latent_dim": setting.latent_dim}
    if architecture == "stylegan":
        sizes["w_dim"] = setting.latent_dim
    module = ARCHITECTURES[architecture](
        resolution=setting.resolution,
        img_channels=setting.img_channels,
        **widths,
        **sizes,
        **options,
    )
    fabric = Fabric(accelerator=setting.device.type, devices=1)
    fabric.setup(module, *module.configure_optimizers())
    module.train()
    shape = (setting.batch, setting.img_channels, setting.resolution, setting.resolution)
    batch = {
        "image": torch.randint(0, 256, shape, dtype=torch.uint8, device=setting.device),
        "labels": torch.zeros(setting.batch, 2, dtype=torch.int64, device=setting.device),
    }

    dtype = DTYPES[precision]
    lower = dtype != torch.float32

    def step() -> None:
        # as Lightning does
        with torch.autocast(setting.device.type, dtype, enabled=lower, cache_enabled=False):
            module.training_step(batch, 0)

    period = module.r1_interval if module.regularizer == "r1" else 1
    networks = (module.generator, module.discriminator)
    name = f"{architecture} {precision}"
    return Contestant(name, step, setting.batch, period, *networks, dtype), module


def peer_step(name: str, path: Path, setting: Setting) -> Contestant:
    """The training step of public code, in float32."""
    peer = load_peer(name, path, setting)
    networks = (peer.generator, peer.discriminator)
    return Contestant(name, peer.step, setting.batch, peer.period, *networks, torch.float32)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], times: int) -> float:
    synchronize()
    began = time.perf_counter()
    for _ in range(times):
        work()
    synchronize()
    return time.perf_counter() - began


def in_turn(
    contestants: Sequence[Contestant], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Images/s of each contestant per round; a round is whole periods of at least `seconds`.

    Two steps of each run first and are not counted.
    """
    for each in contestants:
        seconds_of(each.step, 2)
    rates: dict[str, list[float]] = {each.name: [] for each in contestants}
    for _ in range(rounds):
        for each in contestants:
            steps, took = 0, 0.0
            while not steps or took < seconds:
                took += seconds_of(each.step, each.period)
                steps += each.period
            rates[each.name].append(steps * each.batch / took)
    return rates


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def convolution_rate(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """GFLOP/s of a 3x3 convolution of 128 channels at 64x64, batch 8, in its faster layout."""
    best = 0.0
    for layout in (torch.contiguous_format, torch.channels_last):
        images = torch.randn(8, 128, 64, 64, device=device, dtype=dtype).to(memory_format=layout)
        weight = torch.randn(128, 128, 3, 3, device=device, dtype=dtype).to(memory_format=layout)

        def convolve(images: Tensor = images, weight: Tensor = weight) -> None:
            F.conv2d(images, weight, padding=1)

        with torch.no_grad():
            seconds_of(convolve, 5)
            took, times = 0.0, 0
            while took < seconds:
                took += seconds_of(convolve, 10)
                times += 10
        best = max(best, times * 2 * 8 * 64 * 64 * 128 * 128 * 9 / took / 1e9)
    return best


class _NoModules:
    """Replaces the counter's module tracker, whose hooks fail in second derivatives."""

    parents = frozenset({"Global"})

    def __enter__(self) -> _NoModules:
        return self

    def __exit__(self, *args: object) -> None:
        pass


def operations_per_image(contestant: Contestant) -> float:
    """GFLOP per image, on average over a period: convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with counter:
        for _ in range(contestant.period):
            contestant.step()
    return float(counter.get_total_flops()) / contestant.period / contestant.batch / 1e9


@dataclass(frozen=True)
class Memory:
    """Megabytes: the peak of the steps, and what they kept for their backward passes."""

    peak: float
    kept: float


def measure_memory(contestant: Contestant) -> Memory:
    """Memory of two steps; on the CPU, the growth of the process, which must be new."""
    if next(contestant.generator.parameters()).is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds_of(contestant.step, 2)
        peak = torch.cuda.max_memory_allocated() - before
    else:
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = _resident_peak()
        seconds_of(contestant.step, 2)
        peak = _resident_peak() - before
    weights = {
        weight.untyped_storage().data_ptr()
        for network in (contestant.generator, contestant.discriminator)
        for weight in network.parameters()
    }
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # hold it, so that no other storage gets its address
            kept[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        contestant.step()
    return Memory(peak / 1e6, sum(storage.nbytes() for storage in kept.values()) / 1e6)


def _resident_peak() -> int:
    """Peak resident bytes of this process, on Linux."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def prepare(threads: int) -> None:
    """Set allocator, CPU threads and seed, equal for all contestants."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)


def add_setting(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is measured."""
    parser.add_argument("--architectures", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--resolutions", nargs="+", type=int, default=[32, 64, 128, 256])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channel-base", type=int, default=2048, help="papers: 8192")
    parser.add_argument("--channel-cap", type=int, default=128, help="papers: 512")
    parser.add_argument("--latent-dim", type=int, default=128, help="papers: 512")
    parser.add_argument("--img-channels", type=int, choices=(1, 3), default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="minimum length of a round")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=CHECKOUT",
        help="public code to run in turn; see peers.py",
    )


def settings_of(options: argparse.Namespace, resolution: int) -> Setting:
    return Setting(
        resolution=resolution,
        batch=options.batch,
        channel_base=options.channel_base,
        channel_cap=options.channel_cap,
        latent_dim=options.latent_dim,
        device=torch.device(options.device),
        img_channels=options.img_channels,
    )


def peers_of(options: argparse.Namespace) -> dict[str, Path]:
    pairs = [peer.partition("=") for peer in options.peer]
    return {name: Path(path) for name, _, path in pairs}
