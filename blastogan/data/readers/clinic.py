"""Reader of the clinic's table."""

from __future__ import annotations

from blastogan.data.readers.draft import TableBuilder, known_embryo
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import Row, read_table
from blastogan.data.readers.tree import TABLE, Folder
from blastogan.data.records import GradedTable
from blastogan.errors import UserError


class ClinicTableReader:
    """Reader of a clinic's table ``metadata.csv``.

    Columns: filename and grade; folder, embryo_guid and embryo_ivf_id if there are any; others are
    ignored. The image is ``root/folder/filename``; without a folder, it may lie in any if no other
    is called so. The embryo is the embryo_guid, else that of another row with the same
    embryo_ivf_id, else the embryo_ivf_id, else the image itself.
    """

    format = "clinic"
    layout = "a table metadata.csv with the columns filename and grade"
    _FILE = TABLE

    def claims(self, folder: Folder) -> bool:
        """Whether there is a ``metadata.csv``."""
        path = folder.root / self._FILE
        # also one that is no file, which is to be told
        return path.exists() or path.is_symlink()

    def read(self, folder: Folder, reading: ReaderOptions) -> GradedTable:
        """Read the table, see `Reader.read`."""
        path = folder.root / self._FILE
        if not path.is_file():
            got = "is no file" if self.claims(folder) else "is missing"
            raise UserError(f"{path} {got}: put the table there, or ask for another format")
        table = read_table(path)
        table.require(("filename", "grade"), "Name them so, or read it with the format csv")
        draft = TableBuilder(folder, self.format, reading)
        draft.notes += table.notes
        guids: dict[str, str] = {}
        for row in table.rows:
            guid, ivf_id = _identifiers(row)
            if guid and ivf_id:
                guids.setdefault(ivf_id, guid)
        for row in table.rows:
            name = path_of(row.cells.get("filename", ""), row.cells.get("folder", ""))
            if row.fault:
                draft.refuse(row.where, name, row.fault)
                continue
            guid, ivf_id = _identifiers(row)
            draft.add(row.where, name, row.cells["grade"], guid or guids.get(ivf_id, ivf_id))
        return draft.table()


def path_of(filename: str, folder: str = "") -> str:
    """Posix path below the root of a row's image; empty without a filename."""
    # tables written on Windows separate folders by backslashes
    folder, filename = folder.replace("\\", "/"), filename.replace("\\", "/")
    return f"{folder}/{filename}" if folder and filename else filename


def _identifiers(row: Row) -> tuple[str, str]:
    """The embryo_guid and the embryo_ivf_id, empty where they are not known."""
    guid, ivf_id = (row.cells.get(column, "") for column in ("embryo_guid", "embryo_ivf_id"))
    return known_embryo(guid), known_embryo(ivf_id)
