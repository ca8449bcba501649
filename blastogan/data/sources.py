"""Where the images of a data module come from: a folder, or phantoms."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from blastogan.data.batches import Track, no_track
from blastogan.data.cache import SMALLEST, DecodedImages, decode_images
from blastogan.data.images.colour import ColourRule
from blastogan.data.images.decoding import pyramid
from blastogan.data.images.framing import Crop
from blastogan.data.readers import reject_empty, reject_problems, scan_graded_images
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.records import GradedTable, ImageRecord
from blastogan.errors import ProblemList, UserError, check_choice, printable
from blastogan.phantoms.dataset import PhantomDataset, embryo_name, picture_name, render_phantoms
from blastogan.phantoms.plan import PhantomStyle
from blastogan.phantoms.rendering import RESOLUTIONS
from blastogan.phantoms.view import Framing
from blastogan.utils.workers import available_cores

_log = logging.getLogger(__name__)

FaultRule = Literal["refuse", "skip"]
_SHOWN = 5


@dataclass
class FolderSource:
    """Graded images of a folder.

    Attributes:
        root: The folder.
        reading: Options of its reader.
        crop: Square of each image that is shown.
        colour: What becomes of the colours.
        faults: Whether a set with broken images or rows is refused, or these are skipped.
        cache_dir: Folder that caches the decoded images; ``None`` writes nothing.
        caption: Kind of the images, for captions.
        look: Style and framing of phantoms; empty for images of a folder.
    """

    root: Path
    reading: ReaderOptions
    crop: Crop
    colour: ColourRule = "keep"
    faults: FaultRule = "refuse"
    cache_dir: str | None = None
    caption: str = "real images"
    look: str = ""

    def __post_init__(self) -> None:
        check_choice("faults", self.faults, FaultRule)
        self._table: GradedTable | None = None

    def read(self, *, decoded: bool) -> tuple[ImageRecord, ...]:
        """The images with their grades.

        If they are to be `decoded`, `decode` refuses or reports faulty rows and files together.
        """
        table = scan_graded_images(self.root, self.reading)
        _log.info("%s", printable(table.summary()))
        for note in table.notes:
            _log.info("note: %s", printable(note))
        if not table.grouped:
            _log.warning(
                "it is unknown which images show the same embryo: each counts as an embryo of its "
                "own, and a split may separate images of one embryo; if their names contain the "
                "embryo, set embryo_pattern"
            )
        if not table.problems:
            reject_empty(table)
        self._table = table
        if not decoded:
            self._resolve_faults([])
        return table.records

    def decode(
        self,
        records: Sequence[ImageRecord],
        resolution: int,
        channels: int,
        track: Track = no_track,
    ) -> DecodedImages:
        """Images of these records, in their order; those that are skipped have no row."""
        try:
            images = decode_images(
                [record.path for record in records],
                resolution,
                channels,
                self.crop,
                self.colour,
                cache_dir=self.cache_dir,
                num_workers=min(available_cores(), 8),
                skip_faulty=self.skips,
                track=track,
            )
        except ProblemList as error:
            self._resolve_faults(error.problems)
            raise
        self._resolve_faults(list(images.faults.values()))
        if images.not_found:
            _log.warning(
                "no embryo was found in %d of %d images: they show the centre",
                images.not_found,
                len(records),
            )
        return images

    @property
    def skips(self) -> bool:
        """Whether faulty images are left out, not refused."""
        return self.faults == "skip"

    @property
    def grouped(self) -> bool:
        """Whether it is known which images show the same embryo; after `read`."""
        return self._table is None or self._table.grouped

    @property
    def excluded(self) -> tuple[ImageRecord, ...]:
        """Images that the user leaves out; after `read`."""
        return self._table.excluded if self._table else ()

    def _resolve_faults(self, faults: list[str]) -> None:
        assert self._table is not None
        problems = [*self._table.problems, *faults]
        if self.faults == "refuse":
            reject_problems(self.root, self._table.format, problems)
        elif problems:
            shown = problems[:_SHOWN]
            if len(problems) > _SHOWN:
                shown.append(f"and {len(problems) - _SHOWN} more, which blastogan audit lists")
            _log.warning("skipped, %d faulty images or rows: %s", len(problems), "; ".join(shown))
        if len(faults) == len(self._table.records):
            raise UserError(f"no image of {self.root} can be used: fix the faults listed above")


@dataclass
class PhantomSource:
    """Phantoms, see `PhantomDataset`, with the properties and methods of `FolderSource`."""

    count: int | None
    seed: int
    framing: Framing
    counts: str = "study"
    style: PhantomStyle = "hoffman"
    caption: str = "phantoms"
    root: Path | None = None
    grouped: bool = True
    skips: bool = False
    excluded: tuple[ImageRecord, ...] = ()

    def __post_init__(self) -> None:
        self._phantoms(RESOLUTIONS[0])

    @property
    def look(self) -> str:
        """See `FolderSource.look`."""
        return f"{self.style}, {self.framing}"

    def read(self, *, decoded: bool) -> tuple[ImageRecord, ...]:
        """See `FolderSource.read`."""
        return phantom_records(self._phantoms(RESOLUTIONS[0]))

    def decode(
        self,
        records: Sequence[ImageRecord],
        resolution: int,
        channels: int,
        track: Track = no_track,
    ) -> DecodedImages:
        """See `FolderSource.decode`."""
        phantoms = self._phantoms(max(resolution, RESOLUTIONS[0]))
        images = render_phantoms(phantoms, channels, min(available_cores(), 8))
        number = {record.path.name: n for n, record in enumerate(phantom_records(phantoms))}
        rows = torch.tensor([number[record.path.name] for record in records], dtype=torch.int64)
        levels = pyramid(images, min(SMALLEST, resolution))
        return DecodedImages(levels, rows, faults={}, not_found=0)

    def _phantoms(self, resolution: int) -> PhantomDataset:
        return PhantomDataset(
            self.count, self.counts, self.seed, resolution, style=self.style, framing=self.framing
        )


Source = FolderSource | PhantomSource


def phantom_records(phantoms: PhantomDataset) -> tuple[ImageRecord, ...]:
    """Grade and embryo of each phantom, under the name that its file would have."""
    return tuple(
        ImageRecord(Path(picture_name(n)), view.grade, embryo_name(view.embryo))
        for n, view in enumerate(phantoms.views)
    )
