"""``blastogan generate``: images of a trained generator as files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blastogan.errors import UserError
from blastogan.grades import CLASSES, Grade, parse_grade_counts
from blastogan.runs.folder import fresh_folder
from blastogan.utils.files import user_path
from blastogan.utils.terminal import choose_device, positive, track

if TYPE_CHECKING:
    from blastogan.generators import Generator

_log = logging.getLogger(__name__)


def generate(args: Sequence[str]) -> int:
    """Generate images into a folder."""
    options = _parser().parse_args(args)
    between = [Grade.parse(name).name for name in options.between or ()]
    if between and options.grades:
        raise UserError("--grades and --between exclude each other: give one of them")
    folder = fresh_folder(options.out)
    from blastogan.generators import load_generator

    module = load_generator(options.checkpoint).to(choose_device(options.device))
    if module.condition_weight < 1.0:
        _log.warning(
            "at %g kimg the condition weight is only %.0f %% (ramp_kimg %s): train it further",
            module.images_shown / 1000,
            100 * module.condition_weight,
            module.ramp_kimg,
        )
    if between:
        return _generate_between(module, folder, between, options)
    return _generate_grades(module, folder, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blastogan generate",
        description="Generate synthetic images with a trained generator, as PNGs in class folders "
        "with a metadata.csv; or, with --between, images on the way from one grade to another.",
    )
    add = parser.add_argument
    text = "checkpoint of a run, an export, or the name of a generator that ships in the package"
    add("checkpoint", metavar="CKPT", type=user_path, help=text)
    add("out", metavar="OUT", type=user_path, help="folder, new or empty")
    add("--count", type=positive, help="number of images; with --between, of latents")
    add(
        "--grades",
        help="balanced (default), like-data, AB or AA,CC for --count images of these, or counts "
        "such as AA:20,CC:5; Ax is ICM A and xB TE B, with the other letter as in the data; "
        f"classes are {', '.join(CLASSES)}",
    )
    text = "one latent through the grades from the first to the second"
    add("--between", nargs=2, metavar="GRADE", help=text)
    add("--steps", type=positive, default=7, help="images of --between, both grades included")
    add("--seed", type=int, default=0, help="seed of the latents")
    add("--truncation-psi", type=float, default=1.0, help="StyleGAN: below 1 for less variety")
    add("--batch-size", type=positive, default=32, help="images at a time")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser


def _generate_grades(module: Generator, folder: Path, options: argparse.Namespace) -> int:
    import torch

    from blastogan.data.export import write_predictions, write_table

    asked = options.grades or "balanced"
    count = options.count or (100 if ":" not in asked else None)
    if options.grades and not module.conditional:
        raise UserError(
            f"--grades {options.grades}: this model was trained without grades and cannot be asked "
            "for any. Leave --grades out, and give the number of images with --count"
        )
    weights = module.class_weights()
    counts = parse_grade_counts(asked, count, weights)
    unseen = [name for name in counts if not weights[name]]
    if module.conditional and unseen:
        _log.warning(
            "no image of %s was in the training data: what is generated for it is made up%s",
            ", ".join(unseen),
            " from the single letters, if those were seen" if module.settings["factorised"] else "",
        )
    names = [name for name, number in counts.items() for _ in range(number)]
    labels = torch.tensor([Grade.parse(name).labels for name in names])
    parts = torch.split(torch.arange(len(names)), options.batch_size)
    for part in track(parts, len(parts), "generating"):
        images = module.sample(
            part.tolist(), labels[part], seed=options.seed, truncation_psi=options.truncation_psi
        )
        prediction = {"image": images, "labels": labels[part], "index": part}
        write_predictions(folder, prediction, graded=module.conditional)
    write_table(folder, "generated")
    _log.info("%d generated images in %s", len(names), folder)
    return 0


def _generate_between(
    module: Generator, folder: Path, grades: Sequence[str], options: argparse.Namespace
) -> int:
    from blastogan.data.export import write_between

    images = module.interpolate(
        *grades,
        steps=options.steps,
        count=options.count or 4,
        seed=options.seed,
        truncation_psi=options.truncation_psi,
    )
    sheet = write_between(folder, images, *grades)
    _log.info("%d generated images in %s; all on %s", images[:, :, 0, 0, 0].numel(), folder, sheet)
    return 0
