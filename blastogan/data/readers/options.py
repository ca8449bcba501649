"""Options of the user for reading a set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from blastogan.data.readers.cells import is_meaning
from blastogan.errors import UserError, check_choice

NotGradable = Literal["drop", "DD"]
UngradedRule = Literal["use", "drop"]
GradeSource = Literal["folder", "name", "table"]

COLUMN_ROLES = ("image", "grade", "icm", "te", "expansion", "embryo", "part")
"""What a column of a table can hold."""

_GRADE_EXAMPLE = r"(?P<embryo>\d+)_(?P<grade>[1-6]?[A-D]{2})"


@dataclass(frozen=True)
class ReaderOptions:
    """Options for reading a folder.

    Attributes:
        format: Name of a reader, or ``auto`` for the first that recognises the folder.
        table: Table of the format ``csv``: a path relative to the folder or the working directory.
        columns: Columns of the format ``csv`` by `COLUMN_ROLES`, or a text such as
            ``image=file,grade=score``, which is converted to a mapping. An empty name, as in
            ``expansion=``, leaves a role without a column; ``patient+embryo`` joins two.
        embryo_pattern: Regular expression that finds the embryo in an image's path below the
            folder: its group ``embryo``, else its first group, else the whole match. It takes
            precedence over what the reader knows about embryos.
        grade_pattern: Regular expression that finds the grade in an image's path below the folder
            by its groups ``grade``, or ``icm`` and ``te`` (and ``expansion``), and the embryo by a
            group ``embryo``. Common forms are found without it.
        grade_map: What values mean, as a mapping or a text such as ``EB=ND,1=AA``: a grade, a
            letter, ``ND`` (not gradable) or ``NA`` (unknown).
        trust: Which grade wins where the ``folder``, the file ``name`` and the ``table`` disagree;
            ``None`` reports such images as a fault.
        not_gradable: ``drop`` images that are not gradable yet (``ND``, code 3 of Kromp et al.), or
            assign them to the class ``DD``.
        ungraded: ``use`` or ``drop`` images of which a letter of the grade or all of it is unknown
            (``NA``, ``?``, nothing), and images to which nothing assigns a grade.
        exclude: Table of images to leave out, with a column ``image`` of their posix paths below
            the folder; ``blastogan audit --write-exclude`` writes one.

    Raises:
        UserError: If a value is invalid.
    """

    format: str = "auto"
    table: str | None = None
    columns: Mapping[str, str] | str = field(default_factory=dict)
    embryo_pattern: str | None = None
    not_gradable: NotGradable = "drop"
    ungraded: UngradedRule = "use"
    grade_pattern: str | None = None
    grade_map: Mapping[str, str] | str = field(default_factory=dict)
    trust: GradeSource | None = None
    exclude: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):
            object.__setattr__(self, "columns", _parse_columns(self.columns))
        object.__setattr__(self, "grade_map", _parse_grade_map(self.grade_map))
        unknown = [role for role in self.names_by_role if role not in COLUMN_ROLES]
        if unknown:
            raise UserError(
                f"columns has the unknown role {', '.join(map(repr, unknown))}: expected roles "
                f"among {', '.join(COLUMN_ROLES)}, such as image=file,grade=score"
            )
        check_choice("not_gradable", self.not_gradable, NotGradable)
        check_choice("ungraded", self.ungraded, UngradedRule)
        if self.trust is not None:
            check_choice("trust", self.trust, GradeSource)
        _compile("embryo_pattern", self.embryo_pattern or "", r"^(\d+)_")
        pattern = _compile("grade_pattern", self.grade_pattern or "(?P<grade>)", _GRADE_EXAMPLE)
        groups = set(pattern.groupindex)
        foreign = groups - {"grade", "icm", "te", "expansion", "embryo"}
        if foreign or not ("grade" in groups or {"icm", "te"} <= groups):
            got = f"has the groups {', '.join(sorted(groups)) or '(none)'}"
            raise UserError(
                f"grade_pattern {self.grade_pattern!r} {got}: expected (?P<grade>...), or "
                "(?P<icm>...) and (?P<te>...), and optionally (?P<expansion>...) and "
                f"(?P<embryo>...), such as {_GRADE_EXAMPLE!r}"
            )

    @property
    def names_by_role(self) -> Mapping[str, str]:
        """`columns` as a mapping, also if given as text."""
        assert not isinstance(self.columns, str)
        return self.columns

    @property
    def meanings(self) -> Mapping[str, str]:
        """`grade_map` as a mapping, with its values in upper case."""
        assert not isinstance(self.grade_map, str)
        return self.grade_map

    @property
    def selects_csv(self) -> bool:
        """Whether options are set that only the format ``csv`` has."""
        return self.table is not None or bool(self.columns)


def _compile(option: str, pattern: str, example: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"{option} {pattern!r} is not a regular expression ({error}): expected one such as "
            f"{example!r}"
        ) from error


def _parse_columns(text: str) -> dict[str, str]:
    """Columns by role from ``image=file,grade=score``."""
    columns = {}
    for pair in text.split(","):
        role, equals, name = (part.strip() for part in pair.partition("="))
        if not (role and equals and (name or role != "image")) or role in columns:
            raise UserError(
                f"columns is {text!r}: expected each role once, such as image=file,grade=score"
            )
        columns[role] = name
    return columns


def _parse_grade_map(given: Mapping[str, str] | str) -> dict[str, str]:
    """Meanings by value in upper case, from a mapping or from ``EB=ND,1=AA``."""
    if isinstance(given, str):
        pairs = [pair.rpartition("=") for pair in given.split(",") if pair.strip()]
    else:
        pairs = [(str(value), "=", str(meaning)) for value, meaning in given.items()]
    meanings: dict[str, str] = {}
    for value, equals, meaning in pairs:
        key, known = value.strip().upper(), meaning.strip().upper()
        if not equals or not is_meaning(known) or meanings.setdefault(key, known) != known:
            raise UserError(
                f"grade_map is {given!r}, where {value + equals + meaning!r} is not understood: "
                "expected each value once with a grade, a letter A to D, ND (not gradable) or NA "
                "(unknown), such as EB=ND,M=ND"
            )
    return meanings
