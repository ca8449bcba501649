"""Reader of class folders."""

from __future__ import annotations

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import parse_grade, part_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable


class ClassFolderReader:
    """Reader of one folder for each class: ``AA/``, ``ab/``, ``4BB/``; images may lie deeper in.

    The class folders may lie in folders ``train``, ``val`` and ``test`` of a published split.
    Each image counts as an embryo of its own unless `embryo_pattern` is set.
    """

    format = "folders"
    layout = "one folder for each class, such as AA/ and AB/"

    def claims(self, tree: ImageTree) -> bool:
        """Whether an image lies in a folder named like a grade."""
        return any(parse_grade(_part_and_class(name)[1]) for name in tree.images)

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the folders, see `Reader.read`."""
        builder = TableBuilder(tree, self.format, options)
        for name in tree.images:
            part, grade = _part_and_class(name)
            if grade:
                inside = name.rpartition(f"{grade}/")[0] + grade
                builder.add(f"folder {inside}/", name, grade, part=part)
            else:
                builder.reject(name, name, "lies in no class folder; move it into one")
        return builder.build()


def _part_and_class(name: str) -> tuple[str, str]:
    """Part of the split and name of the class folder; empty where there is none."""
    first, *rest = name.split("/")[:-1] or [""]
    part = part_of(first) or ""
    return (part, rest[0] if rest else "") if part else ("", first)
