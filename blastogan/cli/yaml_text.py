"""Text of configurations: its encoding, and what YAML may hold."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from blastogan.errors import UserError

MAX_BYTES = 1 << 20
"""Largest configuration; that of a run has 4 kB."""

MAX_DEPTH = 30
"""Deepest nesting: the C library of YAML overflows the stack at some ten thousand levels."""

MAX_VALUES = 20_000
"""Most values, those that aliases repeat counted each time."""

_ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_load = get_loader("yaml")


_NO_BLANK = re.compile(r"\d+:[\d.]+")
"""A key such as ``8:3.2``, which YAML takes for hours and minutes."""


class RefusedYAML(UserError):
    """YAML with a key twice, or with more values or levels than any configuration has."""


@dataclass
class _Collection:
    """A list or a mapping that is being read.

    Attributes:
        keys: Keys so far, ``None`` for a list.
        anchor: Its name for aliases, if any.
        size: Values in it so far.
        key_next: Whether the next value is a key.
    """

    keys: set[str] | None
    anchor: str | None
    size: int = 1
    key_next: bool = field(default=True)


def check_yaml(text: str) -> None:
    """Refuse keys that stand twice, aliases that multiply, and endless nesting.

    Raises:
        RefusedYAML: For these.
        YAMLError: If the text is not YAML.
    """
    opened, sizes, documents = [_Collection(None, None)], dict[str, int](), 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise RefusedYAML(f"{_line(event)}: more than one document, divided by ---")
        if isinstance(event, yaml.CollectionEndEvent):
            done = opened.pop()
            if done.anchor:
                sizes[done.anchor] = done.size
            opened[-1].size += done.size
        elif isinstance(event, yaml.NodeEvent):
            _take_key(opened[-1], event)
            if isinstance(event, yaml.CollectionStartEvent):
                keys = set[str]() if isinstance(event, yaml.MappingStartEvent) else None
                opened.append(_Collection(keys, event.anchor))
            elif isinstance(event, yaml.AliasEvent):
                # an alias within its own anchor has no end
                opened[-1].size += sizes.get(str(event.anchor), MAX_VALUES)
            else:
                opened[-1].size += 1
                if event.anchor:
                    sizes[event.anchor] = 1
        if len(opened) > MAX_DEPTH:
            raise RefusedYAML(f"{_line(event)}: more than {MAX_DEPTH} levels")
        if opened[-1].size > MAX_VALUES:
            raise RefusedYAML(f"{_line(event)}: aliases make it more than {MAX_VALUES} values")


def _take_key(parent: _Collection, event: Any) -> None:
    if parent.keys is None:
        return
    if parent.key_next and isinstance(event, yaml.ScalarEvent):
        if event.implicit[0] and _NO_BLANK.fullmatch(event.value):
            raise RefusedYAML(
                f"{_line(event)}: {event.value} is one word: put a blank behind the colon"
            )
        if event.value in parent.keys:
            raise RefusedYAML(
                f"{_line(event)}: the key {event.value!r} stands there a second "
                "time, and would replace the first: join the two"
            )
        parent.keys.add(event.value)
    parent.key_next = not parent.key_next


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "somewhere"


def load_yaml(text: str) -> Any:
    """The parser's own loader, after `check_yaml`."""
    check_yaml(text)
    return _load(text)


def read_yaml(path: Path) -> str:
    """Text of a configuration in UTF-8, or in UTF-16 with a byte-order mark as PowerShell writes.

    Raises:
        UserError: If it cannot be read, is in another encoding, or is not YAML of settings.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error}") from error
    if size > MAX_BYTES:
        raise UserError(f"{path} has {size} bytes: expected a configuration of 1 MB at most")
    marks = (encoding for mark, encoding in _ENCODINGS.items() if content.startswith(mark))
    try:
        text = content.decode(next(marks, "utf-8"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"the configuration {path} is not in UTF-8 (line {line}): save it with the encoding "
            "UTF-8 in your editor"
        ) from error
    try:
        check_yaml(text)
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, RefusedYAML) as error:
        raise UserError(f"the configuration {path} is not valid: {_in_one_line(error)}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} has no settings: expected such as data: {{num_phantoms: 100}}")
    return text


def _in_one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {error.problem}"  # type: ignore[attr-defined]


# also for values on the command line
set_loader("yaml", load_yaml, (yaml.YAMLError,))
