"""Reader of the clinic's table."""

from __future__ import annotations

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import embryo_name, path_of
from blastogan.data.readers.columns import EmbryoColumns
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import Row, read_table
from blastogan.data.readers.tree import TABLE, ImageTree
from blastogan.data.records import GradedTable
from blastogan.errors import UserError

_IDENTIFIERS = ("embryo_guid", "embryo_ivf_id")


class ClinicTableReader:
    """Reader of a clinic's table ``metadata.csv``.

    Columns are filename and grade, and optionally folder, embryo_guid and embryo_ivf_id; others
    are ignored. The image is ``root/folder/filename``; without a folder it may lie in any
    subfolder if the file name is unique. The embryo is the embryo_guid, else that of another row
    with the same embryo_ivf_id, else the embryo_ivf_id, else the image itself; without either
    column, see `EmbryoColumns`.
    """

    format = "clinic"
    layout = "a table metadata.csv with the columns filename and grade"

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether there is a ``metadata.csv``, even one that `read` refuses."""
        path = tree.root / TABLE
        return path.exists() or path.is_symlink()

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the table, see `Reader.read`."""
        path = tree.root / TABLE
        if not path.is_file():
            got = "is not a file" if self.claims(tree, options) else "is missing"
            raise UserError(f"{path} {got}: put the table there, or choose another format")
        table = read_table(path)
        table.require(("filename", "grade"), "Rename them, or use the format csv")
        builder = TableBuilder(tree, self.format, options)
        builder.notes += table.notes
        others = EmbryoColumns(table.columns, table.rows)
        own = [name for name in _IDENTIFIERS if name in table.columns]
        if not own:
            builder.notes += filter(None, [others.note])
        builder.embryos_by = f"the column {', else '.join(own)}" if own else str(others)
        guids: dict[str, str] = {}
        for guid, ivf_id in map(_identifiers, table.rows):
            if guid and ivf_id:
                guids.setdefault(ivf_id, guid)
        for row in table.rows:
            name = path_of(row.cells.get("filename", ""), row.cells.get("folder", ""))
            if row.fault:
                builder.reject(row.where, name, row.fault)
                continue
            guid, ivf_id = _identifiers(row)
            embryo = guid or guids.get(ivf_id, ivf_id) if own else others.embryo(row.cells)
            builder.add(row.where, name, row.cells["grade"], embryo)
        return builder.build()


def _identifiers(row: Row) -> tuple[str, str]:
    """The embryo_guid and the embryo_ivf_id, empty if unknown."""
    guid, ivf_id = (row.cells.get(column, "") for column in _IDENTIFIERS)
    return embryo_name(guid), embryo_name(ivf_id)
