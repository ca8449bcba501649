"""Help of the commands that train, read from the source: to load what they need takes seconds."""

from __future__ import annotations

import ast
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from blastogan.cli.screens import GENERAL, SCREENS, Screen
from blastogan.errors import UserError

_PACKAGE = Path(__file__).parents[1]
_COLUMN = 34
_MAX_WIDTH = 100


class Source(NamedTuple):
    """A class whose arguments are options."""

    prefix: str
    file: str
    name: str
    hidden: tuple[str, ...] = ()
    remark: str = ""


class Option(NamedTuple):
    """An option with its default, empty if there is none or it is no plain value, and its text."""

    name: str
    default: str
    text: str


_LINKED = ("schedule", "seed", "resolution", "start_resolution", "img_channels")
_DATA = Source("data", "data/datamodule.py", "BlastocystDataModule", ("schedule", "seed"))
_TRAINER = Source("trainer", "trainer/trainer.py", "Trainer")
_MODEL = "model.init_args"

GROUPS: dict[str, tuple[Source, ...]] = {
    "data": (_DATA,),
    "model": (
        Source(
            _MODEL,
            "modules/base.py",
            "BaseGANModule",
            (*_LINKED, "generator_optimizer", "discriminator_optimizer"),
        ),
        Source(_MODEL, "modules/stylegan.py", "StyleGANModule", _LINKED, "StyleGAN: "),
        Source("transfer", "modules/transfer.py", "TransferOptions"),
    ),
    "schedule": (Source("schedule", "growth.py", "GrowthSchedule"),),
    "callbacks": (
        Source("checkpoints", "callbacks/checkpoints.py", "GrowthCheckpoint", _LINKED),
        Source("samples", "callbacks/sample_grid.py", "SampleGrid"),
        Source("fidelity", "callbacks/fidelity/callback.py", "FidelityCallback", ("schedule",)),
        Source("watch", "callbacks/watch/callback.py", "DivergenceWatch", ("schedule",)),
        Source("training_log", "callbacks/training_log.py", "TrainingLog", _LINKED),
        Source("float32", "callbacks/tf32.py", "TF32"),
    ),
    "trainer": (_TRAINER,),
}
"""Groups of options of ``fit``, ``validate``, ``test`` and ``predict``."""

GRADE_GROUPS: dict[str, tuple[Source, ...]] = {
    "data": (
        Source("data", "data/grade_datamodule.py", "GradeDataModule"),
        _DATA._replace(hidden=("schedule", "seed", "augment")),
    ),
    "model": (
        Source(
            "model",
            "modules/grade_classifier.py",
            "GradeClassifier",
            ("resolution", "img_channels"),
        ),
    ),
    "trainer": (_TRAINER,),
}
"""Groups of options of ``grade``."""


def show_help(command: str, args: Sequence[str]) -> bool:
    """Print the help that arguments ask for; whether they do.

    ``--help`` alone prints a screen; a word after it is a group, ``all``, or part of an option.

    Raises:
        UserError: If a word after ``--help`` is none of these.
    """
    rest, groups = list(args), GROUPS
    if command == "grade":
        groups = GRADE_GROUPS
        if rest and f"grade {rest[0]}" in SCREENS:
            command = f"grade {rest.pop(0)}"
    asked = _asked(rest, groups)
    if asked is None:
        return False
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
    if asked == "":
        lines = _overview(command, groups)
    elif asked == "all":
        lines = [line for name in ("", *groups) for line in _group(command, name, groups, width)]
    elif asked in groups:
        lines = list(_group(command, asked, groups, width))
    else:
        lines = list(_search(asked, command, groups, width))
    sys.stdout.write("\n".join(lines) + "\n")
    return True


def _asked(args: Sequence[str], groups: dict[str, tuple[Source, ...]]) -> str | None:
    """What help is asked for: ``""`` for the screen, ``None`` for none."""
    for n, arg in enumerate(args):
        name, _, value = arg.partition("=")
        following = args[n + 1] if n + 1 < len(args) else ""
        if name in ("-h", "--help"):
            return value or ("" if following.startswith("-") else following)
        if name.endswith(".help") and name[2:-5] in groups:
            return name[2:-5]
    return None


def _overview(command: str, groups: dict[str, tuple[Source, ...]]) -> list[str]:
    found = [(name, screen) for name, screen in SCREENS.items() if name.startswith(command)]
    lines: list[str] = []
    if command not in SCREENS:
        texts = (f"  {name}\n      {screen.purpose}\n" for name, screen in found)
        return [f"usage: blastogan {command} fit|validate|test [OPTIONS]", "", *texts]
    screen = SCREENS[command]
    lines += [f"usage: {screen.usage}", "", screen.purpose, ""]
    lines += _rows(screen)
    topics = "|".join((*groups, "all"))
    return [*lines, "", f"more: --help {topics}, or --help WORD to search"]


def _rows(screen: Screen) -> Iterator[str]:
    for option, value, text in screen.options:
        first = f"  {option} {value}".rstrip()
        if len(first) < _COLUMN:
            yield f"{first:<{_COLUMN}}{text}"
        else:
            yield from (first, " " * _COLUMN + text)


def options_of(command: str, groups: dict[str, tuple[Source, ...]], name: str) -> list[Option]:
    """Options of a group of a command; the group ``""`` has those of none."""
    if name:
        return [option for source in groups[name] for option in _read(source)]
    own = [Option(each.option[2:], "", each.text) for each in GENERAL]
    if command.startswith("grade"):
        lacking = {"model", "generator_optimizer", "discriminator_optimizer", "recipe"}
        lacking |= {"scale_batch", "yes", "dry_run"}
        own = [option for option in own if option.name not in lacking]
    return own


def _group(
    command: str, name: str, groups: dict[str, tuple[Source, ...]], width: int
) -> Iterator[str]:
    yield f"{name or 'general'} options of blastogan {command}:"
    for option in options_of(command, groups, name):
        yield from _described(option, width)
    yield ""


def _described(option: Option, width: int) -> Iterator[str]:
    default = f"  (default: {option.default})" if option.default else ""
    yield f"  --{option.name}{default}"
    indent = " " * 6
    wrapped = textwrap.TextWrapper(
        width, indent, indent, break_long_words=False, break_on_hyphens=False
    )
    yield from wrapped.wrap(option.text)


def _search(
    word: str, command: str, groups: dict[str, tuple[Source, ...]], width: int
) -> Iterator[str]:
    """Options whose name has a word, or else those whose text has it."""
    every = [option for name in ("", *groups) for option in options_of(command, groups, name)]
    wanted = word.lstrip("-").lower().replace("-", "_")
    found = [option for option in every if wanted in option.name.lower()]
    found = found or [option for option in every if word.lower() in option.text.lower()]
    if not found:
        near = get_close_matches(wanted, [option.name.rpartition(".")[2] for option in every], n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UserError(
            f"no option of {command} has {word!r} in its name or text{hint} After --help, give "
            f"a part of an option, or one of {', '.join((*groups, 'all'))}"
        )
    for option in found:
        yield from _described(option, width)


def _read(source: Source) -> Iterator[Option]:
    """Options of a class: its arguments, described in its docstring."""
    # an import of the package would load all of it
    outside = find_spec("pytorch_lightning") if source is _TRAINER else None
    folder = Path(str(outside.origin)).parent if outside else _PACKAGE
    tree = ast.parse((folder / source.file).read_text(encoding="utf-8"))
    node = next(
        each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == source.name
    )
    init = next(
        (e for e in node.body if isinstance(e, ast.FunctionDef) and e.name == "__init__"), None
    )
    texts = _texts(ast.get_docstring(node) or "")
    if init is not None:
        texts |= _texts(ast.get_docstring(init) or "")
    for name, default in _arguments(node if init is None else init):
        if name not in source.hidden:
            text = source.remark + texts.get(name, "")
            yield Option(f"{source.prefix}.{name}", default, text)


def _arguments(node: ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Name and default of the arguments of a function, or of the fields of a dataclass."""
    if isinstance(node, ast.ClassDef):
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                yield each.target.id, _plain(each.value)
        return
    names = [*node.args.args[1:], *node.args.kwonlyargs]
    filled = [None] * (len(node.args.args) - 1 - len(node.args.defaults))
    for argument, default in zip(
        names, [*filled, *node.args.defaults, *node.args.kw_defaults], strict=True
    ):
        yield argument.arg, _plain(default)


def _plain(value: ast.expr | None) -> str:
    try:
        return "" if value is None else str(ast.literal_eval(value))
    except ValueError:
        return ""


def _texts(docstring: str) -> dict[str, str]:
    """Description of each argument of a docstring in Google's style."""
    from docstring_parser import parse

    found = {each.arg_name: each.description or "" for each in parse(docstring).params}
    return {
        name.lstrip("*"): " ".join(re.sub(r"`+", "", text).split()) for name, text in found.items()
    }
