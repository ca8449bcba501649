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

_PARTS = {"na": "", "training": "train", "testing": "test"}
_PARTS |= dict.fromkeys(("valid", "validation", "dev"), "val")


@lru_cache(maxsize=4096)
def parse_grade(text: str) -> Grade | None:
    """`Grade.parse`, but ``None`` if the text is no grade; a table repeats few grades."""
    try:
        return Grade.parse(text)
    except UserError:
        return None


def parse_letters(icm: str, te: str) -> Grade | None:
    """Grade of two letters, empty if unknown, with ``+`` or ``-``; ``None`` if these are none."""
    letters = [each.rstrip("+-") for each in (icm, te)]
    modifiers = [each[len(letter) :] for each, letter in zip((icm, te), letters, strict=True)]
    if not all(each in ("", "+", "-") for each in modifiers):
        return None
    try:
        return Grade(letters[0], letters[1], None, *modifiers)
    except UserError:
        return None


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
    return re.sub(r"\A(\d)\.0*\Z", r"\1", text)
