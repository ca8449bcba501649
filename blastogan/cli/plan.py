"""What a run will take, before it begins: time by a few measured steps, disk and memory."""

from __future__ import annotations

import copy
import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule, Phase
from blastogan.modules import BaseGANModule
from blastogan.modules.step.compiling import NetworkCompiler
from blastogan.utils.terminal import Table

_log = logging.getLogger(__name__)

MAX_SECONDS = 1.0
"""Further stages are measured only within this time; the others follow from their operations."""

STAGE_SECONDS, MAX_STEPS = 0.1, 3
"""A stage is measured for so long, or for so many steps."""

MIN_IMAGES = 2000
"""Runs with fewer images left begin at once, without a plan."""

MAX_HOURS = 24.0
"""Runs of more hours on a CPU begin only if the user says so."""

STEP_COST = 6.0
"""Assumed cost of a step relative to a forward pass of both networks, if a step takes too long."""

R1_COST = 0.7
"""Assumed cost of R1 relative to a step without it."""

BASE_MEMORY = 600_000_000
"""Memory of Python, PyTorch and Lightning without any network, in bytes."""

GIGABYTE = 1e9


@dataclass(frozen=True)
class Plan:
    """What the rest of a run will take.

    Attributes:
        schedule: Growth schedule of the run.
        images_shown: Images shown already.
        seconds: Time of training per image by resolution; empty if it was not measured.
        measured: Resolutions at which steps were measured.
        parameters: Weights of the generator and of the discriminator.
        checkpoint: Size of a checkpoint at the end, in bytes.
        checkpoints: Largest number of checkpoints in the run folder.
        memory: Estimated memory without the images, in bytes.
        device: Type of the device, such as ``cpu``.
        devices: Number of devices, which are taken to share the work evenly.
    """

    schedule: GrowthSchedule
    images_shown: int
    seconds: Mapping[int, float]
    measured: tuple[int, ...]
    parameters: tuple[int, int]
    checkpoint: int
    checkpoints: int
    memory: int
    device: str
    devices: int = 1

    @property
    def disk(self) -> int:
        """Largest size of all checkpoints together, in bytes."""
        return self.checkpoint * self.checkpoints

    @property
    def hours(self) -> float:
        """Hours of training that are left, without evaluation and saving."""
        return sum(map(self._seconds, self.schedule.phases)) / 3600

    def _seconds(self, phase: Phase) -> float:
        images = max(phase.end - max(phase.start, self.images_shown), 0)
        return images * self.seconds.get(phase.resolution, 0.0) / self.devices

    def describe(self) -> str:
        """One line."""
        time_needed = f"about {in_words(self.hours)} of training on {self._where()}, "
        weights = " and ".join(f"{count / 1e6:.3g}" for count in self.parameters)
        return (
            f"plan: {(self.schedule.total_images - self.images_shown) / 1000:g} kimg, "
            f"{time_needed if self.seconds else ''}"
            f"up to {self.disk / GIGABYTE:.2g} GB of checkpoints, about "
            f"{self.memory / GIGABYTE:.2g} GB of memory besides the images "
            f"({weights} million weights of generator and discriminator)"
        )

    def check(self) -> None:
        """Refuse what a CPU would not finish.

        Raises:
            UserError: If the run takes more than `MAX_HOURS` on a CPU.
        """
        if self.device == "cpu" and self.hours > MAX_HOURS:
            raise UserError(
                f"this run would take about {in_words(self.hours)} on {self._where()}: the presets "
                "other than demo are made for a GPU. Choose --config demo, or show fewer images by "
                "--schedule.hold_kimg and --schedule.fade_kimg; --dry_run shows the time of each "
                "phase, and --yes begins anyway"
            )

    def check_disk(self, folder: Path) -> None:
        """Warn if the checkpoints may not fit where `folder`, which need not exist, is to be."""
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        free = shutil.disk_usage(there).free
        if free < self.disk:
            _log.warning(
                "only %.2g GB are free for up to %.2g GB of checkpoints: lower "
                "--checkpoints.keep_last, or set --checkpoints.keep_phases false",
                free / GIGABYTE,
                self.disk / GIGABYTE,
            )

    def table(self) -> Table:
        """Phases with images, batch, pace and time."""
        rows = []
        for phase in self.schedule.phases:
            cost = self.seconds.get(phase.resolution, 0.0) / self.devices
            about = "" if phase.resolution in self.measured else "~"
            rows.append(
                (
                    str(phase),
                    f"{phase.start / 1000:g} to {phase.end / 1000:g}",
                    str(phase.batch_size),
                    f"{about}{1 / cost:.3g}" if cost else "?",
                    in_words(self._seconds(phase) / 3600) if cost else "?",
                )
            )
        return ("phase", "kimg", "batch", "images/s", "time"), rows

    def notes(self) -> list[str]:
        """What the table does not say, a sentence each."""
        notes = ["validation, evaluation and saving come on top"]
        if set(self.seconds) - set(self.measured):
            sides = ", ".join(f"{side}x{side}" for side in self.measured)
            notes.append(f"time was measured at {sides}; elsewhere (~) it follows from the layers")
        return notes

    def _where(self) -> str:
        count = f"{self.devices} devices of type " if self.devices > 1 else "this "
        return f"{count}{self.device.upper()}"


def in_words(hours: float) -> str:
    """``40 seconds``, ``16 minutes``, ``5 hours`` or ``12 days``."""
    for unit, name, until in ((3600, "seconds", 90), (60, "minutes", 120), (1, "hours", 48)):
        if (number := hours * unit) < until:
            return f"{number:.2g} {name}" if number < 10 else f"{number:.0f} {name}"
    days = hours / 24
    return f"{days:.0f} days" if days < 730 else f"{days / 365:,.0f} years"


def make_plan(
    module: BaseGANModule,
    schedule: GrowthSchedule,
    *,
    images_shown: int = 0,
    keep: tuple[int, bool, bool] = (3, True, True),
    device: torch.device | None = None,
    devices: int = 1,
    precision: str = "",
) -> Plan:
    """Plan the rest of a run; neither the module nor any random state changes.

    Args:
        module: The untrained or trained module.
        schedule: Growth schedule of the run.
        images_shown: Images shown already.
        keep: Number of last checkpoints, whether the best is kept, and those of phases.
        device: Device of the run; ``None`` if it is unknown, so that no time is measured.
        devices: Number of devices.
        precision: Precision of Lightning's trainer.
    """
    stages = {
        phase.resolution: phase.batch_size for phase in schedule.phases if phase.end > images_shown
    }
    operations, saved = _forward_costs(module, stages)
    measured: dict[int, float] = {}
    if device is not None:
        measured = _measure(module, stages, operations, device, precision, devices)
    seconds = dict(measured)
    for side in stages if measured else ():
        last = max(measured)
        seconds.setdefault(side, measured[last] * operations[side] / operations[last])
    generator, discriminator = (
        sum(weight.numel() for weight in network.parameters())
        for network in (module.generator, module.discriminator)
    )
    limit = module.micro_batch
    passes = {s: min(b // devices or 1, limit or b) for s, b in stages.items()}
    last_ones, best, phases = keep
    return Plan(
        schedule,
        images_shown,
        seconds,
        tuple(measured),
        (generator, discriminator),
        # weights, the average's, and two moments of Adam
        checkpoint=4 * (4 * generator + 3 * discriminator),
        checkpoints=last_ones + best + phases * len(schedule.phases),
        # and the gradients
        memory=BASE_MEMORY
        + 4 * (5 * generator + 4 * discriminator)
        + max((saved[side] * count for side, count in passes.items()), default=0),
        device="unknown device" if device is None else device.type,
        devices=devices,
    )


def _forward_costs(
    module: BaseGANModule, stages: Mapping[int, int]
) -> tuple[dict[int, int], dict[int, int]]:
    """Operations of a forward pass per image, and bytes kept for backward, by resolution."""
    count = module.discriminator.stddev_group
    operations, kept = {}, {}
    # tensors without values
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        generator, discriminator = module.configure_networks()
        z = torch.randn(count, module.latent_dim)
        labels = torch.zeros(count, 2, dtype=torch.int64) if module.conditional else None
        for side in stages:
            sizes: dict[Any, Tensor] = {}

            def keep(tensor: Tensor, sizes: dict[Any, Tensor] = sizes) -> Tensor:
                sizes[tensor.untyped_storage()._cdata] = tensor
                return tensor

            counter = FlopCounterMode(display=False)
            with counter, saved_tensors_hooks(keep, lambda tensor: tensor):
                discriminator(generator(z, labels, resolution=side), labels, resolution=side)
            operations[side] = counter.get_total_flops() // count
            kept[side] = sum(each.numel() * each.element_size() for each in sizes.values()) // count
    return operations, kept


def _measure(
    module: BaseGANModule,
    stages: Mapping[int, int],
    operations: Mapping[int, int],
    device: torch.device,
    precision: str,
    devices: int,
) -> dict[int, float]:
    """Seconds per image by resolution, of steps of a copy, as far as time allows."""
    accelerators = [torch.cuda.current_device()] if device.type == "cuda" else []
    found: dict[int, float] = {}
    began = time.perf_counter()
    try:
        with torch.random.fork_rng(devices=accelerators), _autocast(device, precision):
            scratch = _scratch(module, device)
            for side, batch in stages.items():
                spent = time.perf_counter() - began
                last = max(found, default=None)
                count = _images_of_pass(module, batch // devices, device)
                if last is not None:
                    ahead = found[last] * operations[side] / operations[last]
                elif device.type == "cpu":
                    ahead = STEP_COST * _time_forward(scratch, side)
                else:
                    ahead = 0.0
                if last is None and spent + ahead * count > MAX_SECONDS:
                    return {side: ahead}
                if spent + ahead * count > MAX_SECONDS:
                    break
                found[side] = _time_step(scratch, side, count) / count
    # such as too little memory: the run itself will say so
    except RuntimeError as error:
        _log.debug("no time is measured: %s", error)
        return {}
    return found


def _images_of_pass(module: BaseGANModule, batch: int, device: torch.device) -> int:
    """Images of a measured step: on a CPU few, as its pace hardly depends on their number."""
    most = module.discriminator.stddev_group if device.type == "cpu" else batch
    return max(min(batch, most, module.micro_batch or most), 1)


def _scratch(module: BaseGANModule, device: torch.device) -> Any:
    """A copy that can be trained without a trainer."""
    scratch: Any = copy.deepcopy(module).to(device).train()
    scratch._compiler = NetworkCompiler("off")
    scratch.draw_seed = 0
    optimizers = scratch.configure_optimizers()
    scratch.optimizers = lambda: optimizers
    scratch.manual_backward = lambda loss: loss.backward()
    return scratch


def _time_forward(scratch: Any, side: int) -> float:
    """Seconds of a forward pass of one image through both networks."""
    began = time.perf_counter()
    with torch.no_grad():
        labels = torch.zeros(1, 2, dtype=torch.int64) if scratch.conditional else None
        images = scratch.generator(torch.zeros(1, scratch.latent_dim), labels, resolution=side)
        scratch.discriminator(images, labels, resolution=side)
    return time.perf_counter() - began


def _time_step(scratch: Any, side: int, count: int) -> float:
    """Seconds of a step, the fastest of a few."""
    shape = (count, scratch.generator.img_channels, side, side)
    batch = {
        "image": torch.zeros(shape, dtype=torch.uint8, device=scratch.device),
        "labels": torch.zeros(count, 2, dtype=torch.int64, device=scratch.device),
    }
    times: list[float] = []
    scratch.resolution = side
    while sum(times) < STAGE_SECONDS and len(times) < MAX_STEPS:
        # after a batch, so that lazy R1 is not taken
        scratch.images_shown = count
        began = time.perf_counter()
        scratch.training_step(batch, 0)
        if scratch.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    lazy = scratch.regularizer == "r1" and scratch.r1_interval > 1
    return min(times) * (1 + R1_COST / scratch.r1_interval if lazy else 1)


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision not in kinds:
        return nullcontext()
    return torch.autocast(device.type, dtype=kinds[precision])
