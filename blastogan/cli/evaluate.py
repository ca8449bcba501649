"""``blastogan evaluate``: how close images from anywhere come to real ones."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blastogan.errors import UserError
from blastogan.utils.files import write_json
from blastogan.utils.terminal import (
    Table,
    add_crop,
    check_outputs,
    choose_device,
    is_checkpoint,
    is_statistics,
    positive,
    show_tables,
)

if TYPE_CHECKING:
    from torch import Tensor

    from blastogan.data.images.framing import Crop
    from blastogan.evaluation.comparison import Side
    from blastogan.metrics.fidelity import FidelityEvaluator
    from blastogan.metrics.report import FidelityReport
    from blastogan.metrics.statistics import SetStatistics

FAKES = 50_000
"""Images that are generated from a checkpoint, unless asked for another number."""

_log = logging.getLogger(__name__)


def evaluate(args: Sequence[str]) -> int:
    """Compare two sets of images; print and write what was measured."""
    options = _parser().parse_args(args)
    _check_paths(options)
    _check_metrics(options)
    crop = _crop(options)
    from blastogan.evaluation.comparison import Gatherer, open_sides
    from blastogan.utils.workers import available_cores

    device = choose_device(options.device)
    sides = open_sides(
        options.real,
        options.fake,
        resolution=options.resolution,
        count=options.count or FAKES,
        seed=options.seed,
        device=device,
        crop=crop,
    )
    evaluator = _evaluator(options, sides, device)
    workers = min(available_cores(), 8) if options.workers is None else max(options.workers, 0)
    gatherer = Gatherer(evaluator, options.batch_size, workers, not options.no_cache)
    reals = gatherer.real(sides[0])
    _save(reals, options.save_real)
    fakes = gatherer.fake(sides[1])
    _save(fakes, options.save_fake)
    notes = _notes(options, sides, (reals, fakes))
    report = evaluator.compare(reals, fakes)
    report.notes[:0] = notes
    if not report.values:
        raise UserError("nothing could be measured:\n" + "\n".join(report.notes))
    _show(report, options)
    if options.json:
        given = {"real": options.real, "fake": options.fake, "seed": options.seed}
        write_json({**report.to_json(), **given, "metrics": evaluator.metrics}, options.json)
        _log.info("numbers in %s", options.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blastogan evaluate",
        description="Measure how close generated images come to real ones: FID, KID, precision, "
        "recall, density, coverage, sliced Wasserstein distance, MS-SSIM, and KID by class where "
        "both sides are graded. Nothing is overwritten.",
    )
    add = parser.add_argument
    add("real", metavar="REAL", help="folder of real images, or a file that --save-real wrote")
    add(
        "fake",
        metavar="FAKE",
        help="folder of generated images of any origin, a file that --save-fake wrote, or a "
        "checkpoint of a GAN, which then generates",
    )
    add(
        "--extractor",
        help="network whose features are compared: inception-clean (default), inception-legacy, "
        "grader, a name of torch-fidelity, or none",
    )
    add("--weights", metavar="FILE", help="weights of the extractor, where not the published ones")
    add(
        "--metrics",
        help="any of fid,kid,precision,recall,density,coverage,swd,ms_ssim,classes (default: all "
        "that can be had)",
    )
    add("--kid-subset-size", type=positive, default=1000, help="images in a subset for KID")
    add("--seed", type=int, default=0, help="of subsets, samples, halves, and latents")
    add(
        "--resolution",
        type=positive,
        metavar="R",
        help="crop the centre square of images in folders and resize it to R pixels, as training "
        "does (default: images as they are; with a checkpoint, its resolution)",
    )
    add_crop(add, "square of the real images; with a checkpoint, that of its training")
    parser.set_defaults(crop=None, crop_margin=None)
    add("--count", type=positive, help=f"images that a checkpoint generates (default {FAKES})")
    add("--batch-size", type=positive, default=32, help="images at a time")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--workers", type=int, help="processes that decode images (default: one to a core)")
    add("--json", metavar="FILE", help="write all numbers")
    add("--save-real", metavar="FILE.npz", help="write the real side; holds no image")
    add("--save-fake", metavar="FILE.npz", help="write the side of the fakes; holds no image")
    add("--no-cache", action="store_true", help="look at REAL anew, and keep nothing of it")
    return parser


# -- what can be told before any work -----------------------------------------------------------


def _check_paths(options: argparse.Namespace) -> None:
    kinds = "a folder of images, or a .npz file that --save-real or --save-fake wrote"
    for name, text in (("REAL", options.real), ("FAKE", options.fake)):
        expected = kinds if name == "REAL" else f"{kinds}, or a .ckpt file of a GAN"
        generates = name == "FAKE" and is_checkpoint(text)
        if not Path(text).exists():
            raise UserError(f"{name} {text} does not exist: expected {expected}")
        if not (Path(text).is_dir() or is_statistics(text) or generates):
            raise UserError(f"{name} {text} is a file: expected {expected}")
    if options.count and not is_checkpoint(options.fake):
        raise UserError(
            f"--count {options.count} is for a checkpoint, which generates so many; {options.fake} "
            "is taken as a whole: leave it out"
        )
    if options.weights and not Path(options.weights).expanduser().is_file():
        raise UserError(f"no file {options.weights}: --weights takes that of the extractor")
    statistics = {"--save-real": options.save_real, "--save-fake": options.save_fake}
    check_outputs({"--json": options.json, **statistics})
    for path in filter(None, statistics.values()):
        if Path(path).suffix.lower() != ".npz":
            raise UserError(f"statistics are written to .npz files, got {path}: name it so")


def _check_metrics(options: argparse.Namespace) -> None:
    """Refuse metrics that cannot be had, and make `options.metrics` a tuple of names or None."""
    from blastogan.metrics.pixels import PIXEL_METRICS

    if options.metrics is not None:
        options.metrics = tuple(name.strip() for name in options.metrics.split(","))
    of_features = set(options.metrics or ()) - set(PIXEL_METRICS)
    blind = options.extractor == "none" or bool(options.metrics and not of_features)
    files = [path for path in (options.real, options.fake) if is_statistics(path)]
    if of_features and options.extractor == "none" and len(files) < 2:
        names = ", ".join(sorted(of_features))
        raise UserError(f"--extractor none and --metrics {names}: these need an extractor")
    if blind and len(files) == 1:
        raise UserError(
            f"{files[0]} holds features and no images: compare it by the extractor it was made "
            "with, or give the folder of the images"
        )
    if blind and len(files) < 2 and (options.save_real or options.save_fake):
        raise UserError("--save-real and --save-fake keep features: these need an extractor")


def _crop(options: argparse.Namespace) -> Crop | None:
    """The crop that the user chose, if any."""
    from blastogan.data.images.framing import Crop

    if options.crop_margin is None:
        return Crop(options.crop) if options.crop else None
    if options.crop != "embryo":
        raise UserError(
            f"--crop-margin {options.crop_margin:g} is room around the embryo: add --crop embryo, "
            "or leave it out"
        )
    return Crop(options.crop, options.crop_margin)


# -- the work -----------------------------------------------------------------------------------


@dataclass
class _Recorded:
    """The extractor of two files: what it saw is in them, and it looks at nothing more."""

    label: str
    key: str
    dim: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        raise AssertionError("files hold no images")


def _evaluator(
    options: argparse.Namespace, sides: Sequence[Side], device: str
) -> FidelityEvaluator:
    from blastogan.metrics.fidelity import METRICS, FidelityEvaluator
    from blastogan.metrics.statistics import SetStatistics

    extractor: str | _Recorded = options.extractor or "inception-clean"
    files = [side for side in sides if isinstance(side, SetStatistics)]
    if len(files) == 2:
        extractor = _Recorded(files[0].extractor, files[0].extractor_key)
    keeps = files or options.save_real or options.save_fake
    evaluator = FidelityEvaluator(
        extractor,
        weights=options.weights,
        metrics=options.metrics or METRICS,
        kid_subset_size=options.kid_subset_size,
        seed=options.seed,
        device=device,
        optional=options.extractor is None and options.metrics is None and not keeps,
    )
    found = evaluator.extractor
    if len(files) == 1 and found is not None and found.key != files[0].extractor_key:
        # `compare` would say so too, after the work
        raise UserError(
            f"the statistics come from {files[0].extractor}, the images would be seen by "
            f"{found.label} (or it is another version or other weights): gather both with one "
            "extractor; --extractor and --weights choose it"
        )
    return evaluator


# -- what comes out -----------------------------------------------------------------------------


def _notes(
    options: argparse.Namespace, sides: Sequence[Side], statistics: Sequence[SetStatistics]
) -> list[str]:
    """What the evaluator cannot know, a sentence each."""
    from blastogan.evaluation.comparison import crop_notes
    from blastogan.metrics.statistics import SetStatistics

    notes = crop_notes(sides, chosen=options.crop is not None)
    if Path(options.real).resolve() == Path(options.fake).resolve():
        notes.append("REAL and FAKE are the same set: the numbers say nothing of a generator")
    for name, side in zip(("REAL", "FAKE"), sides, strict=True):
        if not isinstance(side, SetStatistics):
            notes += [f"{name}: {side.note}"] if side.note else []
        elif side.features is None:
            notes.append(f"{name} holds moments and no features: they give FID alone")
    lossy = [side.lossy for side in sides if not isinstance(side, SetStatistics)]
    if lossy == [True, False]:
        notes.append(
            "the real images are JPEG and the generated ones are not: a part of the distances is "
            "compression"
        )
    if lossy == [False, True]:
        notes.append(
            "the generated images are JPEG and the real ones are not: a part of the distances is "
            "compression; save generated images as PNG"
        )
    reals, fakes = statistics
    if reals.shape[1:] != fakes.shape[1:]:
        notes.append(
            f"real images are {_size(reals.shape)}, generated ones {_size(fakes.shape)}: the "
            "distances contain the difference of detail; --resolution R brings folders to one size"
        )
    return notes


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[-1]}x{shape[-2]}"


def _show(report: FidelityReport, options: argparse.Namespace) -> None:
    title = (
        f"{report.n_real} real images ({options.real}) and {report.n_fake} generated images "
        f"({options.fake}), {_size(report.shape)} pixels, extractor {report.extractor}"
    )
    tables: list[Table] = []
    if report.floor:
        sizes = " and ".join(map(str, report.floor["n"]))
        floor = f"real half against real half ({sizes})"
        tables.append((("metric", "value", floor), report.lines()))
    else:
        tables.append((("metric", "value"), [line[:2] for line in report.lines()]))
    if report.classes:
        header = ("class", "real", "generated", "KID x 1000 (95 % interval)")
        rows = [
            (name, str(row["n_real"]), str(row["n_fake"]), report.class_text(name))
            for name, row in report.classes.items()
        ]
        tables.append((header, rows))
    show_tables(title, tables, report.notes)


def _save(statistics: SetStatistics, path: str | None) -> None:
    from blastogan.metrics.cache import save_statistics

    if path:
        _log.info("statistics in %s", save_statistics(statistics, path))
