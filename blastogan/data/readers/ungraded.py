"""Reader of images without grades."""

from __future__ import annotations

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import part_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import header_of
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable


class UngradedReader:
    """Reader of any folder of images: all are ungraded, except those that are not gradable.

    It is tried last. Each image counts as an embryo of its own unless `embryo_pattern` is set.
    """

    format = "ungraded"
    layout = "any images, without grades"

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether ungraded images are used, and no file beside them may hold their grades."""
        return options.ungraded == "use" and not possible_tables(tree)

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read all images, see `Reader.read`."""
        builder = TableBuilder(tree, self.format, options, source="folder")
        for name in tree.images:
            part = part_of(name.partition("/")[0]) or "" if "/" in name else ""
            builder.add_by_path(name, (), part)
        builder.split_by = "folders"
        return builder.build()


def possible_tables(tree: ImageTree) -> str:
    """Files beside the images that may hold their grades, and what to do; empty without any."""
    headers = {name: header_of(tree.root / name) for name in tree.tables if "/" not in name}
    known = {name: ", ".join(columns)[:300] for name, columns in headers.items() if columns[1:]}
    found = [f"{name} has the columns {columns}" for name, columns in known.items()]
    hint = "if it holds the grades, name its columns by the option columns"
    text = f"{'; '.join(found[:3])}: {hint}, such as image=file,grade=score. " if found else ""
    books = [n for n in tree.unread_tables if "/" not in n and not n.lower().endswith(".json")]
    hint = "is not read: if it holds the grades, save it as CSV beside the images"
    return text + (f"{', '.join(books[:3])} {hint}. " if books else "")
