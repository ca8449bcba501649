"""What single cells of tables, and names of files and folders, mean."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from blastogan.data.records import PARTS
from blastogan.errors import UserError
from blastogan.grades import UNGRADED, Grade

NOT_DEFINED = "ND"
"""Grade of an embryo that cannot be graded yet."""

UNKNOWN = frozenset(
    ("", "NA", "N/A", "?", "??", "NAN", "NONE", "NULL", "UNKNOWN", "UNK", "-", "--", "UNGRADED")
)
"""Placeholders of a missing grade: not recorded, or no consensus."""

_NO_EMBRYO = UNKNOWN | {NOT_DEFINED}

_PARTS = {"na": "", "training": "train", "testing": "test"}
_PARTS |= dict.fromkeys(("valid", "validation", "dev"), "val")

_CELL = re.compile(
    r"""
    (?:(?:gardner|grade|score|blastocyst|blast)[\s:=._-]*|d(?:ay)?\s?[3-7][\s:=._,-]+)*
    (?:(?P<first>[1-6])[\s._/:-]*)?
    (?P<icm>[A-D?]|(?-i:x))\s?(?P<icm_modifier>[+-])?[\s/,|]*
    (?P<te>[A-D?]|(?-i:x))\s?(?P<te_modifier>[+-](?!\s*[1-6]))?
    (?:[\s._/:-]*(?P<last>[1-6]))?
    (?:\s*[(\[](?P<comment>[^()\[\]]*)[)\]])?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_UNGRADABLE = frozenset(
    (
        *(NOT_DEFINED, "NOTDEFINED", "NOTGRADABLE", "NONGRADABLE", "UNGRADABLE"),
        *("EB", "EARLYBLAST", "EARLYBLASTOCYST", "HB", "NOBLASTOCYST", "NOTBLASTOCYST"),
        *("M", "MO", "MOR", "MORULA", "MORULAE", "MORULAS", "CM", "COMPACTED", "COMPACTEDMORULA"),
        *("COMPACTMORULA", "CAVITATINGMORULA", "CLEAVAGE", "CLEAVAGESTAGE", "CLEAVED", "ZYGOTE"),
        *("ZYGOTES", "PRONUCLEAR", "OOCYTE", "OOCYTES", "UNFERTILISED", "UNFERTILIZED", "ARREST"),
        *("ARRESTED", "ATRETIC", "DEAD", "LYSED", "DEG", "DEGEN", "DEGENERATE", "DEGENERATED"),
    )
)
_STAGE = re.compile(r"[0-4]PN|\d{1,2}-?CELLS?", re.IGNORECASE)


@lru_cache(maxsize=4096)
def parse_grade(text: str) -> Grade | None:
    """Grade as people write it, or ``None`` if the text is none.

    Besides what `Grade.parse` reads: ``4 AB``, ``5 A/B``, ``4-AB``, ``AB 4``, ``Grade 4AB``,
    ``4AB (good)``; with an unknown letter, ``4A?``; `UNGRADED` for the placeholders `UNKNOWN`.
    """
    text = text.strip()
    if text.upper() in UNKNOWN:
        return UNGRADED
    match = _CELL.fullmatch(text)
    if match is None:
        return None
    first, last, comment = match["first"], match["last"], (match["comment"] or "").strip()
    if not (first or last) and re.fullmatch("[1-6]", comment):
        last, comment = comment, ""
    if first and last:
        return None
    try:
        grade = Grade(
            match["icm"].upper().strip("?X"),
            match["te"].upper().strip("?X"),
            int(first or last) if first or last else None,
            match["icm_modifier"] or "",
            match["te_modifier"] or "",
        )
    except UserError:
        return None
    # a second opinion in brackets is no comment
    doubted = comment and (is_not_gradable(comment) or (parse_grade(comment) or grade) != grade)
    return None if doubted else grade


@lru_cache(maxsize=4096)
def is_not_gradable(text: str) -> bool:
    """Whether a text marks an embryo that cannot be graded: ``ND``, ``morula``, ``arrested``."""
    text = text.strip().upper()
    return re.sub(r"[\s._/-]", "", text) in _UNGRADABLE or bool(_STAGE.fullmatch(text))


def is_meaning(text: str) -> bool:
    """Whether a text in upper case can be the meaning of a value, see `ReaderOptions.grade_map`."""
    letter = re.fullmatch("[A-D][+-]?", text)
    return bool(letter) or is_not_gradable(text) or parse_grade(text) is not None


def foreign_letters(text: str) -> str:
    """Letters that only look Latin, such as the Cyrillic ones, named; empty without any."""
    odd = [c for c in dict.fromkeys(text) if c.isalpha() and not c.isascii()]
    named = [f"{c} is {unicodedata.name(c, 'unnamed').lower()} (U+{ord(c):04X})" for c in odd]
    return ", ".join(named[:4])


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


def is_shortened(text: str) -> bool:
    """Whether a spreadsheet has shortened a long number, such as ``3.4E+07``."""
    return bool(re.fullmatch(r"\d([.,]\d+)?E\+\d+", text.strip(), re.IGNORECASE))


def without_decimals(text: str) -> str:
    """``4`` for ``4.0`` and ``4,0``, as spreadsheets save a digit; other texts unchanged."""
    return re.sub(r"\A(\d)[.,]0*\Z", r"\1", text)
