"""Is this machine's GPU right and fast? One command, at most nine minutes, safe to stop.

    python examples/benchmarks/gpu_check.py OUT [--minutes 9] [--device cuda] [--small]

Compares training steps with the CPU's, measures speed, trains in one process of DDP, stops and
resumes a run, and trains a StyleGAN on phantoms for the time that is left. OUT/report.json is
written after each check; samples.png and curve.png are of the training. A check that fails is named
in the report, and the others go on; the exit code is then 1. --small is for a CPU: the same
checks on the smallest of networks.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from measuring import ARCHITECTURES, DTYPES, median, operations_per_image, own_step, seconds_of
from peers import Setting
from torch import Tensor

from blastogan.metrics.feature_networks import resize_clean
from blastogan.modules import BaseGANModule
from blastogan.modules.step.draws import SampleDraws
from blastogan.networks import GraderNetwork
from blastogan.utils.files import write_json

TOLERANCES = {"32-true": 1e-3, "bf16-mixed": 0.2}
"""Largest relative error of gradients against the CPU in float32."""

COMPILED = {"eager": "off", "compiled": "default", "CUDA graphs": "reduce-overhead"}
TRAINING_SECONDS = 60


@dataclass(frozen=True)
class Options:
    """What is checked, on what, until when."""

    out: Path
    device: torch.device
    small: bool
    deadline: float

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()


class CPUDraws:
    """Random numbers drawn on the CPU, so that they are equal on all devices."""

    def __init__(self, draws: SampleDraws, device: torch.device) -> None:
        self._draws, self._device = draws, device
        draws._generator = torch.Generator()

    def randn(self, *shape: int) -> Tensor:
        return self._draws.randn(*shape).to(self._device)

    def rand(self, *shape: int) -> Tensor:
        return self._draws.rand(*shape).to(self._device)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Float32 products in TF32, or in full precision."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [each.allow_tf32 for each in backends]
    for each in backends:
        each.allow_tf32 = allowed
    try:
        yield
    finally:
        for each, value in zip(backends, before, strict=True):
            each.allow_tf32 = value


# -- correctness ----------------------------------------------------------------------------------


def one_step(
    architecture: str, precision: str, setting: Setting, state: dict[str, Tensor] | None
) -> tuple[dict[str, float], list[Tensor], BaseGANModule]:
    """Terms and gradients of D and G of a first step, with R1 and augmentation."""
    torch.manual_seed(0)
    # Adam's first step is by signs alone: D would turn rounding into another loss of G
    still = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e-12}}
    _, module = own_step(
        architecture,
        precision,
        setting,
        augment="bgc",
        augment_p=0.5,
        r1_gamma=1.0,
        generator_optimizer=still,
        discriminator_optimizer=still,
    )
    if state is not None:
        module.load_state_dict(state)
    module.draw_seed = 0
    drawn = module._draws
    module._draws = lambda *args: CPUDraws(drawn(*args), setting.device)  # type: ignore[assignment,return-value]
    images = torch.Generator().manual_seed(1)
    shape = (setting.batch, setting.img_channels, setting.resolution, setting.resolution)
    batch = {
        "image": torch.randint(256, shape, dtype=torch.uint8, generator=images),
        "labels": torch.arange(setting.batch)[:, None].expand(-1, 2) % 3,
    }
    dtype = DTYPES[precision]
    lower = dtype != torch.float32
    with torch.autocast(setting.device.type, dtype, enabled=lower, cache_enabled=False):
        terms = module.training_step(
            {name: each.to(setting.device) for name, each in batch.items()}, 0
        )
    gradients = [
        torch.cat(
            [w.grad.flatten().double().cpu() for w in network.parameters() if w.grad is not None]
        )
        for network in (module.discriminator, module.generator)
    ]
    return {name: float(value) for name, value in terms.items()}, gradients, module


def check_correctness(options: Options) -> dict[str, Any]:
    """Relative errors of losses, R1 and gradients of a step against the CPU in float32.

    Raises:
        AssertionError: If one is above its tolerance.
    """
    sizes = (16, 4, 256, 32, 16) if options.small else (64, 8, 2048, 128, 128)
    reference = Setting(*sizes, torch.device("cpu"), img_channels=3)
    found: dict[str, Any] = {}
    for architecture in ARCHITECTURES:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            state = own_step(architecture, "32-true", reference, augment="bgc", augment_p=0.5)[1]
            # the zeros at the start, of biases and noise, would leave the fakes alike
            weights = {
                name: value + torch.randn_like(value) / 2 if value.is_floating_point() else value
                for name, value in state.state_dict().items()
            }
        terms, gradients, _ = one_step(architecture, "32-true", reference, weights)
        assert "r1" in terms
        for precision, tolerance in TOLERANCES.items():
            there = replace(reference, device=options.device)
            with tf32(False):
                theirs, found_gradients, _ = one_step(architecture, precision, there, weights)
            errors = {
                name: abs(theirs[name] - value) / max(abs(value), 1e-3)
                for name, value in terms.items()
                if name in ("loss_d", "loss_g", "r1")
            }
            errors |= {
                f"gradient_{letter}": float((mine - own).norm() / own.norm())
                for letter, mine, own in zip("dg", found_gradients, gradients, strict=True)
            }
            found[f"{architecture} {precision}"] = errors
            worst = max(errors, key=lambda name: errors[name])
            assert errors[worst] < tolerance, (
                f"{architecture} in {precision}: relative error of {worst} is {errors[worst]:.3g}, "
                f"expected below {tolerance}"
            )
    return found


# -- speed ----------------------------------------------------------------------------------------


def matrix_rate(options: Options, dtype: torch.dtype) -> float:
    """TFLOP/s of one large product of matrices."""
    side = 512 if options.small else 8192
    first, second = (torch.randn(side, side, device=options.device, dtype=dtype) for _ in "ab")
    seconds_of(lambda: first @ second, 3)
    return 2 * side**3 * 10 / seconds_of(lambda: first @ second, 10) / 1e12


def check_speed(options: Options) -> dict[str, Any]:
    """Images/s of a step by architecture, batch, precision and compilation; shares of the rate."""
    resolution, batches = (16, [4]) if options.small else (256, [16, 32, 64])
    precisions = {"float32": ("32-true", False)}
    if not options.small:
        precisions |= {"TF32": ("32-true", True), "bfloat16": ("bf16-mixed", True)}
    rates = {}
    for name, (precision, allowed) in precisions.items():
        with tf32(allowed):
            rates[name] = matrix_rate(options, DTYPES[precision])
    rows: list[dict[str, Any]] = []
    # the fastest are compiled, which takes a minute each
    eager = [*product(["eager"], ARCHITECTURES, batches, precisions)]
    rest = [] if options.small else [*product(COMPILED, ARCHITECTURES, batches[1:2], ["bfloat16"])]
    until = options.left * 0.55
    for mode, architecture, batch, name in [*eager, *rest[len(ARCHITECTURES) :]]:
        row: dict[str, Any] = {"mode": mode, "network": architecture, "batch": batch}
        row["precision"] = name
        rows.append(row)
        if options.left < until:
            row["skipped"] = "no time left"
            continue
        precision, allowed = precisions[name]
        widths = (256, 32, 16) if options.small else (8192, 512, 512)
        setting = Setting(resolution, batch, *widths, options.device, img_channels=1)
        try:
            with tf32(allowed):
                row |= measure_step(architecture, precision, setting, COMPILED[mode])
        except torch.OutOfMemoryError:
            row["skipped"] = "out of memory"
            continue
        finally:
            torch.cuda.empty_cache()
        row["share of matrix rate"] = row["TFLOP/s"] / rates[name]
    return {"resolution": resolution, "matrix TFLOP/s": rates, "steps": rows}


def measure_step(
    architecture: str, precision: str, setting: Setting, compile_mode: str
) -> dict[str, float]:
    """Images/s, TFLOP/s and gigabytes of whole periods of R1, median of three."""
    contestant, _ = own_step(architecture, precision, setting, compile_mode=compile_mode)
    on_gpu = setting.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    seconds_of(contestant.step, contestant.period + 1)
    started = time.monotonic() - began
    took = median([seconds_of(contestant.step, contestant.period) for _ in range(3)])
    rate = contestant.period * contestant.batch / took
    memory = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0
    plain = own_step(architecture, precision, setting)[0] if compile_mode != "off" else contestant
    operations = operations_per_image(plain)
    return {
        "images/s": rate,
        "TFLOP/s": rate * operations / 1000,
        "GB": memory,
        "first steps, s": started,
    }


class _Inception:
    """Inception of torch-fidelity with random weights: its speed is that of the trained one."""

    def __init__(self, device: torch.device) -> None:
        from torchvision.models import inception_v3  # type: ignore[import-untyped]

        self.network = inception_v3(weights=None, init_weights=False).to(device).eval()

    def __call__(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(resize_clean(images.expand(-1, 3, -1, -1)) / 128 - 1)
        return found


def check_extractors(options: Options) -> dict[str, float]:
    """Images/s of networks for FID, with random weights, of images of the final resolution."""
    batch, side, times = (1, 32, 1) if options.small else (64, 256, 5)
    images = torch.randint(256, (batch, 1, side, side), dtype=torch.uint8, device=options.device)
    grader = GraderNetwork().to(options.device).eval()
    networks: dict[str, Callable[[Tensor], Tensor]] = {
        "inception": _Inception(options.device),
        "grader": lambda x: grader.features(x.float() / 127.5 - 1),
    }
    rates = {}
    for name, network in networks.items():
        with torch.inference_mode(), tf32(False):
            seconds_of(partial(network, images), times)
            rates[name] = times * batch / seconds_of(partial(network, images), times)
    return rates


# -- runs -----------------------------------------------------------------------------------------


def fit(options: Options, name: str, *settings: str, seconds: float | None = None) -> Path:
    """Run `blastogan fit` in a process of its own; returns its folder.

    Args:
        options: For the folder and the device.
        name: Name of the run.
        *settings: Command line options.
        seconds: Stop it after so many seconds, as Ctrl-C does.

    Raises:
        RuntimeError: If it fails.
    """
    folder = options.out / name
    accelerator = "gpu" if options.device.type == "cuda" else "cpu"
    command = [sys.executable, "-m", "blastogan", "fit", "--run_dir", str(folder), *settings]
    command += ["--trainer.accelerator", accelerator, "--trainer.devices", "1", "--yes", "true"]
    log = options.out / f"{name}.log"
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            code = process.wait(seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as stop:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
            if isinstance(stop, KeyboardInterrupt):
                raise
            code = 0 if code in (75, 130) else code
    if code:
        raise RuntimeError(f"{name} ended with {code}: {log.read_text()[-400:]}")
    return folder


def tiny(hold_kimg: float) -> list[str]:
    """Options of a run of seconds."""
    values: dict[str, Any] = {
        "config": "demo",
        "schedule.final_resolution": 16,
        "schedule.fade_kimg": 0.064,
        "schedule.hold_kimg": {8: 0.064, 16: hold_kimg},
        "schedule.tick_kimg": 0.064,
        "model.init_args.channel_base": 64,
        "model.init_args.latent_dim": 8,
        "model.init_args.augment": "bgc",
        "data.num_phantoms": 60,
        "fidelity.metrics": [],
        "watch.num_images": 8,
    }
    found = []
    for name, value in values.items():
        found += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return found


def difference(first: Path, second: Path) -> float:
    """Largest difference of a weight between the last checkpoints of two runs."""
    states = [
        torch.load(each / "checkpoints/last.ckpt", map_location="cpu", weights_only=True)
        for each in (first, second)
    ]
    mine, theirs = (each["state_dict"] for each in states)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine)


def check_runs(options: Options) -> dict[str, float]:
    """A run at once, one stopped and resumed, one in a process of DDP: differences of weights.

    Raises:
        AssertionError: If they differ by more than rounding.
    """
    whole = fit(options, "whole", *tiny(0.192))
    fit(options, "resumed", *tiny(0.064))
    resumed = fit(options, "resumed", *tiny(0.192), "--resume", "true")
    strategy = ("--trainer.strategy", "ddp_find_unused_parameters_true")
    ddp = fit(options, "ddp", *tiny(0.192), *strategy)
    found = {"resumed": difference(whole, resumed), "ddp": difference(whole, ddp)}
    assert max(found.values()) < 1e-2, f"weights differ from those of a whole run: {found}"
    return found


def check_training(options: Options) -> dict[str, Any]:
    """Train the preset `stylegan` at a low resolution on phantoms for the time that is left."""
    resolution, batch = (16, 4) if options.small else (64, 32)
    widths = (64, 32, 16) if options.small else (8192, 512, 512)
    setting = Setting(resolution, batch, *widths, options.device, img_channels=1)
    precision = "32-true" if options.small else "bf16-mixed"
    contestant, _ = own_step("stylegan", precision, setting)
    seconds_of(contestant.step, 2)
    rate = contestant.period * batch / seconds_of(contestant.step, contestant.period)
    del contestant
    seconds = 5 if options.small else max(options.left - TRAINING_SECONDS, 1)
    # the loader, sheets and metrics take their share, lower resolutions less
    kimg = max(0.5 * rate * seconds / 1000, 0.3)
    tick = max(kimg / 24, 0.064)
    hold = {8: kimg / 16, 16: kimg / 8, 32: kimg / 8, 64: kimg / 2}
    values: dict[str, Any] = {
        "schedule.final_resolution": resolution,
        "schedule.fade_kimg": kimg / 16,
        "schedule.hold_kimg": {r: round(k, 3) for r, k in hold.items() if r <= resolution},
        "schedule.batch_size": batch,
        "schedule.tick_kimg": round(tick, 3),
        "model.init_args.ramp_kimg": [0.2 * kimg, 0.5 * kimg],
        "model.init_args.channel_base": widths[0],
        "model.init_args.channel_cap": widths[1],
        "trainer.precision": precision,
        "trainer.check_val_every_n_epoch": 4,
        "data.num_phantoms": 60 if options.small else 3800,
        "data.phantom_style": "dic",
        "data.augment": "none",
    }
    settings = ["--config", "stylegan"]
    for name, value in values.items():
        settings += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    if options.small:
        settings += ["--watch.num_images", "8", "--fidelity.metrics", "[]"]
        settings += ["--model.init_args.latent_dim", "16", "--model.init_args.w_dim", "16"]
    limit = None if options.small else max(options.left - 20, 1)
    folder = fit(options, "stylegan", *settings, seconds=limit)
    # the sheet of the training images is not named after kimg
    newest = max((folder / "samples").glob("kimg-*.png"), key=lambda each: each.name)
    shutil.copyfile(newest, options.out / "samples.png")
    if (curve := folder / "fidelity.png").exists():
        shutil.copyfile(curve, options.out / "curve.png")
    lines = (folder / "fidelity.csv").read_text().splitlines() if curve.exists() else []
    last = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True)) if lines else {}
    return {"images/s of a bare step": rate, "kimg": kimg, "samples": newest.name, "metrics": last}


CHECKS: dict[str, tuple[Callable[[Options], dict[str, Any]], float]] = {
    "correctness": (check_correctness, 20),
    "speed": (check_speed, 60),
    "extractors": (check_extractors, 20),
    "runs": (check_runs, 90),
    "training": (check_training, 90),
}
"""Checks in order, and the seconds that each needs at least."""


def machine(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "GB": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def run_checks(options: Options) -> dict[str, Any]:
    """Run all checks, with a report after each; Ctrl-C ends them."""
    report: dict[str, Any] = {"machine": machine(options.device), "seconds": {}, "failed": []}
    for name, (check, least) in CHECKS.items():
        if not options.small and options.left < least:
            report[name] = {"skipped": f"{options.left:.0f} s left, needs {least:.0f}"}
            continue
        began = time.monotonic()
        try:
            report[name] = check(options)
        # a report of what fails is the purpose
        except Exception as error:
            traceback.print_exc()
            report[name] = {"error": f"{type(error).__name__}: {error}"}
            report["failed"].append(name)
        report["seconds"][name] = round(time.monotonic() - began, 1)
        write_json(report, options.out / "report.json")
        print(f"{name}: {json.dumps(report[name], indent=1)}", flush=True)
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="new folder for the report and the runs")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="smallest networks, for a CPU")
    found = parser.parse_args(arguments)
    if found.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device: --device cpu --small runs everything on the CPU")
    if found.out.exists() and any(found.out.iterdir()):
        parser.error(f"{found.out} is not empty: choose a new folder")
    found.out.mkdir(parents=True, exist_ok=True)
    options = Options(
        found.out.resolve(),
        torch.device(found.device),
        found.small,
        time.monotonic() + 60 * found.minutes,
    )
    try:
        return 1 if run_checks(options)["failed"] else 0
    except KeyboardInterrupt:
        print(f"stopped; the checks that have ended are in {options.out / 'report.json'}")
        return 130


if __name__ == "__main__":
    sys.exit(main())
