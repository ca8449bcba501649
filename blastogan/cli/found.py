"""Configurations that are found in a run folder: data of unknown origin.

What a user types is the user's: the configuration may name any class, and the class is imported and
called. A configuration that merely lies beside a checkpoint may come from a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning.callbacks
import torch
import yaml
from torch.optim import Optimizer

import blastogan.callbacks
from blastogan.cli.yaml_text import read_yaml
from blastogan.errors import ProblemList
from blastogan.modules import ARCHITECTURES
from blastogan.runs.trust import is_own

PLAIN = {"seed_everything", "run_dir", "wandb", "scale_batch", "recipe", "resume", "weights_only"}
"""Keys at the top with a plain value; all others are groups of settings."""

PATHS = {
    "data.root",
    "data.table",
    "data.split_file",
    "data.exclude",
    "data.cache_dir",
    "transfer.checkpoint",
    "fidelity.weights",
}
"""Options with a path."""

TEXTS = ("data.columns", "data.embryo_pattern", "data.grade_map", "data.grade_pattern")
"""Options whose text may look like a path."""

CLASSES = {
    f"trainer.{name}"
    for name in ("accelerator", "callbacks", "logger", "plugins", "profiler", "strategy")
}
"""Options of the trainer that take the name of a class."""

LIGHTNING = (
    *("DeviceStatsMonitor", "EarlyStopping", "LearningRateMonitor", "ModelSummary"),
    *("RichModelSummary", "RichProgressBar", "TQDMProgressBar", "Timer"),
)
"""Lightning's callbacks that take neither functions nor paths."""

_WORD = re.compile(r"[a-z0-9_]+")
"""A short name of an accelerator, a strategy and the like; classes have capitals or dots."""

_KEY = re.compile(r"[A-Za-z_]\w*|\d+")
"""A single key; the parser would also follow dots, and append to lists by a plus."""


def place_of_run(path: Path) -> list[str]:
    """Options that undo the folders in a configuration whose run lies elsewhere by now."""
    found = yaml.safe_load(read_yaml(path))
    trainer = found.get("trainer")
    named = {
        "--run_dir": found.get("run_dir"),
        "--trainer.default_root_dir": isinstance(trainer, dict) and trainer.get("default_root_dir"),
    }
    here = path.parent.resolve()
    return [f"{option}=null" for option, v in named.items() if v and _resolved(v) != here]


def check_found(path: Path, typed: Container[str] = ()) -> None:
    """Refuse a configuration found in a run folder if it may run code or lead to other files.

    One that a run of the same user has written is not checked, see `blastogan.runs.trust`.

    Args:
        path: The configuration; its folder is that of the run.
        typed: Options that are given on the command line, such as ``--data.root``; their values
            in the file do not count.

    Raises:
        ProblemList: With every setting that is not taken from such a file.
        UserError: If the file cannot be read.
    """
    text = read_yaml(path)
    if is_own(path):
        return
    found = yaml.safe_load(text)
    # the run is where it was found, wherever that was when it was written
    for group, key in ((found, "run_dir"), (found.get("trainer"), "default_root_dir")):
        if isinstance(group, dict):
            group.pop(key, None)
    checker = _Checker(path.parent.resolve(), typed)
    if problems := list(checker.problems(found, "")):
        raise ProblemList(
            f"{path} was found, not given, and no run of yours has written it as it is. Not "
            "taken from it",
            problems,
            "Give these settings on the command line; or, if you have read the file and trust "
            f"whoever wrote it, add --config {path}",
        )


class _Checker:
    def __init__(self, folder: Path, typed: Container[str]) -> None:
        self._folder, self._typed = folder, typed

    def problems(self, value: Any, name: str) -> Iterator[str]:
        """A sentence for each setting within `value`, at the option `name`, that is refused."""
        if name in PATHS and f"--{name}" in self._typed:
            return
        if name == "data.augment" and isinstance(value, list):
            # classes are checked where they are built, whoever wrote them
            yield from self._problems_of_arguments(value, name)
        elif isinstance(value, dict):
            yield from self._problems_of_mapping(value, name)
        elif isinstance(value, list):
            for each in value:
                yield from self.problems(each, name)
        elif isinstance(value, str) and (fault := self._fault_of_text(value, name)):
            yield f"{name}: {value!r} {fault}"

    def _problems_of_mapping(self, value: dict[Any, Any], name: str) -> Iterator[str]:
        kind = value.get("class_path")
        if kind is not None:
            if not _is_known(str(kind), name):
                yield f"{name}.class_path: {kind!r} is none of the classes known"
                return
            for key in value.keys() - {"class_path", "init_args"}:
                yield f"{name}.{key}: only class_path and init_args are"
        for key, each in value.items():
            inner = f"{name}.{key}" if name else str(key)
            if not _KEY.fullmatch(str(key)):
                yield f"{inner}: this is no name of a setting"
            elif key == "schedule" and name:
                yield f"{inner}: it follows from the schedule"
            elif not name and key not in PLAIN and not isinstance(each, (dict, type(None))):
                yield f"{inner}: {each!r} is no group of settings"
            elif key != "class_path":
                yield from self.problems(each, inner)

    def _problems_of_arguments(self, value: Any, name: str) -> Iterator[str]:
        """A sentence for each text within augmentations that leads to another file."""
        if isinstance(value, dict):
            value = [each for key, each in value.items() if key != "class_path"]
        if isinstance(value, list):
            for each in value:
                yield from self._problems_of_arguments(each, name)
        elif isinstance(value, str) and (fault := self._fault_of_text(value, name)):
            yield f"{name}: {value!r} {fault}"

    def _fault_of_text(self, value: str, name: str) -> str:
        if name in CLASSES:
            known = _WORD.fullmatch(value) or _is_known(value, name)
            return "" if known else "may be a class, and is none of those known"
        if name.startswith(TEXTS):
            return ""
        # a text with a dot may be a file that the parser would read settings from
        if name not in PATHS and not re.search(r"[\\/.]|^~", value):
            return ""
        place = _resolved(value)
        inside = place is not None and place.is_relative_to(self._folder)
        return "" if inside else "leads out of the run folder"


def _resolved(path: Any) -> Path | None:
    """Where a path leads; ``None`` for a name without a home, or with a NUL."""
    try:
        return Path(str(path)).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def _is_known(kind: str, name: str) -> bool:
    """Whether a class is known for an option, by its name alone or by its full path."""
    short = kind.rpartition(".")[2]
    if name in ("model", "trainer.callbacks"):
        own = ARCHITECTURES if name == "model" else vars(blastogan.callbacks)
        found = own.get(short)
        if name == "trainer.callbacks" and short in LIGHTNING:
            found = getattr(pytorch_lightning.callbacks, short)
    elif name.endswith("_optimizer"):
        found = getattr(torch.optim, short, None)
        if not (isinstance(found, type) and issubclass(found, Optimizer)):
            return False
    else:
        return False
    if not isinstance(found, type):
        return False
    homes = {"", f"{found.__module__}.", "torch.optim.", "pytorch_lightning.callbacks."}
    return kind.removesuffix(short) in homes | {"blastogan.", "blastogan.callbacks."}
