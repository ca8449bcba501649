"""What single cells of tables, and names of files and folders, mean."""

from __future__ import annotations

import re
from functools import lru_cache

from blastogan.data.records import PARTS
from blastogan.errors import UserError
from blastogan.grades import Grade

NOT_DEFINED = "ND"
"""Grade of an embryo that cannot be graded yet."""

UNKNOWN = frozenset({"", "NA", "N/A", "?"})
"""Placeholders of a missing grade: not recorded, or no consensus."""

_NO_EMBRYO = UNKNOWN | {NOT_DEFINED, "NAN", "NONE", "NULL", "UNKNOWN", "UNK", "-", "--"}

_PARTS = {
    "na": "",
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}

parse_grade = lru_cache(maxsize=4096)(Grade.parse)
"""`Grade.parse`, cached: a table repeats few grades many times."""


def is_grade(text: str) -> bool:
    """Whether a text is a grade."""
    try:
        parse_grade(text)
    except UserError:
        return False
    return True


@lru_cache(maxsize=1024)
def part_of(text: str) -> str | None:
    """``train``, ``val`` or ``test``; empty for none, ``None`` for an unknown name.

    Usual names are recognised, such as ``Training``, ``validation``, ``dev`` and ``test_set``.
    """
    word = re.sub(r"(?<=[a-z])[_ -]?set$", "", text.strip().lower())
    part = _PARTS.get(word, word)
    return part if part in ("", *PARTS) else None


def path_of(filename: str, folder: str = "") -> str:
    """Posix path of an image below the root; empty without a file name."""
    # tables written on Windows separate folders by backslashes
    folder, filename = folder.replace("\\", "/"), filename.replace("\\", "/")
    return f"{folder}/{filename}" if folder and filename else filename


def embryo_name(text: str) -> str:
    """Name of an embryo; empty for a placeholder such as ``NA``."""
    text = text.strip()
    return "" if text.upper() in _NO_EMBRYO else text


def without_decimals(text: str) -> str:
    """``4`` for ``4.0``, as spreadsheets save a digit; other texts unchanged."""
    match = re.fullmatch(r"(\d)\.0*", text)
    return match.group(1) if match else text
