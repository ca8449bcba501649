"""The parser of ``blastogan fit`` and ``blastogan grade``: presets, retired options, one hint."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]
from pytorch_lightning.cli import LightningArgumentParser

from blastogan.cli.yaml_text import read_yaml
from blastogan.errors import UserError
from blastogan.presets import FOLDER, find_config
from blastogan.runs.folder import newest_run, run_of_checkpoint
from blastogan.utils.files import user_path
from blastogan.utils.version import describe_version

RETIRED: dict[str, dict[str, str]] = {
    "data.residence": {},
    "watch.on_leak": {},
    "watch.max_rollbacks": {},
    "watch.on_nan": {"roll_back": "stop"},
    "watch.on_collapse": {"roll_back": "stop"},
}
"""Retired options, ``{}``, or their retired values with what replaces each. In a configuration they
are dropped or replaced, so that old runs can be resumed; on the command line they are errors."""

NOT_FALSE = ("wandb", "compile_mode")
"""Options with a value ``off``."""

_UNKNOWN = re.compile(
    r"unrecognized arguments: --(?P<typed>[^\s=]+)"
    r"|[Oo]ption '(?P<class>[\w.-]+)' is not accepted|not accept option '(?P<key>[\w.-]+)'"
)
skip_presets = ContextVar("skip_presets", default=False)
"""Whether to parse as if no preset were given."""


class RunParser(LightningArgumentParser):
    """A parser with short messages, whose ``--config`` knows presets and old configurations."""

    classes: dict[str, Sequence[type]] = {}  # noqa: RUF012
    """Classes whose arguments a hint may suggest, by the prefix of their options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # no list of hundreds of options before each message
        super().__init__(*args, usage="%(prog)s", **kwargs)
        self.dump_header = [*(self.dump_header or ()), describe_version()]

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Add an argument; a configuration file becomes a `ConfigFile`."""
        if kwargs.get("action") is ActionConfigFile:
            text = "Preset or configuration file; of several, later ones win."
            kwargs.update(action=ConfigFile, help=text)
        return super().add_argument(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print a message, for an unknown option with the option that was meant, and exit.

        Raises:
            UserError: Instead, with ``exit_on_error=False``.
        """
        if found := _UNKNOWN.search(message):
            name = found["typed"] or found["class"] or found["key"]
            typed = [arg.partition("=")[0] for arg in getattr(self, "args", ())]
            # for a typing error too, the parser's message lists all that a class may be
            if option := next((each for each in typed if each[:2] == "--" and name in each), None):
                message = f"unknown option {option}"
            if meant := self._closest(name):
                message += f" (did you mean --{meant}?)"
        if not self.exit_on_error:
            raise UserError(message) from ex
        super().error(message, ex)

    def _closest(self, name: str) -> str | None:
        """Option whose last word is most like that of `name`."""
        parsers = [self]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
        # links set the options of schedules
        names = [each for parser in parsers for each in parser._option_string_actions]
        options = [n[2:] for n in names if n.startswith("--") and ".schedule." not in n]
        for prefix, classes in self.classes.items():
            for each in classes:
                arguments = ArgumentParser()
                arguments.add_class_arguments(each, fail_untyped=False)
                options += [f"{prefix}.{key}" for key in vars(arguments.get_defaults())]
        by_word = {option.rpartition(".")[2]: option for option in reversed(options)}
        wanted = name.rpartition(".")[2].replace("-", "_")
        near = get_close_matches(wanted, by_word, n=1, cutoff=0.8)
        return by_word[near[0]] if near else None


class ConfigFile(ActionConfigFile):
    """``--config``: a preset by its bare name, or a file, without retired options."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
        """Add the settings of a configuration to those before it."""
        path = find_config(user_path(values))
        if not (skip_presets.get() and path.parent == FOLDER):
            text, _ = without_retired(path)
            self.apply_config(parser, cfg, self.dest, text or str(path))


def without_retired(path: Path) -> tuple[str | None, list[str]]:
    """Text of a configuration without its retired options, ``None`` if it can be read as it is.

    Returns:
        The text, and the changes.

    Raises:
        UserError: See `read_yaml`.
    """
    text = read_yaml(path)
    root = yaml.compose(text)
    changes, as_it_is = [], not _keep_off(root) and text.encode() == path.read_bytes()
    for group, settings in root.value if isinstance(root, yaml.MappingNode) else ():
        for key, node in list(settings.value) if isinstance(settings, yaml.MappingNode) else ():
            option = f"{group.value}.{key.value}"
            replaced = RETIRED.get(option)
            if replaced == {}:
                changes.append(f"{option} is dropped")
                settings.value.remove((key, node))
            elif replaced and str(node.value) in replaced:
                changes.append(f"{option} {node.value} is now {replaced[node.value]}")
                node.value = replaced[node.value]
    return None if as_it_is and not changes else yaml.serialize(root), changes


def _keep_off(root: yaml.Node | None) -> bool:
    """Make ``off`` the text that some options take, which YAML reads as false; whether any was."""
    found = False
    for key, node in root.value if isinstance(root, yaml.MappingNode) else ():
        is_bool = isinstance(node, yaml.ScalarNode) and node.tag.endswith(":bool")
        if is_bool and key.value in NOT_FALSE and node.value.lower() == "off":
            node.tag, node.value, found = "tag:yaml.org,2002:str", "off", True
        found |= _keep_off(node)
    return found


def read_early(args: Sequence[str]) -> argparse.Namespace:
    """Options that must be known before the parser can run, ``None`` where not given.

    Raises:
        UserError: If an option or a value is retired.
    """
    parser = argparse.ArgumentParser("blastogan", "%(prog)s [options]", None, add_help=False)
    parser.allow_abbrev = False
    parser.add_argument("-c", "--config", action="append", default=[])
    parser.add_argument("-h", "--help", action="store_true")
    for name in ("resume", "recipe"):
        parser.add_argument(f"--{name}", nargs="?", const="true")
    for name in ("ckpt_path", "run_dir"):
        parser.add_argument(f"--{name}", type=user_path)
    for name in RETIRED:
        parser.add_argument(f"--{name}")
    given, _ = parser.parse_known_args(args)
    # such as --generator_optimizer.help Adam
    given.help = given.help or any(arg.partition("=")[0].endswith(".help") for arg in args)
    for name, replaced in RETIRED.items():
        value = getattr(given, name)
        if value is not None and not replaced:
            raise UserError(f"--{name} is no longer an option: leave it out")
        if value in replaced:
            raise UserError(f"--{name} {value} is no longer a value: use {replaced[value]}")
    return given


def run_to_resume(config: Namespace, name: str) -> Path | None:
    """Folder of the run that ``--ckpt_path`` or ``--resume`` mean, the newest of a name at last."""
    if config.ckpt_path:
        return run_of_checkpoint(config.ckpt_path)
    if not config.resume:
        return None
    asked = config.run_dir or config.trainer.default_root_dir
    return Path(asked) if asked else newest_run(name)
