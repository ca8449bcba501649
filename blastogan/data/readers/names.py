"""Reader of grades in file names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from blastogan.data.readers.draft import TableBuilder
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.protocol import is_grade, part_of
from blastogan.data.readers.tree import Folder
from blastogan.data.records import GradedTable


class GradedNameReader:
    """Reader of images named ``<embryo>_<plane>_<grade>``, as in STORK (Khosravi et al. 2019).

    ``34107362_-15_3AA-.jpg`` shows embryo 34107362 in the focal plane -15. The plane, an integer,
    may be missing; images may lie in subfolders, also in folders ``train``, ``val`` and ``test`` of
    a published split. Outside of these, a prefix ``good_`` or ``poor_`` marks its test images.
    """

    format = "names"
    layout = "images named <embryo>_<plane>_<grade>, such as 34107362_-15_3AA-.jpg"
    _NAME = re.compile(
        r"((?P<test>good|poor)_)?(?P<embryo>.+?)(_[+-]?\d+)?_(?P<grade>[^_]*)", re.IGNORECASE
    )

    def claims(self, folder: Folder) -> bool:
        """Whether at least half of the images have a grade at the end of their name."""
        matches = [self._NAME.fullmatch(PurePosixPath(name).stem) for name in folder.images]
        graded = sum(match is not None and is_grade(match["grade"]) for match in matches)
        return 0 < len(matches) <= 2 * graded

    def read(self, folder: Folder, reading: ReaderOptions) -> GradedTable:
        """Read the names of all images, see `Reader.read`."""
        draft = TableBuilder(folder, self.format, reading)
        found = {name: self._NAME.fullmatch(PurePosixPath(name).stem) for name in folder.images}
        split = any(match is not None and match["test"] for match in found.values())
        for name, match in found.items():
            if match is None:
                draft.problems.append(
                    f"{name}: not named <embryo>_<plane>_<grade>; rename it or take it out"
                )
                draft.ignore([name])
            else:
                part = part_of(name.partition("/")[0]) if "/" in name else ""
                part = part or (("test" if match["test"] else "train") if split else "")
                draft.add(name, name, match["grade"], match["embryo"], part)
        return draft.table()
