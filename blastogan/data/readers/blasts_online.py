"""Reader of SFU's BlastsOnline."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from blastogan.data.readers.draft import TableBuilder
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import header_of, read_table
from blastogan.data.readers.tree import Folder
from blastogan.data.records import GradedTable
from blastogan.errors import UserError

_COLUMNS = ("filename", "be", "icm", "te")
_MASK = re.compile(r"[ _-](?P<tissue>icm|te|zp)[ _-]mask$", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"gt[ _-](icm|te|zp)", re.IGNORECASE)


class BlastsOnlineReader:
    """Reader of SFU's BlastsOnline (Saeedi et al. 2017).

    A table with the columns ``Filename, BE, ICM, TE`` (BE is the blastocyst's expansion) grades
    the BMPs of ``Images/``. Masks in ``GT_ICM/``, ``GT_TE/`` and ``GT_ZP/``, or named ``... ICM
    Mask`` in any case, are told from images. A file name in the table may lack its suffix. Each
    image is an embryo of its own.
    """

    format = "blasts-online"
    layout = "a table with the columns Filename, BE, ICM, TE beside Images/ (BlastsOnline)"

    def claims(self, folder: Folder) -> bool:
        """Whether a table has these columns."""
        return bool(_tables(folder))

    def read(self, folder: Folder, reading: ReaderOptions) -> GradedTable:
        """Read the table, see `Reader.read`."""
        names = _tables(folder)
        if len(names) != 1:
            got = f"has {len(names)} tables" if names else "has no table"
            raise UserError(
                f"{folder.root} {got} with the columns {', '.join(_COLUMNS)} "
                f"({', '.join(names) or 'none'}): expected one"
            )
        table = read_table(folder.root / names[0])
        draft = TableBuilder(folder, self.format, reading)
        draft.notes += table.notes
        masks = [name for name in folder.images if _is_mask(name)]
        draft.ignore(masks)
        if masks:
            draft.notes.append(f"{len(masks)} masks are told from images by their names")
        images = [name for name in folder.images if not _is_mask(name)]
        for row in table.rows:
            if row.fault:
                draft.problems.append(f"{row.where}: {row.fault}")
                continue
            cells = row.cells
            name = draft.locate(row.where, cells["filename"].replace("\\", "/"), images)
            if name is not None:
                draft.add_letters(row.where, name, cells["icm"], cells["te"], cells["be"])
        return draft.table()


def _tables(folder: Folder) -> list[str]:
    return [
        name
        for name in folder.tables
        if [cell for cell in header_of(folder.root / name) if cell] == list(_COLUMNS)
    ]


def _is_mask(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(_MASK.search(path.stem)) or any(map(_MASK_FOLDER.fullmatch, path.parts[:-1]))
