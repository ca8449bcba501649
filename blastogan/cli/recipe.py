"""``blastogan recipe``, and ``blastogan fit --recipe``: settings that follow from the data."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.presets import FOLDER
from blastogan.recipe.recipe import Recipe, make_recipe, write_yaml
from blastogan.recipe.rules import MODEL, SETTINGS, Choice
from blastogan.runs.folder import newest_config, newest_run, run_of_checkpoint
from blastogan.utils.terminal import positive

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_log = logging.getLogger(__name__)

CONFIG = ("--config", "-c")
GROUPS = ("schedule", "model", "data", "fidelity")


def recipe(args: Sequence[str]) -> int:
    """Print a recipe as a configuration, and why it is so."""
    parser = argparse.ArgumentParser(
        prog="blastogan recipe",
        description="Choose R1's gamma, the average's half-life, augmentation, conditioning and "
        "schedule by the data. On stdout comes a configuration for blastogan fit, on stderr a "
        "table: blastogan recipe ... > my.yaml, then blastogan fit --config stylegan --config "
        "my.yaml. With a folder of images, blastogan fit --recipe true counts them itself.",
    )
    add = parser.add_argument
    add("--images", type=positive, required=True, help="images to train on")
    add("--resolution", type=int, required=True, help="final resolution in pixels")
    add("--batch", type=positive, default=16, help="batch at the final resolution (default: 16)")
    add("--channels", type=int, default=1, help="1 (grey, default) or 3 (RGB)")
    add("--smallest-class", type=positive, metavar="N", help="images of the rarest grade")
    add("--unconditional", action="store_true", help="the model is told no grades")
    add("--start-resolution", type=int, default=8, help="first resolution in pixels (default: 8)")
    options = parser.parse_args(args)

    made = make_recipe(
        options.images,
        options.resolution,
        options.batch,
        options.channels,
        not options.unconditional,
        options.smallest_class,
        options.start_resolution,
    )
    _log.info("%s", made.describe())
    asked = {
        "schedule.start_resolution": options.start_resolution,
        "schedule.final_resolution": options.resolution,
        f"{MODEL}.conditional": not options.unconditional,
        "data.img_channels": options.channels,
    }
    choices = [Choice(setting, value, "as asked for") for setting, value in asked.items()]
    choices += made.choices
    choices.sort(key=lambda choice: GROUPS.index(choice.setting.partition(".")[0]))
    sys.stdout.write(replace(made, choices=tuple(choices)).to_yaml())
    return 0


def follow_recipe(
    parser: ArgumentParser,
    args: Sequence[str],
    run_name: str,
    count_devices: Callable[[Any], int],
) -> list[str]:
    """A command line in which a recipe, if it is asked for, has become a configuration.

    It comes after the presets and before all that is given by hand, which wins. A run that goes on
    keeps what it has in the place of a recipe.

    Args:
        parser: Of ``blastogan fit``.
        args: Its arguments, with presets by their files.
        run_name: Name of new runs, by which ``--resume`` finds one.
        count_devices: Number of devices by the settings of the trainer.

    Raises:
        UserError: If the data cannot be read, or with another command than ``fit``.
    """
    if not _mentions_recipe(args):
        return list(args)
    command, presets, others = _sort_out(args)
    config = _parse(parser, [command, *presets, *others])
    if command != "fit" and any(arg.partition("=")[0] == "--recipe" for arg in args):
        raise UserError("--recipe is of fit: elsewhere, give the config.yaml of the run")
    if command != "fit" or not config.recipe:
        return list(args)

    def with_recipe(text: str) -> list[str]:
        # the class stands nowhere, if there is no preset
        kind = f"--config=model: {{class_path: {config.model.class_path}}}"
        return [command, *presets, kind, f"--config={text}", *others, "--recipe=false"]

    own = _config_of_run(config, run_name)
    if own is not None:
        _log.info("a run that goes on keeps its settings, those in %s: no new recipe", own)
        run = _parse(parser, [command, f"--config={own}"])
        kept = [Choice(s, _plain(run[s]), "as before") for s in SETTINGS if s in run]
        return with_recipe(write_yaml(kept))

    facts = _facts(config)
    if config.scale_batch:
        facts["devices"] = count_devices(config.trainer)
    given: dict[str, Any] = {}
    while True:
        made = _known(make_recipe(**facts, given=given), config)
        settled = _parse(parser, with_recipe(made.to_yaml()))
        found = {setting: _plain(settled[setting]) for setting in made.values}
        by_hand = {key: value for key, value in found.items() if value != made.values[key]}
        if by_hand.keys() <= given.keys():
            break
        # what else was chosen may follow from these
        given |= by_hand
    _log.info("%s", made.describe())
    return with_recipe(made.to_yaml())


def _mentions_recipe(args: Sequence[str]) -> bool:
    """Whether a recipe may be asked for: parsing takes a while, and most runs ask for none."""
    texts = [*args]
    for arg in args:
        path = Path(arg.partition("=")[2] or arg)
        if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return any("recipe" in text for text in texts)


def _parse(parser: ArgumentParser, args: Sequence[str]) -> Namespace:
    """What a command line comes to; it is printed when all is settled, if it is to be."""
    silent = [arg for arg in args if not arg.startswith("--print_config")]
    config: Namespace = parser.parse_args(silent)[args[0]]
    return config


def _sort_out(args: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """The command, its presets, and all else, which is given by hand; both in order."""
    command, *rest = args
    presets: list[str] = []
    others: list[str] = []
    while rest:
        arg = rest.pop(0)
        option, _, value = arg.partition("=")
        taken = [arg]
        if option in CONFIG and not value and rest:
            value = rest.pop(0)
            taken.append(value)
        is_preset = option in CONFIG and Path(value).parent == FOLDER
        (presets if is_preset else others).extend(taken)
    return command, presets, others


def _config_of_run(config: Namespace, run_name: str) -> Path | None:
    """Configuration of the run that is to go on; none if its batches would be scaled twice."""
    if config.scale_batch:
        return None
    if config.ckpt_path:
        return newest_config(run_of_checkpoint(config.ckpt_path))
    if not config.resume:
        return None
    asked = config.run_dir or config.trainer.default_root_dir
    folder = Path(asked) if asked else newest_run(run_name)
    return newest_config(folder) if folder else None


def _facts(config: Namespace) -> dict[str, Any]:
    """What a recipe follows from, by the arguments of `make_recipe`."""
    # which loads torch
    from blastogan.data import BlastocystDataModule

    start, final = config.schedule.start_resolution, config.schedule.final_resolution
    data = BlastocystDataModule(GrowthSchedule(start, final), **config.data.as_dict())
    with _silence("blastogan.data"):
        # labels alone
        data.setup("predict")
    counts = [count for count in data.class_counts("train").values() if count]
    batch = config.schedule.batch_size
    if isinstance(batch, dict):
        batch = batch.get(final, batch[max(batch)])
    of_model = config.model.init_args
    told = of_model.get("conditional", True)
    return {
        "num_images": sum(counts),
        "resolution": final,
        "batch_size": batch,
        "img_channels": data.img_channels,
        "conditional": told and len(counts) > 1,
        "smallest_class": min(counts, default=None),
        "start_resolution": start,
        "loss": of_model.get("loss", "logistic"),
        "regularizer": of_model.get("regularizer", "r1"),
    }


@contextmanager
def _silence(name: str) -> Iterator[None]:
    """Leave warnings to the fit, which reads the same data again."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _known(made: Recipe, config: Namespace) -> Recipe:
    """The recipe without what the model has no setting for."""
    names = {f"{MODEL}.{name}" for name in config.model.init_args.as_dict()}
    lacking = [s for s in made.values if s.startswith(MODEL) and s not in names]
    if not lacking:
        return made
    kind = config.model.class_path.rpartition(".")[2]
    note = f"left out, since {kind} has no such setting: {', '.join(lacking)}"
    choices = tuple(choice for choice in made.choices if choice.setting not in lacking)
    return replace(made, choices=choices, notes=(*made.notes, note))


def _plain(value: Any) -> Any:
    return value.as_dict() if hasattr(value, "as_dict") else value
