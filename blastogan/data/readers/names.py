"""Reader of grades in file names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.cells import parse_grade, part_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable


class GradedNameReader:
    """Reader of images named ``<embryo>_<plane>_<grade>``, as in STORK (Khosravi et al. 2019).

    ``34107362_-15_3AA-.jpg`` shows embryo 34107362 in the focal plane -15. The plane, an integer,
    is optional. Images may lie in subfolders, including the folders ``train``, ``val`` and ``test``
    of a published split. Outside of these, a prefix ``good_`` or ``poor_`` marks STORK's test
    images.
    """

    format = "names"
    layout = "images named <embryo>_<plane>_<grade>, such as 34107362_-15_3AA-.jpg"
    _NAME = re.compile(
        r"((?P<test>good|poor)_)?(?P<embryo>.+?)(_[+-]?\d+)?_(?P<grade>[^_]*)", re.IGNORECASE
    )

    def claims(self, tree: ImageTree) -> bool:
        """Whether at least half of the images have a grade at the end of their name."""
        matches = [self._match(name) for name in tree.images]
        graded = sum(bool(match and parse_grade(match["grade"])) for match in matches)
        return 0 < len(matches) <= 2 * graded

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the names of all images, see `Reader.read`."""
        builder = TableBuilder(tree, self.format, options)
        matches = {name: self._match(name) for name in tree.images}
        split = any(match is not None and match["test"] for match in matches.values())
        for name, match in matches.items():
            if match is None:
                fault = "not named <embryo>_<plane>_<grade>; rename or remove it"
                builder.reject(name, name, fault)
            else:
                part = part_of(name.partition("/")[0]) if "/" in name else ""
                part = part or (("test" if match["test"] else "train") if split else "")
                builder.add(name, name, match["grade"], match["embryo"], part)
        return builder.build()

    def _match(self, name: str) -> re.Match[str] | None:
        return self._NAME.fullmatch(PurePosixPath(name).stem)
