"""Reader of SFU's BlastsOnline."""

from __future__ import annotations

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import path_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import header_of, read_table
from blastogan.data.readers.tree import ImageTree, is_mask
from blastogan.data.records import GradedTable
from blastogan.errors import UserError

_COLUMNS = ("filename", "be", "icm", "te")


class BlastsOnlineReader:
    """Reader of SFU's BlastsOnline (Saeedi et al. 2017).

    A table with the columns ``Filename, BE, ICM, TE`` (BE is the blastocyst's expansion) grades
    the BMPs of ``Images/``. Masks, in ``GT_ICM/``, ``GT_TE/`` and ``GT_ZP/`` or named ``... ICM
    Mask`` in any case, are ignored. File names in the table may lack their suffix. Each image is
    an embryo of its own.
    """

    format = "blasts-online"
    layout = "a table with the columns Filename, BE, ICM, TE beside Images/ (BlastsOnline)"

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether a table has these columns."""
        return bool(_tables(tree))

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the table, see `Reader.read`."""
        names = _tables(tree)
        if len(names) != 1:
            raise UserError(
                f"{tree.root} has {len(names) or 'no'} tables with the columns "
                f"{', '.join(_COLUMNS)} ({', '.join(names) or 'none'}): expected one"
            )
        table = read_table(tree.root / names[0])
        builder = TableBuilder(tree, self.format, options)
        builder.notes += table.notes
        masks = set(filter(is_mask, tree.images))
        builder.ignore(masks)
        if masks:
            builder.notes.append(f"{len(masks)} masks are recognised by their names and ignored")
        images = [name for name in tree.images if name not in masks]
        for row in table.rows:
            if row.fault:
                builder.problems.append(f"{row.where}: {row.fault}")
                continue
            filename, expansion, icm, te = (row.cells[column] for column in _COLUMNS)
            name = builder.locate(row.where, path_of(filename), images)
            if name is not None:
                builder.add_letters(row.where, name, icm, te, expansion)
        return builder.build()


def _tables(tree: ImageTree) -> list[str]:
    headers = {name: filter(None, header_of(tree.root / name)) for name in tree.tables}
    return [name for name, columns in headers.items() if tuple(columns) == _COLUMNS]
