"""Where the images of a data module come from: a folder, or phantoms."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import torch

from blastogan.data.images.decoding import pyramid
from blastogan.data.images.framing import Crop
from blastogan.data.readers import reject_empty, reject_problems, scan_graded_images
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.records import GradedTable, ImageRecord
from blastogan.data.store import ImageStore, open_store
from blastogan.errors import ProblemList, UserError
from blastogan.phantoms.dataset import PhantomDataset, embryo_name, picture_name, render_phantoms
from blastogan.phantoms.plan import PhantomStyle
from blastogan.phantoms.rendering import RESOLUTIONS
from blastogan.phantoms.view import Framing
from blastogan.utils.workers import available_cores

_log = logging.getLogger(__name__)

FaultRule = Literal["refuse", "skip"]
"""What becomes of a set with broken images or rows: none of it is used, or all but these."""

_SHOWN = 5


class Source(Protocol):
    """Graded images that can be decoded."""

    @property
    def caption(self) -> str:
        """What they are, for captions."""
        ...

    @property
    def look(self) -> str:
        """What phantoms look like; empty for images, which look as they do."""
        ...

    @property
    def root(self) -> Path | None:
        """The folder that they lie in, if they do."""
        ...

    @property
    def grouped(self) -> bool:
        """Whether anything tells which of them show the same embryo; after `read`."""
        ...

    @property
    def skips(self) -> bool:
        """Whether faulty ones are left out, not refused."""
        ...

    def read(self) -> tuple[ImageRecord, ...]:
        """The images with their grades, none of them decoded.

        Raises:
            UserError: If they cannot be read.
        """
        ...

    def resolve_row_faults(self) -> None:
        """Refuse or report the faulty rows alone, where nothing will be decoded.

        Raises:
            UserError: If there are any, and they are to be refused.
        """
        ...

    def decode(self, records: Sequence[ImageRecord], resolution: int, channels: int) -> ImageStore:
        """Images of these records, in their order; faulty ones have no row if they may be skipped.

        Raises:
            UserError: If they cannot be decoded.
        """
        ...


@dataclass
class FolderSource:
    """Graded images of a folder.

    Attributes:
        root: The folder.
        reading: How it is read.
        crop: What is shown of each image.
        faults: Whether a set with broken images or rows is refused, or these are skipped.
        cache_dir: Folder for a store of the decoded images; ``None`` to hold them in memory.

    Raises:
        UserError: If there is no such rule.
    """

    root: Path
    reading: ReaderOptions
    crop: Crop
    faults: FaultRule = "refuse"
    cache_dir: str | None = None
    caption: str = "real images"
    look: str = ""

    def __post_init__(self) -> None:
        if self.faults not in get_args(FaultRule):
            raise UserError(
                f"faults is {self.faults!r}: expected {' or '.join(get_args(FaultRule))}"
            )
        self._table: GradedTable | None = None

    def read(self) -> tuple[ImageRecord, ...]:
        """See `Source.read`; faulty rows are left to `decode`, to be told with faulty files."""
        table = scan_graded_images(self.root, self.reading)
        _log.info("%s", table.summary())
        for note in table.notes:
            _log.info("note: %s", note)
        if not table.grouped:
            _log.warning(
                "nothing tells which images show the same embryo: each counts as an embryo of its "
                "own, and a split may part the images of one; if their names tell, set "
                "embryo_pattern"
            )
        if not table.problems:
            reject_empty(table)
        self._table = table
        return table.records

    def resolve_row_faults(self) -> None:
        """See `Source.resolve_row_faults`."""
        self._settle([])

    def decode(self, records: Sequence[ImageRecord], resolution: int, channels: int) -> ImageStore:
        """See `Source.decode`."""
        workers = min(available_cores(), 8)
        try:
            store = open_store(
                [record.path for record in records],
                resolution,
                channels,
                self.crop,
                cache_dir=self.cache_dir,
                num_workers=workers,
                skip_faulty=self.skips,
            )
        except ProblemList as error:
            self._settle(error.problems)
            raise
        self._settle(list(store.faults.values()))
        if store.not_found:
            _log.warning(
                "no embryo was found in %d of %d images: they show the centre",
                store.not_found,
                len(records),
            )
        return store

    @property
    def skips(self) -> bool:
        """See `Source.skips`."""
        return self.faults == "skip"

    @property
    def grouped(self) -> bool:
        """See `Source.grouped`."""
        return self._table is None or self._table.grouped

    def _settle(self, faults: list[str]) -> None:
        assert self._table is not None
        problems = [*self._table.problems, *faults]
        if self.faults == "refuse":
            reject_problems(self.root, self._table.format, problems)
        elif problems:
            shown = "; ".join(problems[:_SHOWN])
            _log.warning(
                "skipped, %d faulty images or rows: %s%s",
                len(problems),
                shown,
                f"; and {len(problems) - _SHOWN} more, which blastogan audit lists"
                if len(problems) > _SHOWN
                else "",
            )
        if len(faults) == len(self._table.records):
            raise UserError(f"no image of {self.root} can be used: see what is wrong with each")


@dataclass
class PhantomSource:
    """Phantoms, drawn when they are asked for.

    Attributes:
        count: Number of phantoms; ``None`` for 3,800, or the sum of explicit counts.
        seed: Phantom n of a seed is always the same.
        framing: ``embryo`` or ``well``.
        counts: Law of the classes, or their counts, as of `PhantomPlan`.
        style: Optics of the microscope.

    Raises:
        ProblemList: If settings cannot be; all are listed.
    """

    count: int | None
    seed: int
    framing: Framing
    counts: str = "study"
    style: PhantomStyle = "hoffman"
    caption: str = "phantoms"
    root: Path | None = None
    grouped: bool = True
    skips: bool = False

    def __post_init__(self) -> None:
        self._phantoms(RESOLUTIONS[0])

    @property
    def look(self) -> str:
        """See `Source.look`."""
        return f"{self.style}, {self.framing}"

    def resolve_row_faults(self) -> None:
        """See `Source.resolve_row_faults`."""

    def read(self) -> tuple[ImageRecord, ...]:
        """See `Source.read`."""
        return phantom_records(self._phantoms(RESOLUTIONS[0]))

    def decode(self, records: Sequence[ImageRecord], resolution: int, channels: int) -> ImageStore:
        """See `Source.decode`."""
        phantoms = self._phantoms(max(resolution, RESOLUTIONS[0]))
        images = render_phantoms(phantoms, channels, min(available_cores(), 8))
        number = {record.path.name: n for n, record in enumerate(self.read())}
        rows = torch.tensor([number[record.path.name] for record in records], dtype=torch.int64)
        return ImageStore(pyramid(images, min(resolution, 4)), rows, faults={}, not_found=0)

    def _phantoms(self, resolution: int) -> PhantomDataset:
        return PhantomDataset(
            self.count,
            self.counts,
            self.seed,
            resolution,
            style=self.style,
            framing=self.framing,
        )


def phantom_records(phantoms: PhantomDataset) -> tuple[ImageRecord, ...]:
    """Grade and embryo of each phantom, under the name that its file would have."""
    return tuple(
        ImageRecord(Path(picture_name(n)), view.grade, embryo_name(view.embryo))
        for n, view in enumerate(phantoms.views)
    )
