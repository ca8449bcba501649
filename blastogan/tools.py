"""``blastogan generate``: images from a checkpoint as files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from blastogan.grades import CLASSES, Grade, parse_grade_counts
from blastogan.run_folder import fresh_folder
from blastogan.terminal import choose_device, positive, track

_log = logging.getLogger(__name__)


def generate(args: Sequence[str]) -> int:
    """Generate images from a checkpoint into a folder."""
    parser = argparse.ArgumentParser(
        prog="blastogan generate",
        description="Generate synthetic images from a checkpoint, as PNGs in class folders with "
        "a metadata.csv.",
    )
    parser.add_argument("checkpoint", metavar="CKPT", help="checkpoint of a run")
    parser.add_argument("out", metavar="OUT", help="folder, new or empty")
    parser.add_argument("--count", type=positive, help="number of images")
    parser.add_argument(
        "--grades",
        default="balanced",
        help=f"balanced, like-data, or such as AA:20,CC:5; classes are {', '.join(CLASSES)}",
    )
    parser.add_argument("--seed", type=int, default=0, help="latent n of a seed is always the same")
    parser.add_argument(
        "--truncation-psi", type=float, default=1.0, help="StyleGAN: below 1 for less variety"
    )
    parser.add_argument("--batch-size", type=positive, default=32, help="images at a time")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    options = parser.parse_args(args)

    folder = fresh_folder(options.out)
    import torch

    from blastogan.callbacks.image_writer import write_predictions
    from blastogan.data.export import write_table
    from blastogan.modules import load_module

    module = load_module(options.checkpoint).to(choose_device(options.device))
    count = options.count or (100 if ":" not in options.grades else None)
    counts = parse_grade_counts(options.grades, count, module.class_weights())
    if not module.conditional:
        _log.warning("this model was trained without grades: they are names of folders only")
    weights = module.class_weights()
    unseen = [name for name in counts if not weights[name]]
    if module.conditional and unseen:
        _log.warning(
            "no image of %s was in the training data: what is generated for it is made up from "
            "the single letters, if those were seen",
            ", ".join(unseen),
        )
    names = [name for name, number in counts.items() for _ in range(number)]
    labels = torch.tensor([Grade.parse(name).labels for name in names])
    parts = torch.split(torch.arange(len(names)), options.batch_size)
    for part in track(parts, len(parts), "generating"):
        images = module.sample(
            part.tolist(), labels[part], seed=options.seed, truncation_psi=options.truncation_psi
        )
        write_predictions(folder, {"image": images, "labels": labels[part], "index": part})
    write_table(folder, "generated")
    _log.info("%d generated images in %s", len(names), folder)
    return 0
