"""What every reader is able to."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tree import Folder
from blastogan.data.records import PARTS, GradedTable
from blastogan.errors import UserError
from blastogan.grades import Grade

_PARTS = {
    "na": "",
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}


class Reader(Protocol):
    """Reader of one layout.

    Attributes:
        format: Name by which a user asks for this reader.
        layout: What it reads, in half a sentence; shown when no reader knows a folder.
    """

    format: str
    layout: str

    def claims(self, folder: Folder) -> bool:
        """Whether the folder looks like this layout; cheap, and never raises for its content."""
        ...

    def read(self, folder: Folder, reading: ReaderOptions) -> GradedTable:
        """Read the folder; faults of rows and files are in the table's `problems`.

        Raises:
            UserError: If the folder as a whole has another layout.
        """
        ...


def is_grade(text: str) -> bool:
    """Whether a text is a grade."""
    try:
        Grade.parse(text)
    except UserError:
        return False
    return True


@lru_cache(maxsize=1024)
def part_of(text: str) -> str | None:
    """``train``, ``val`` or ``test`` by the names in use; empty for none, ``None`` for others.

    Such names are ``Training``, ``validation``, ``dev``, ``test_set`` and ``Test set``.
    """
    folded = text.strip().lower()
    word = re.sub(r"(?<=[a-z])[_ -]?set$", "", folded)
    part = _PARTS.get(word, word)
    return part if part in ("", *PARTS) else None
