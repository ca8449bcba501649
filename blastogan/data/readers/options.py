"""Options of the user for reading a set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from blastogan.errors import UserError, check_choice

NotGradable = Literal["drop", "DD"]
UngradedRule = Literal["use", "drop"]

COLUMN_ROLES = ("image", "grade", "icm", "te", "expansion", "embryo", "part")
"""What a column of a table can hold."""


@dataclass(frozen=True)
class ReaderOptions:
    """Options for reading a folder.

    Attributes:
        format: Name of a reader, or ``auto`` for the first that recognises the folder.
        table: Table of the format ``csv``: a path relative to the folder or the working directory.
        columns: Columns of the format ``csv`` by `COLUMN_ROLES`, or a text such as
            ``image=file,grade=score``, which is converted to a mapping.
        embryo_pattern: Regular expression that finds the embryo in an image's path below the
            folder: its group ``embryo``, else its first group, else the whole match. It takes
            precedence over what the reader knows about embryos.
        not_gradable: ``drop`` images that are not gradable yet (``ND``, code 3 of Kromp et al.), or
            assign them to the class ``DD``.
        ungraded: ``use`` or ``drop`` images of which a letter of the grade or all of it is unknown
            (``NA``, ``?``, nothing), and images that no table lists.
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
    exclude: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):
            object.__setattr__(self, "columns", _parse_columns(self.columns))
        unknown = [role for role in self.names_by_role if role not in COLUMN_ROLES]
        if unknown:
            raise UserError(
                f"columns has the unknown role {', '.join(map(repr, unknown))}: expected roles "
                f"among {', '.join(COLUMN_ROLES)}, such as image=file,grade=score"
            )
        check_choice("not_gradable", self.not_gradable, NotGradable)
        check_choice("ungraded", self.ungraded, UngradedRule)
        try:
            re.compile(self.embryo_pattern or "")
        except re.error as error:
            raise UserError(
                f"embryo_pattern {self.embryo_pattern!r} is not a regular expression ({error}): "
                r"expected one such as '^(\d+)_'"
            ) from error

    @property
    def names_by_role(self) -> Mapping[str, str]:
        """`columns` as a mapping, also if given as text."""
        assert not isinstance(self.columns, str)
        return self.columns

    @property
    def selects_csv(self) -> bool:
        """Whether options are set that only the format ``csv`` has."""
        return self.table is not None or bool(self.columns)


def _parse_columns(text: str) -> dict[str, str]:
    """Columns by role from ``image=file,grade=score``."""
    columns = {}
    for pair in text.split(","):
        role, equals, name = (part.strip() for part in pair.partition("="))
        if not (role and equals and name) or role in columns:
            raise UserError(
                f"columns is {text!r}: expected each role once, such as image=file,grade=score"
            )
        columns[role] = name
    return columns
