"""``blastogan evaluate``: compare generated images of any origin with real ones."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blastogan.errors import UserError
from blastogan.metrics.specs import METRICS, PIXEL_METRICS, describe_metrics
from blastogan.utils.files import user_path, write_json
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
    from blastogan.evaluation import ComparedSet, FidelityEvaluator
    from blastogan.metrics.report import FidelityReport
    from blastogan.metrics.statistics import SetStatistics

FAKES = 50_000  # images that a checkpoint generates by default

_log = logging.getLogger(__name__)


def evaluate(args: Sequence[str]) -> int:
    """Compare two sets of images; print the metrics and write them if asked."""
    options = _parser().parse_args(args)
    _check_paths(options)
    _check_metrics(options)
    crop = _crop(options)
    from blastogan.evaluation import Gatherer, open_sets
    from blastogan.metrics.cache import save_statistics
    from blastogan.utils.workers import available_cores

    device = choose_device(options.device)
    settings = {"resolution": options.resolution, "count": options.count or FAKES, "crop": crop}
    settings["colour"] = options.colour
    sets = open_sets(options.real, options.fake, seed=options.seed, device=device, **settings)
    evaluator = _evaluator(options, sets, device)
    workers = min(available_cores(), 8) if options.workers is None else max(options.workers, 0)
    gatherer = Gatherer(evaluator, options.batch_size, workers, not options.no_cache)
    reals = gatherer.real(sets[0])
    if options.save_real:
        _log.info("statistics in %s", save_statistics(reals, options.save_real))
    fakes = gatherer.fake(sets[1])
    if options.save_fake:
        _log.info("statistics in %s", save_statistics(fakes, options.save_fake))
    report = evaluator.compare(reals, fakes)
    report.notes[:0] = _notes(options, sets, (reals, fakes))
    if not report.values:
        raise UserError("nothing could be measured:\n" + "\n".join(report.notes))
    try:
        if options.json:
            given = {"real": options.real, "fake": options.fake, "seed": options.seed}
            write_json({**report.to_json(), **given, "metrics": evaluator.metrics}, options.json)
            _log.info("numbers in %s", options.json)
    finally:
        # last, as a console may fail; but also if the file could not be written
        _show(report, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blastogan evaluate",
        description="Measure how close generated images come to real ones. Nothing is overwritten.",
        epilog=f"metrics:\n{describe_metrics()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    text = "folder of real images, or a file that --save-real wrote"
    add("real", metavar="REAL", type=user_path, help=text)
    add(
        "fake",
        metavar="FAKE",
        type=user_path,
        help="folder of generated images of any origin, a file that --save-fake wrote, or a "
        "checkpoint of a GAN or its export as .safetensors, which then generates",
    )
    add(
        "--extractor",
        help="network whose features are compared: auto (default: inception-clean or "
        "efficientnet-lite0, the first whose weights are on this machine), inception-legacy, "
        "grader, one of torch-fidelity, or none",
    )
    text = "weights of the extractor instead of the published ones"
    add("--weights", metavar="FILE", type=user_path, help=text)
    add("--metrics", help=f"any of {','.join(METRICS)} (default: all that can be measured)")
    add("--kid-subset-size", type=positive, default=1000, help="images in a subset for KID")
    add("--seed", type=int, default=0, help="seed of subsets, samples, halves, and latents")
    add(
        "--resolution",
        type=positive,
        metavar="R",
        help="resize the centre square of images in folders to R pixels, as training does "
        "(default: images as they are; with a checkpoint, its resolution)",
    )
    add_crop(add, "square of the real images; with a checkpoint, that of its training")
    parser.set_defaults(crop=None, crop_margin=None)
    text = "colours of the real images (default: keep; with a checkpoint, as in its training)"
    add("--colour", choices=("keep", "grey", "balance"), help=text)
    add("--count", type=positive, help=f"images that a checkpoint generates (default {FAKES})")
    add("--batch-size", type=positive, default=32, help="images per batch")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--workers", type=int, help="processes that decode images (default: one per core)")
    add("--json", metavar="FILE", type=user_path, help="write all numbers")
    for name in ("real", "fake"):
        text = f"write statistics of the {name}s; holds no image"
        add(f"--save-{name}", metavar="FILE.npz", type=user_path, help=text)
    add("--no-cache", action="store_true", help="do not cache the features of REAL")
    return parser


def _check_paths(options: argparse.Namespace) -> None:
    kinds = "a folder of images, or a .npz file that --save-real or --save-fake wrote"
    for name, text in (("REAL", options.real), ("FAKE", options.fake)):
        expected = kinds if name == "REAL" else f"{kinds}, or a .ckpt or .safetensors file of a GAN"
        generates = name == "FAKE" and is_checkpoint(text)
        if not Path(text).exists():
            raise UserError(f"{name} {text} does not exist: expected {expected}")
        if not (Path(text).is_dir() or is_statistics(text) or generates):
            raise UserError(f"{name} {text} is a file: expected {expected}")
    if options.count and not is_checkpoint(options.fake):
        remedy = f"omit it, all images of {options.fake} are used"
        raise UserError(f"--count {options.count} is for a checkpoint, which generates: {remedy}")
    if options.weights and not Path(options.weights).is_file():
        raise UserError(f"no file {options.weights}: --weights expects those of the extractor")
    statistics = {"--save-real": options.save_real, "--save-fake": options.save_fake}
    check_outputs({"--json": options.json, **statistics})
    for path in filter(None, statistics.values()):
        if Path(path).suffix.lower() != ".npz":
            raise UserError(f"statistics are written to .npz files, got {path}: rename it")


def _check_metrics(options: argparse.Namespace) -> None:
    """Refuse impossible metrics; make `options.metrics` a tuple of names or None."""
    if options.metrics is not None:
        options.metrics = tuple(name.strip() for name in options.metrics.split(","))
    need_features = set(options.metrics or ()) - set(PIXEL_METRICS)
    pixels_only = options.extractor == "none" or bool(options.metrics and not need_features)
    files = [path for path in (options.real, options.fake) if is_statistics(path)]
    if need_features and options.extractor == "none" and len(files) < 2:
        names = ", ".join(sorted(need_features))
        raise UserError(f"--extractor none with --metrics {names}: these need an extractor")
    if pixels_only and len(files) == 1:
        remedy = "use the extractor it was made with, or the folder of the images"
        raise UserError(f"{files[0]} holds features and no images: {remedy}")
    if pixels_only and len(files) < 2 and (options.save_real or options.save_fake):
        raise UserError("--save-real and --save-fake write features: these need an extractor")


def _crop(options: argparse.Namespace) -> Crop | None:
    """The crop that the user chose, if any."""
    from blastogan.data.images.framing import Crop

    if options.crop_margin is None:
        return Crop(options.crop) if options.crop else None
    if options.crop != "embryo":
        given = f"--crop-margin {options.crop_margin:g}"
        raise UserError(f"{given} is the room around the embryo: add --crop embryo, or omit it")
    return Crop(options.crop, options.crop_margin)


@dataclass
class _Recorded:
    """The extractor that made two files of statistics; it is never run again."""

    label: str
    key: str
    dim: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        raise AssertionError("files hold no images")


def _evaluator(
    options: argparse.Namespace, sets: Sequence[ComparedSet], device: str
) -> FidelityEvaluator:
    from blastogan.evaluation import FidelityEvaluator
    from blastogan.metrics.extractors import AUTO, EXTRACTORS
    from blastogan.metrics.statistics import SetStatistics

    extractor: str | _Recorded = options.extractor or AUTO
    files = [each for each in sets if isinstance(each, SetStatistics)]
    if files and extractor == AUTO and files[0].extractor in EXTRACTORS:
        extractor = files[0].extractor
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
        optional=options.extractor in (None, AUTO) and options.metrics is None and not keeps,
    )
    found = evaluator.extractor
    if len(files) == 1 and found is not None and found.key != files[0].extractor_key:
        # `compare` refuses this too, but after all the work
        raise UserError(
            f"the statistics are of {files[0].extractor}, the images would be compared by "
            f"{found.label} (or another version, or other weights): gather both with one "
            "extractor; --extractor and --weights choose it"
        )
    return evaluator


def _notes(
    options: argparse.Namespace, sets: Sequence[ComparedSet], statistics: Sequence[SetStatistics]
) -> list[str]:
    """Notes that the evaluator cannot write, a sentence each."""
    from blastogan.evaluation import crop_notes
    from blastogan.metrics.statistics import SetStatistics

    reals, fakes = sets
    notes = crop_notes(reals, fakes, options.crop is not None)
    if Path(options.real).resolve() == Path(options.fake).resolve():
        notes.append("REAL and FAKE are the same set: the numbers say nothing about a generator")
    for name, each in zip(("REAL", "FAKE"), sets, strict=True):
        if not isinstance(each, SetStatistics):
            notes += [f"{name}: {each.note}"] if each.note else []
        elif each.features is None:
            notes.append(f"{name} holds moments and no features: they give FID alone")
    lossy = [each.lossy for each in sets if not isinstance(each, SetStatistics)]
    if len(set(lossy)) == 2:
        jpeg, other = ("real", "generated") if lossy[0] else ("generated", "real")
        remedy = "" if lossy[0] else "; save generated images as PNG"
        difference = f"the {jpeg} images are JPEG and the {other} ones are not"
        notes.append(f"{difference}: a part of the distances is compression{remedy}")
    real, fake = (_size(each.shape) for each in statistics)
    if real != fake:
        notes.append(
            f"real images are {real}, generated ones {fake}: the distances contain the difference "
            "of detail; --resolution R resizes folders to one size"
        )
    return notes


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[-1]}x{shape[-2]}"


def _show(report: FidelityReport, options: argparse.Namespace) -> None:
    title = (
        f"{report.n_real} real images ({options.real}) and {report.n_fake} generated images "
        f"({options.fake}), {_size(report.shape)} pixels, extractor {report.extractor}"
    )
    tables: list[Table] = [(("metric", "value"), [line[:2] for line in report.lines()])]
    if report.floor:
        floor = f"real half against real half ({' and '.join(map(str, report.floor['n']))})"
        tables = [(("metric", "value", floor), report.lines())]
    if report.classes:
        header = ("class", "real", "generated", "KID x 1000 (95 % interval)")
        rows = [
            (name, str(row["n_real"]), str(row["n_fake"]), report.class_text(name))
            for name, row in report.classes.items()
        ]
        tables.append((header, rows))
    show_tables(title, tables, report.notes)
