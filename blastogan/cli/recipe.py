"""``blastogan recipe``, and ``blastogan fit --recipe``: settings that follow from the data."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blastogan.growth import GrowthSchedule
from blastogan.recipe.recipe import Recipe, in_yaml, make_recipe
from blastogan.recipe.rules import MODEL, SETTINGS, Choice
from blastogan.runs.folder import newest_config
from blastogan.utils.terminal import positive, write_stdout

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_log = logging.getLogger(__name__)


def recipe(args: Sequence[str]) -> int:
    """Print a recipe as a configuration, and its reasons."""
    parser = argparse.ArgumentParser(
        prog="blastogan recipe",
        description="Choose R1's gamma, the average's half-life, augmentation, conditioning and "
        "schedule from the data. Prints a configuration for blastogan fit on stdout and a table of "
        "reasons on stderr: blastogan recipe ... > my.yaml, then blastogan fit --config stylegan "
        "--config my.yaml. With a folder of images, blastogan fit --recipe true counts them.",
    )
    add = parser.add_argument
    add("--images", type=positive, required=True, help="images to train on")
    add("--resolution", type=int, required=True, help="final resolution in pixels")
    add("--batch", type=positive, default=16, help="batch at the final resolution (default: 16)")
    add("--channels", type=int, default=1, help="1 (grey, default) or 3 (RGB)")
    add("--smallest-class", type=positive, metavar="N", help="images of the rarest grade")
    add("--unconditional", action="store_true", help="train without grades")
    add("--start-resolution", type=int, default=8, help="first resolution in pixels (default: 8)")
    options = parser.parse_args(args)

    graded = not options.unconditional
    made = make_recipe(
        options.images,
        options.resolution,
        options.batch,
        options.channels,
        graded,
        options.smallest_class,
        options.start_resolution,
    )
    _log.info("%s", made.describe())
    asked = {
        "schedule.start_resolution": options.start_resolution,
        "schedule.final_resolution": options.resolution,
        f"{MODEL}.conditional": graded,
        "data.img_channels": options.channels,
    }
    choices = [Choice(setting, value, "as asked for") for setting, value in asked.items()]
    choices += made.choices
    groups = ("schedule", "model", "data", "fidelity")
    choices.sort(key=lambda choice: groups.index(choice.setting.partition(".")[0]))
    write_stdout(replace(made, choices=tuple(choices)).to_yaml())
    return 0


def follow_recipe(
    parser: ArgumentParser, args: list[str], whole: Namespace, run_name: str, devices: int
) -> list[str]:
    """Options to be added to a command line of ``fit`` for the settings of a recipe.

    A setting that is given by hand, not by a preset, keeps its value. A run that is resumed keeps
    its settings; no new recipe is made for it.

    Args:
        parser: Parser of ``blastogan``.
        args: Arguments, without ``--print_config``.
        whole: Configuration that they come to.
        run_name: Name of new runs, by which ``--resume`` finds one.
        devices: Factor by which the batches will be multiplied.

    Raises:
        UserError: If the data cannot be read.
    """
    # Lightning is loaded by now, but not for `recipe`
    from blastogan.cli.found import check_found
    from blastogan.cli.parser import run_to_resume, skip_presets

    config = whole.fit
    others = whole.clone()
    for setting in SETTINGS:
        others.fit.pop(setting, None)
    context = copy_context()
    context.run(skip_presets.set, True)
    by_hand = context.run(parser.parse_args, args, namespace=others, defaults=False)
    given = _settings(by_hand.fit)
    # the batches in the configuration of a run are scaled already
    run = None if config.scale_batch else run_to_resume(config, run_name)
    own = newest_config(run) if run else None
    if own is None:
        made = make_recipe(**_facts(config), devices=devices, given=given)
        made = _without_unknown(made, config)
        _log.info("%s", made.describe())
        values = made.values
    else:
        check_found(own)
        _log.info("a resumed run keeps its settings, from %s: no new recipe", own)
        values = _settings(parser.parse_args(["fit", f"--config={own}"]).fit) | given
    return [*(f"--{name}={in_yaml(value)}" for name, value in values.items()), "--recipe=false"]


def _settings(config: Namespace) -> dict[str, Any]:
    """Values of the settings that a recipe may choose."""
    found = ((setting, config[setting]) for setting in SETTINGS if setting in config)
    return {name: v.as_dict() if hasattr(v, "as_dict") else v for name, v in found}


def _facts(config: Namespace) -> dict[str, Any]:
    """Arguments of `make_recipe` for a configuration and its data."""
    # loads torch
    from blastogan.data import BlastocystDataModule

    start, final = config.schedule.start_resolution, config.schedule.final_resolution
    data = BlastocystDataModule(GrowthSchedule(start, final), **config.data.as_dict())
    # leave warnings to the fit, which reads the same data again
    logger = logging.getLogger("blastogan.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        data.setup("predict")  # reads labels only
    finally:
        logger.setLevel(level)
    counts = [count for count in data.class_counts("train").values() if count]
    batch = config.schedule.batch_size
    if isinstance(batch, dict):
        batch = batch.get(final, batch[max(batch)])
    model = config.model.init_args
    return {
        "num_images": len(data.split["train"]),
        "resolution": final,
        "batch_size": batch,
        "img_channels": data.img_channels,
        "conditional": model.get("conditional", True) and len(counts) > 1,
        "smallest_class": min(counts, default=None),
        "start_resolution": start,
        "loss": model.get("loss", "logistic"),
        "regularizer": model.get("regularizer", "r1"),
    }


def _without_unknown(made: Recipe, config: Namespace) -> Recipe:
    """The recipe without settings that the model does not have."""
    names = {f"{MODEL}.{name}" for name in config.model.init_args.as_dict()}
    lacking = [s for s in made.values if s.startswith(MODEL) and s not in names]
    if not lacking:
        return made
    kind = config.model.class_path.rpartition(".")[2]
    note = f"left out, since {kind} has no such setting: {', '.join(lacking)}"
    choices = tuple(choice for choice in made.choices if choice.setting not in lacking)
    return replace(made, choices=choices, notes=(*made.notes, note))
