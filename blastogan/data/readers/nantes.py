"""Reader of the Nantes time-lapse data set."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from blastogan.data.readers.builder import TableBuilder
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import Row, read_table
from blastogan.data.readers.tree import ImageTree
from blastogan.data.records import GradedTable
from blastogan.errors import UserError

_TABLE = "embryo_dataset_grades.csv"
_FRAME = re.compile(r"RUN(?P<number>\d+)$", re.IGNORECASE)
_BLASTOCYST = ("tb", "teb", "thb")
_FRAMES_PER_HOUR = 4
_ALL = (-math.inf, math.inf)


class _Frame(NamedTuple):
    number: int
    name: str


class NantesReader:
    """Reader of the Nantes time-lapse data set (Gomez et al. 2022, Data in Brief 42, 108258).

    ``embryo_dataset_grades.csv`` grades the videos, which are folders of frames ``..._RUN12.jpeg``
    in ``embryo_dataset/`` and, for other focal planes, in ``embryo_dataset_F15/`` and the like.
    From the start of the blastocyst (``tB`` in ``VIDEO_phases.csv``), the first frame of every hour
    (by ``VIDEO_timeElapsed.csv``) of each video and plane is read. The group is the video.
    """

    format = "nantes"
    layout = f"{_TABLE} beside embryo_dataset/ (Nantes time-lapse)"

    def claims(self, tree: ImageTree, options: ReaderOptions) -> bool:
        """Whether the table of grades exists."""
        return (tree.root / _TABLE).is_file()

    def read(self, tree: ImageTree, options: ReaderOptions) -> GradedTable:
        """Read the table and select frames, see `Reader.read`."""
        path = tree.root / _TABLE
        if not path.is_file():
            raise UserError(f"{path} is missing: put the table there, or choose another format")
        table = read_table(path)
        remedy = "Keep the published columns, or choose another format"
        table.require(("video_name", "te", "icm"), remedy)
        builder = TableBuilder(tree, self.format, options)
        builder.notes += table.notes
        builder.embryos_by = "the video"
        videos = _videos(tree)
        selector = _FrameSelector(builder)
        for row in table.rows:
            video = row.cells.get("video_name", "")
            if row.fault or not video:
                builder.problems.append(f"{row.where}: {row.fault or 'no video_name'}")
                continue
            planes = videos.get(video.lower(), {})
            if not planes:
                builder.drop(video, "no frame of this video")
            icm, te = row.cells["icm"], row.cells["te"]
            for frames in planes.values():
                for name in selector.select(video, frames):
                    builder.add_letters(row.where, name, icm, te, embryo=video)
        if options.ungraded == "use":
            listed = {row.cells.get("video_name", "").lower() for row in table.rows}
            for video in sorted(videos.keys() - listed):
                for frames in videos[video].values():
                    for name in selector.select(video, frames):
                        builder.add_letters(f"video {video}", name, "", "", embryo=video)
        selector.add_notes()
        return builder.build()


class _FrameSelector:
    """Selects frames by hour and phase, and notes missing information."""

    def __init__(self, builder: TableBuilder) -> None:
        self._builder = builder
        self._tables = {PurePosixPath(name).stem.lower(): name for name in builder.tree.tables}
        self._known: dict[str, tuple[dict[int, float] | None, tuple[float, float]]] = {}
        self._early = self._between = 0

    def select(self, video: str, frames: Sequence[_Frame]) -> list[str]:
        """First frame of each hour of the blastocyst."""
        if video not in self._known:
            self._known[video] = (self._hours(video), self._span(video))
        hours, (first, last) = self._known[video]
        inside = [frame for frame in frames if first <= frame.number <= last]
        self._early += len(frames) - len(inside)
        if not inside:
            self._builder.drop(video, "no frame of a blastocyst")
        selected: dict[int, str] = {}
        for frame in sorted(inside):
            time = frame.number / _FRAMES_PER_HOUR if hours is None else hours.get(frame.number)
            if time is not None:
                selected.setdefault(math.floor(time), frame.name)
        self._between += len(inside) - len(selected)
        self._builder.ignore(frame.name for frame in frames)
        return list(selected.values())

    def add_notes(self) -> None:
        """Note frames that were left out, and assumptions."""
        notes = self._builder.notes
        unphased = sum(span == _ALL for _, span in self._known.values())
        untimed = sum(hours is None for hours, _ in self._known.values())
        if self._early:
            notes.append(f"{self._early} frames of stages other than the blastocyst are left out")
        if self._between:
            notes.append(f"{self._between} frames are left out: one per hour is read")
        if unphased:
            notes.append(
                f"phases (VIDEO_phases.csv) of {unphased} videos are missing: frames of "
                "all stages, including cleavage, get the grade; unpack embryo_dataset_annotations "
                "beside the table"
            )
        if untimed:
            notes.append(
                f"times (VIDEO_timeElapsed.csv) of {untimed} videos are missing: "
                f"{_FRAMES_PER_HOUR} frames per hour are assumed; unpack "
                "embryo_dataset_time_elapsed beside the table"
            )

    def _hours(self, video: str) -> dict[int, float] | None:
        """Hours since fertilisation by frame number."""
        rows = self._rows(f"{video}_timeelapsed", ("frame_index", "time"))
        if rows is None:
            return None
        pairs = [self._numbers(row, "frame_index", "time") for row in rows]
        return {int(number): time for number, time in filter(None, pairs)}

    def _span(self, video: str) -> tuple[float, float]:
        """First and last frame of the blastocyst: an empty span without one, `_ALL` if unknown."""
        rows = self._rows(f"{video}_phases", ("phase", "start", "end"), headless=True)
        if rows is None:
            return _ALL
        phases = [row for row in rows if row.cells.get("phase", "").lower() in _BLASTOCYST]
        spans = list(filter(None, (self._numbers(row, "start", "end") for row in phases)))
        first = min((start for start, _ in spans), default=0)
        last = max((end for _, end in spans), default=-1)
        return (int(first), int(last)) if first <= last else (0, -1)

    def _rows(
        self, stem: str, columns: tuple[str, ...], *, headless: bool = False
    ) -> Sequence[Row] | None:
        """Rows of one video's table; ``None`` if it is missing or cannot be read."""
        name = self._tables.get(stem.lower())
        if name is None:
            return None
        try:
            table = read_table(self._builder.tree.root / name, columns if headless else None)
            table.require(columns, "Keep the published columns")
        except UserError as error:
            self._builder.problems.append(str(error))
            return None
        return table.rows

    def _numbers(self, row: Row, *columns: str) -> tuple[float, float] | None:
        first, second = (_number(row.cells.get(name)) for name in columns)
        if first is None or second is None:
            self._builder.problems.append(f"{row.where}: {' and '.join(columns)} must be numbers")
            return None
        return first, second


def _videos(tree: ImageTree) -> dict[str, dict[str, list[_Frame]]]:
    """Frames by lower-case video name, then by folder of the focal plane."""
    videos: dict[str, dict[str, list[_Frame]]] = {}
    for name in tree.images:
        path = PurePosixPath(name)
        match = _FRAME.search(path.stem)
        if match is not None and len(path.parts) > 1:
            planes = videos.setdefault(path.parent.name.lower(), {})
            plane = path.parent.parent.as_posix()
            planes.setdefault(plane, []).append(_Frame(int(match["number"]), name))
    return videos


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
