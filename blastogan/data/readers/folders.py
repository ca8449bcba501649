"""Reader of class folders."""

from __future__ import annotations

from blastogan.data.readers.draft import TableBuilder
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.protocol import is_grade, part_of
from blastogan.data.readers.tree import Folder
from blastogan.data.records import GradedTable


class ClassFolderReader:
    """Reader of one folder for each class: ``AA/``, ``ab/``, ``4BB/``; images may lie deeper in.

    The class folders may lie in folders ``train``, ``val`` and ``test`` of a published split.
    Nothing tells which images show the same embryo, so each is taken for an embryo of its own,
    unless an `embryo_pattern` is given.
    """

    format = "folders"
    layout = "one folder for each class, such as AA/ and AB/"

    def claims(self, folder: Folder) -> bool:
        """Whether an image lies in a folder named like a grade."""
        return any(is_grade(_parted(name)[1]) for name in folder.images)

    def read(self, folder: Folder, reading: ReaderOptions) -> GradedTable:
        """Read the folders, see `Reader.read`."""
        draft = TableBuilder(folder, self.format, reading)
        for name in folder.images:
            part, grade = _parted(name)
            if grade:
                inside = name.rpartition(f"{grade}/")[0] + grade
                draft.add(f"folder {inside}/", name, grade, part=part)
            else:
                draft.problems.append(f"{name}: lies in no class folder; move it into one")
                draft.ignore([name])
        return draft.table()


def _parted(name: str) -> tuple[str, str]:
    """Part of the split, if there is one, and name of the class folder, if there is one."""
    first, *rest = name.split("/")[:-1] or [""]
    part = part_of(first) or ""
    return (part, rest[0] if rest else "") if part else ("", first)
