"""Graded images at one resolution, for training a grade classifier."""

from __future__ import annotations

import logging
from typing import Any

from blastogan.data.datamodule import BlastocystDataModule
from blastogan.data.transforms import Augment
from blastogan.errors import UserError
from blastogan.grades import UNGRADED
from blastogan.growth import MAX_KIMG, GrowthSchedule, check_resolution

_log = logging.getLogger(__name__)

ENDLESS = 1_000_000
"""Epochs in the schedule; the trainer ends training earlier."""


class GradeDataModule(BlastocystDataModule):
    """`BlastocystDataModule` without growth: one resolution, one batch size.

    The same images, fractions and seed give the same split as for a GAN, so a grader and a GAN
    hold out the same embryos. An epoch is a fixed number of images of an endless, resumable stream
    and not a pass over the set, so a small set gets as many steps as a large one.

    Args:
        resolution: Side of the images in pixels, a power of two.
        batch_size: Images in a training batch, summed over devices.
        epoch_kimg: Thousands of images in one epoch, rounded to whole batches.
        augment: See `BlastocystDataModule`; a grade does not depend on the pose of an embryo.
        **settings: The other settings of `BlastocystDataModule`.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        resolution: int = 64,
        batch_size: int = 32,
        epoch_kimg: float = 3.2,
        augment: Augment = "dihedral",
        **settings: Any,
    ) -> None:
        check_resolution("resolution", resolution)
        if not epoch_kimg > 0:
            raise UserError(f"epoch_kimg is {epoch_kimg}: expected more than 0")
        super().__init__(
            GrowthSchedule(
                start_resolution=resolution,
                final_resolution=resolution,
                hold_kimg=min(ENDLESS, MAX_KIMG // epoch_kimg - 1) * epoch_kimg,
                batch_size=batch_size,
                tick_kimg=epoch_kimg,
            ),
            augment=augment,
            **settings,
        )

    def _read(self, decoded: bool) -> None:
        """Read and split all images as for a GAN, then leave out those without any grade."""
        super()._read(decoded)
        graded = {
            part: [n for n in positions if self.records[n].grade != UNGRADED]
            for part, positions in self.split.items()
        }
        left_out = sum(len(self.split[part]) - len(graded[part]) for part in graded)
        if not graded["train"]:
            raise UserError("no training image has a grade to learn from: grade some images")
        if left_out:
            _log.info("%d images without a grade are left out", left_out)
        self.split = graded
