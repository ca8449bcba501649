"""Graded images at one resolution, for training a grade classifier."""

from __future__ import annotations

from blastogan.data.datamodule import BlastocystDataModule
from blastogan.data.phantom_anatomy import Framing
from blastogan.data.stream import Augmentation
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule, check_resolution

ENDLESS = 1_000_000
"""Epochs in the schedule; how many are run is up to the trainer."""


class GradeDataModule(BlastocystDataModule):
    """`BlastocystDataModule` without growth: one resolution, one batch size.

    The same images, fractions and seed give the same split as for a GAN, so that a grader and a
    GAN hold out the same embryos. An epoch is a fixed number of images of an endless, resumable
    stream, not a pass over the set: a small set gets as many steps as a large one.

    Args:
        root: Folder of graded images; ``None`` for phantoms.
        resolution: Side of the images in pixels, a power of two.
        batch_size: Images to a batch of training, summed over devices.
        epoch_kimg: Thousands of images to one epoch, rounded to whole batches.
        format: Name of a reader, or ``auto`` for the first that knows the folder.
        img_channels: 1 (grey) or 3 (RGB).
        augment: Symmetries under which training images are shown: ``none``, ``flip`` or
            ``dihedral``; a grade does not depend on how an embryo lies.
        val_fraction: Share of the embryos held out for validation.
        test_fraction: Share of the embryos held out for test.
        num_phantoms: Number of phantoms, where there is no folder.
        phantom_framing: ``embryo`` centres the embryo, ``well`` shows the well.
        seed: Seed of phantoms, split and order.
        num_workers: Processes that load training batches.
        eval_batch_size: Images to a batch of validation and test.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        root: str | None = None,
        resolution: int = 64,
        batch_size: int = 32,
        epoch_kimg: float = 3.2,
        format: str = "auto",  # noqa: A002
        img_channels: int = 1,
        augment: Augmentation = "dihedral",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        num_phantoms: int = 3800,
        phantom_framing: Framing = "embryo",
        seed: int = 0,
        num_workers: int = 0,
        eval_batch_size: int = 64,
    ) -> None:
        check_resolution("resolution", resolution)
        if not epoch_kimg > 0:
            raise UserError(f"epoch_kimg is {epoch_kimg}: expected more than 0")
        super().__init__(
            GrowthSchedule(
                start_resolution=resolution,
                final_resolution=resolution,
                hold_kimg=ENDLESS * epoch_kimg,
                batch_size=batch_size,
                tick_kimg=epoch_kimg,
            ),
            root=root,
            format=format,
            img_channels=img_channels,
            augment=augment,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            num_phantoms=num_phantoms,
            phantom_framing=phantom_framing,
            seed=seed,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
        )
