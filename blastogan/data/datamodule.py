"""Graded blastocyst images for training and evaluation."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from blastogan.data.images import load_images, pyramid
from blastogan.data.phantom_anatomy import Framing
from blastogan.data.phantom_set import phantom_records, render_phantoms
from blastogan.data.phantoms import RESOLUTIONS, PhantomImages
from blastogan.data.readers import read_graded_images
from blastogan.data.records import ImageRecord
from blastogan.data.splits import split_by_embryo
from blastogan.data.stream import (
    SYMMETRIES,
    Augmentation,
    ImageBatch,
    ImageOrder,
    PositionedBatchSampler,
    StreamedImages,
)
from blastogan.data.workers import available_cores, ignore_interrupt, unchanged
from blastogan.errors import UserError
from blastogan.grades import CLASSES, Grade, parse_grade_counts
from blastogan.growth import GrowthSchedule

_log = logging.getLogger(__name__)


class BlastocystDataModule(LightningDataModule):
    """Ten-class images, split by embryo, at the resolution and batch size of a schedule.

    Without a folder the images are phantoms: procedural drawings that ship with the package.
    Images are decoded and resized once, then held as uint8 at each resolution of the schedule.

    Args:
        schedule: Gives the resolutions, and the batch size at every point of training.
        root: Folder of graded images; ``None`` for phantoms.
        format: Name of a reader, or ``auto`` for the first that knows the folder.
        img_channels: 1 (grey) or 3 (RGB).
        augment: Symmetries under which training images are shown: ``none``, ``flip`` (mirrored
            half of the time) or ``dihedral`` (any of the eight turns and mirrorings).
        val_fraction: Share of the embryos held out for validation.
        test_fraction: Share of the embryos held out for test.
        num_phantoms: Number of phantoms, where there is no folder.
        phantom_framing: ``embryo`` centres the embryo, ``well`` shows the well.
        seed: Seed of phantoms, split and order.
        num_workers: Processes that load training batches.
        eval_batch_size: Images to a batch of validation, test and prediction.
        predict_count: Images that ``predict`` generates.
        predict_grades: ``balanced``, ``like-data`` or counts such as ``AA:20,CC:5``.
        predict_seed: Seed of the images that ``predict`` generates.

    Attributes:
        records: All images with grade and embryo; after `setup`.
        split: Positions in `records` by ``train``, ``val`` and ``test``; after `setup`.
    """

    def __init__(
        self,
        schedule: GrowthSchedule,
        root: str | None = None,
        format: str = "auto",  # noqa: A002
        img_channels: int = 1,
        augment: Augmentation = "none",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        num_phantoms: int = 3800,
        phantom_framing: Framing = "embryo",
        seed: int = 0,
        num_workers: int = 0,
        eval_batch_size: int = 64,
        predict_count: int = 100,
        predict_grades: str = "balanced",
        predict_seed: int = 0,
    ) -> None:
        super().__init__()
        if augment not in SYMMETRIES:
            raise UserError(f"augment is {augment!r}: expected one of {', '.join(SYMMETRIES)}")
        if num_workers < 0 or eval_batch_size < 1:
            raise UserError("num_workers must be 0 or more and eval_batch_size 1 or more")
        self.schedule = schedule
        self.root = root
        self.format = format
        self.img_channels = img_channels
        self.augment = augment
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.num_phantoms = num_phantoms
        self.phantom_framing = phantom_framing
        self.seed = seed
        self.num_workers = num_workers
        self.eval_batch_size = eval_batch_size
        self.predict_count = predict_count
        self.predict_grades = predict_grades
        self.predict_seed = predict_seed
        self.records: tuple[ImageRecord, ...] = ()
        self.split: dict[str, list[int]] = {}
        self._pyramids: dict[str, dict[int, Tensor]] = {}

    @property
    def source(self) -> str:
        """What the images are, for captions: ``phantoms`` or ``real images``."""
        return "phantoms" if self.root is None else "real images"

    def setup(self, stage: str) -> None:
        """Read, split and decode the images, once for all stages; prediction decodes none.

        Raises:
            UserError: If the folder, a table or an image cannot be read; all faults are listed.
        """
        if not self.records:
            self._read()
        if not self._pyramids and stage != "predict":
            self._decode()

    def _read(self) -> None:
        if self.root is None:
            records = phantom_records(self._phantoms())
        else:
            table = read_graded_images(Path(self.root), self.format)
            _log.info("%s", table.summary())
            records = table.records
        self.split = split_by_embryo(records, self.val_fraction, self.test_fraction, self.seed)
        self.records = records

    def _phantoms(self) -> PhantomImages:
        resolution = max(self.schedule.final_resolution, RESOLUTIONS[0])
        return PhantomImages(self.num_phantoms, self.seed, resolution, framing=self.phantom_framing)

    def _decode(self) -> None:
        resolution = self.schedule.final_resolution
        workers = min(available_cores(), 8)
        if self.root is None:
            images = render_phantoms(self._phantoms(), self.img_channels, workers)
        else:
            images = load_images(self.records, resolution, self.img_channels, workers)
        for part, positions in self.split.items():
            coarsest = self.schedule.start_resolution if part == "train" else resolution
            self._pyramids[part] = pyramid(images[positions], coarsest)
        self._describe()

    def state_dict(self) -> dict[str, Any]:
        """What a run was trained on: a fingerprint of all images with grade, embryo and part."""
        parts = {n: part for part, positions in self.split.items() for n in positions}
        lines = [
            f"{record.path.name} {record.grade.name} {record.embryo} {parts[n]}"
            for n, record in enumerate(self.records)
        ]
        digest = hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
        return {
            "images": len(self.records),
            "source": self.source,
            "seed": self.seed,
            "augment": self.augment,
            "fingerprint": digest,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the images of a checkpoint with those at hand.

        Raises:
            UserError: If a run is to go on with other images, another split or another order.
        """
        mine = self.state_dict()
        different = [
            f"{name} is {state_dict[name]} in the checkpoint and {mine[name]} here"
            for name in mine
            if mine[name] != state_dict[name]
        ]
        if not different:
            return
        stage = self.trainer.state.fn if self.trainer else "fit"
        if stage == "fit":
            raise UserError(
                "the checkpoint was trained on other data: " + "; ".join(different) + ". Give the "
                "same --data.root, fractions and --seed_everything to go on with it."
            )
        if stage != "predict":
            _log.warning(
                "these are not the images that the checkpoint was trained with, or not the same "
                "split; held-out images may have been trained on: %s",
                "; ".join(different),
            )

    def _describe(self) -> None:
        for part, positions in self.split.items():
            embryos = len({self.records[n].embryo for n in positions})
            counts = self.class_counts(part)
            classes = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
            images = f"{len(positions)} {self.source} of {embryos} embryos"
            _log.info("%s: %s (%s)", part, images, classes or "no image")

    def class_counts(self, part: str = "train") -> dict[str, int]:
        """Images of each of the ten classes in a part of the split; after `setup`."""
        found = Counter(self.records[n].grade.name for n in self.split[part])
        return {name: found[name] for name in CLASSES}

    def labels(self, part: str) -> Tensor:
        """Labels int64 ``(N, 2)`` of a part of the split; after `setup`."""
        labels = [self.records[n].grade.labels for n in self.split[part]]
        return torch.tensor(labels, dtype=torch.int64).view(-1, 2)

    def images(self, part: str) -> Tensor:
        """Images uint8 ``(N, C, R, R)`` of a part at the final resolution; after `setup`."""
        return self._pyramids[part][self.schedule.final_resolution]

    def train_dataloader(self) -> DataLoader[ImageBatch]:
        """Stream of training batches from the images shown so far to the end of the tick."""
        trainer = self.trainer
        sampler = PositionedBatchSampler(
            ImageOrder(len(self.split["train"]), self.seed, SYMMETRIES[self.augment]),
            self.schedule,
            self._images_shown,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        return DataLoader(
            StreamedImages(self._pyramids["train"], self.labels("train")),
            batch_sampler=sampler,
            collate_fn=unchanged,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=ignore_interrupt,
            pin_memory=torch.cuda.is_available(),
            # an iterator draws a seed for its workers, else from the global generator
            generator=torch.Generator(),
        )

    def _images_shown(self) -> int:
        module = self.trainer.lightning_module if self.trainer else None
        return int(getattr(module, "images_shown", 0))

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation images at the final resolution, in order."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Test images at the final resolution, in order."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, part: str) -> DataLoader[Any]:
        images, labels = self.images(part), self.labels(part)
        indexed = TensorDataset(images, labels, torch.arange(len(images)))
        return self._loader_of(indexed, ("image", "labels", "index"))

    def predict_dataloader(self) -> DataLoader[Any]:
        """Requests for the images that ``predict`` generates, class by class."""
        counts = parse_grade_counts(
            self.predict_grades, self.predict_count, self.class_counts("train")
        )
        labels = [Grade.parse(name).labels for name, count in counts.items() for _ in range(count)]
        index = torch.arange(len(labels))
        seeds = torch.full_like(index, self.predict_seed)
        # each device makes its own share
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        columns = (torch.tensor(labels), index, seeds)
        requests = TensorDataset(*(column[rank::ranks] for column in columns))
        return self._loader_of(requests, ("labels", "index", "seed"))

    def _loader_of(self, dataset: Dataset[Any], names: tuple[str, ...]) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.eval_batch_size,
            collate_fn=_Named(names),
            generator=torch.Generator(),
        )


class _Named:
    """Collate tuples of tensors into a mapping."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, items: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        columns = zip(*items, strict=True)
        return {name: torch.stack(c) for name, c in zip(self.names, columns, strict=True)}
