"""Reader of class folders."""

from __future__ import annotations

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import part_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.path_grades import path_grades
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable


class ClassFolderReader:
    """Reader of one folder for each class: ``AA/``, ``ab/``, ``4BB/``; images may lie deeper in.

    The class folders may lie in other folders, such as ``train``, ``val`` and ``test`` of a
    published split. Folders such as ``morula/`` hold images that are not gradable; images in other
    folders are ungraded, unless their names have grades. Each image counts as an embryo of its own
    unless `embryo_pattern` is set.
    """

    format = "folders"
    layout = "one folder for each class, such as AA/ and AB/"

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether an image lies in a folder named like a grade."""
        paths = path_grades(tree, options)
        return any(paths.knows(grade.text) for grade in paths.by_folder.values())

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the folders, see `Reader.read`."""
        builder = TableBuilder(tree, self.format, options, source="folder")
        for name in tree.images:
            part = part_of(name.partition("/")[0]) or "" if "/" in name else ""
            builder.add_by_path(name, ("folder", "name"), part)
        builder.split_by = "folders"
        return builder.build()
