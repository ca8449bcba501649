"""Graded blastocyst images for training and evaluation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from blastogan.data.balance import (
    Balance,
    RareRule,
    apply_rare_class_rule,
    check_balance,
    class_distribution,
    shares_of_strata,
)
from blastogan.data.batches import (
    ImagesInOrder,
    Track,
    loader_in_order,
    no_track,
    positions_of_rank,
)
from blastogan.data.cache import DecodedImages
from blastogan.data.images.colour import ColourRule, check_colour
from blastogan.data.images.framing import Crop, CropKind
from blastogan.data.parts import parts_of
from blastogan.data.provenance import split_fingerprint, state_differences
from blastogan.data.readers.options import (
    GradeSource,
    NotGradable,
    ReaderOptions,
    UngradedRule,
)
from blastogan.data.records import ImageRecord, class_counts
from blastogan.data.sources import FaultRule, FolderSource, PhantomSource, Source
from blastogan.data.splits import (
    LeakRule,
    Split,
    SplitKind,
    SplitPlan,
    resolve_copies,
    split_records,
)
from blastogan.data.stream import ImageOrder, PositionedBatchSampler, StreamedImages
from blastogan.data.transforms import Augment, Transform, check_augment, plan_augmentation
from blastogan.errors import UserError, check_ranges
from blastogan.grades import Grade, Grading, grading_of, parse_grade_counts
from blastogan.growth import MAX_BATCH, GrowthSchedule
from blastogan.phantoms.plan import PhantomStyle
from blastogan.phantoms.view import Framing
from blastogan.utils.workers import MAX_WORKERS, ignore_interrupt, unchanged

_log = logging.getLogger(__name__)

MIN_TRAINING = 2
"""Fewest images to train on; metrics compare two images and more."""


class BlastocystDataModule(LightningDataModule):
    """Images of ten classes or of unknown grade, split by embryo, at the stage of a schedule.

    Without a folder the images are phantoms, procedural drawings. Images are decoded and resized
    once, then held in memory as uint8 at each resolution, and pinned on their way to a GPU.

    Args:
        schedule: Resolution and batch size at every point of training.
        root: Folder of graded images; ``None`` for phantoms.
        format: ``auto`` for the first reader that knows the folder, or one of ``kromp``,
            ``nantes``, ``clinic``, ``blasts-online``, ``csv``, ``names``, ``folders`` and
            ``ungraded``.
        table: Table of the format ``csv``: a path relative to `root` or the current folder.
        columns: Names of its columns by role (image, grade or icm and te, expansion, embryo,
            part), also as text: ``image=file,grade=score``; ``expansion=`` takes none, and
            ``embryo=patient+embryo`` two.
        embryo_pattern: Regular expression that finds the embryo in an image's path by its group
            ``embryo``, else its first group; for sets that do not name embryos otherwise.
        not_gradable: ``drop`` images that could not be graded yet, or take them as ``DD``.
        ungraded: ``use`` images of which a letter of the grade or all of it is unknown, or ``drop``
            them.
        grade_pattern: Regular expression that finds the grade in an image's path by its groups
            ``grade``, or ``icm`` and ``te``; common forms are found without it.
        grade_map: What values of grades mean: ``EB=ND,1=AA``, or a mapping.
        trust: Which grade is right where ``folder``, ``name`` and ``table`` disagree; otherwise
            such a set is refused.
        exclude: Table of images to leave out, such as ``blastogan audit --write-exclude`` writes.
        faults: ``refuse`` a set with broken images or rows, or ``skip`` these.
        split: ``by-embryo`` for a new split, ``published`` for the split of the data set.
        split_file: Split to use instead, such as the ``split.csv`` of a run.
        leaks: ``report`` or ``drop`` training images whose embryo or exact copy is held out.
        val_fraction: Share of the embryos held out for validation.
        test_fraction: Share of the embryos held out for test.
        folds: Number of folds of a cross-validation by embryo, instead of `test_fraction`.
        fold: Fold that is the test part, from 0.
        min_class_images: Classes with fewer images are rare.
        rare_classes: ``keep`` rare classes with a warning, ``merge`` each into the nearest class
            that is not rare, or ``drop`` their images.
        balance: Class distribution of training: as in the data (``none``), by the square root of
            the counts (``sqrt``), or ``uniform``.
        img_channels: 1 (grey) or 3 (RGB).
        colour: ``keep`` the colours of RGB images, make them ``grey``, or ``balance`` them, which
            takes the cast of the light out of each image.
        crop: Square at the ``centre`` of each image, or around its ``embryo``.
        crop_margin: Margin around the embryo, in units of its radius.
        augment: ``none``, ``flip`` (mirrored half of the time), ``dihedral`` (any of the eight
            symmetries of the square), ``grade-preserving`` (also slight rotations, shifts and
            changes of light), or a list of albumentations by ``class_path`` and ``init_args``.
        cache_dir: Folder that keeps the decoded images for later runs; without it, each run
            decodes them again.
        num_phantoms: Number of phantoms if there is no folder: 3,800 unless counted by class.
        phantom_counts: ``study`` for ten classes as rare as in public data and several images of
            an embryo; ``balanced``; or images of each class, such as ``AA:20,BB:10``.
        phantom_style: Microscope: ``hoffman``, ``dic``, ``brightfield``, or ``mixed``.
        phantom_framing: ``embryo`` centres the embryo, ``well`` shows the well.
        seed: Seed of phantoms, split and order.
        num_workers: Processes that load training batches.
        eval_batch_size: Images to a batch of validation, test and prediction.
        predict_count: Images that ``predict`` generates.
        predict_grades: ``balanced``, ``like-data``, ``AB``, or counts such as ``AA:20,CC:5``.
        predict_seed: Seed of the images that ``predict`` generates.

    Raises:
        UserError: If a value is unknown or out of range.
    """

    # described here, as the command line would take an Attributes entry `split` for the option
    records: tuple[ImageRecord, ...] = ()
    """All images with grade and embryo; after `setup`."""
    split: Split
    """Positions in `records` by ``train``, ``val`` and ``test``; after `setup`."""
    weak_parts: dict[str, str]
    """Why metrics on a held-out part say nothing, for parts that are too small; after `setup`."""
    track: Track
    """Shows the progress of decoding; by default nothing."""

    def __init__(
        self,
        schedule: GrowthSchedule,
        root: str | None = None,
        format: str = "auto",  # noqa: A002
        table: str | None = None,
        columns: dict[str, str] | str | None = None,
        embryo_pattern: str | None = None,
        not_gradable: NotGradable = "drop",
        ungraded: UngradedRule = "use",
        grade_pattern: str | None = None,
        grade_map: dict[str, str] | str | None = None,
        trust: GradeSource | None = None,
        exclude: str | None = None,
        faults: FaultRule = "refuse",
        split: SplitKind = "by-embryo",
        split_file: str | None = None,
        leaks: LeakRule = "report",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        folds: int | None = None,
        fold: int = 0,
        min_class_images: int = 10,
        rare_classes: RareRule = "keep",
        balance: Balance = "none",
        img_channels: int = 1,
        colour: ColourRule = "keep",
        crop: CropKind = "centre",
        crop_margin: float = 0.1,
        augment: Augment = "none",
        cache_dir: str | None = None,
        num_phantoms: int | None = None,
        phantom_counts: str = "study",
        phantom_style: PhantomStyle = "hoffman",
        phantom_framing: Framing = "embryo",
        seed: int = 0,
        num_workers: int = 0,
        eval_batch_size: int = 64,
        predict_count: int = 100,
        predict_grades: str = "balanced",
        predict_seed: int = 0,
    ) -> None:
        super().__init__()
        if num_workers < 0 or eval_batch_size < 1:
            raise UserError("num_workers must be 0 or more and eval_batch_size 1 or more")
        check_ranges({"data.num_workers": num_workers}, 0, MAX_WORKERS)
        check_ranges({"data.eval_batch_size": eval_batch_size}, 1, MAX_BATCH)
        check_augment(augment)
        check_balance(balance, rare_classes)
        check_colour(colour, img_channels)
        reading = ReaderOptions(
            format,
            table,
            columns or {},
            embryo_pattern,
            not_gradable,
            ungraded,
            grade_pattern,
            grade_map or {},
            trust,
            exclude,
        )
        self.crop = Crop(crop, crop_margin)
        self._source: Source = (
            PhantomSource(num_phantoms, seed, phantom_framing, phantom_counts, phantom_style)
            if root is None
            else FolderSource(Path(root), reading, self.crop, colour, faults, cache_dir)
        )
        self.schedule = schedule
        self.plan = SplitPlan(
            split, split_file, leaks, val_fraction, test_fraction, seed, folds, fold
        )
        self.min_class_images = min_class_images
        self.rare_classes = rare_classes
        self.balance = balance
        self.img_channels = img_channels
        self.colour = colour
        self.augment = augment
        self.seed = seed
        self.num_workers = num_workers
        self.eval_batch_size = eval_batch_size
        self.predict_count = predict_count
        self.predict_grades = predict_grades
        self.predict_seed = predict_seed
        self.track = no_track
        self.split = {}
        self.weak_parts = {}
        self._decoded: DecodedImages | None = None
        self._augmentation: tuple[int, Transform | None] | None = None

    def __repr__(self) -> str:
        where = f"{self.source} in {str(self.root)!r}" if self.root else self.source
        parts = ", ".join(f"{part} {len(positions)}" for part, positions in self.split.items())
        sides = f"{self.schedule.start_resolution} to {self.schedule.final_resolution} pixels"
        return f"{type(self).__name__}({where}, {sides}, {parts or 'before setup'})"

    # Lightning's own lists data loaders; outside a trainer there are none
    __str__ = __repr__

    @property
    def source(self) -> str:
        """Kind of the images, for captions: ``phantoms`` or ``real images``."""
        return self._source.caption

    @property
    def root(self) -> Path | None:
        """Folder of the images; ``None`` for phantoms."""
        return self._source.root

    def setup(self, stage: str) -> None:
        """Read, split and decode the images once for all stages; prediction decodes none.

        Raises:
            UserError: Listing all faults, if the folder, a table or an image cannot be read.
        """
        if stage == "fit" and self._augmentation is None:
            self._augmentation = plan_augmentation(
                self.augment, self.seed, self.img_channels, self._resolutions()
            )
        if self._decoded is None and (stage != "predict" or not self.records):
            self._read(decoded=stage != "predict")
        if stage == "fit" and (count := len(self.split["train"])) < MIN_TRAINING:
            raise UserError(
                f"the training part has {count} of {len(self.records)} images: expected "
                f"{MIN_TRAINING} or more. Add images, or hold out fewer (val_fraction, "
                "test_fraction)"
            )

    def _resolutions(self) -> list[int]:
        return sorted({phase.resolution for phase in self.schedule.phases})

    def _read(self, decoded: bool) -> None:
        known = self._source.read(decoded=decoded)
        records, images = known, None
        if decoded:
            # before the split, so that faulty images count nowhere
            resolution = self.schedule.final_resolution
            images = self._source.decode(known, resolution, self.img_channels, self.track)
            records = tuple(record for n, record in enumerate(known) if n not in images.faults)
        records, messages = apply_rare_class_rule(records, self.min_class_images, self.rare_classes)
        for message in messages:
            _log.warning("%s", message)
        split = split_records(
            records,
            self.plan,
            self.root,
            known=(*known, *self._source.excluded),
            lenient=self._source.skips,
        )
        if images is not None:
            row_of = dict(zip((record.path for record in known), images.rows.tolist(), strict=True))
            rows = [row_of[record.path] for record in records]
            split = resolve_copies(split, rows, self.plan.leaks)
            self._decoded = replace(images, rows=torch.tensor(rows), faults={})
        self.records, self.split = records, split
        if decoded:
            self._describe()

    def state_dict(self) -> dict[str, Any]:
        """Identity of the training data: images with grade, embryo and part, and settings."""
        return {
            **split_fingerprint(self.records, self.split),
            "source": self.source,
            "look": self._source.look,
            "seed": self.seed,
            "augment": self.augment,
            "balance": self.balance,
            "crop": (self.crop if self.root else Crop()).key(),
            "colour": self.colour if self.root else "keep",
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the data of a checkpoint with these.

        Raises:
            UserError: If training would continue with other images, split or order.
        """
        different = state_differences(self.state_dict(), state_dict)
        stage = self.trainer.state.fn if self.trainer else "fit"
        if different and stage == "fit":
            raise UserError(
                "the checkpoint was trained on other data: " + "; ".join(different) + ". Give the "
                "same --data.root, other settings of the data and --seed_everything to continue "
                "it, or the split.csv of the run as --data.split_file."
            )
        if different and stage != "predict":
            _log.warning(
                "the checkpoint was trained with other images or another split, so held-out images "
                "may have been trained on: %s",
                "; ".join(different),
            )

    def _describe(self) -> None:
        parts = parts_of(self.records, self.split, self._source.grouped)
        for part in parts:
            _log.info("%s", part.describe(self.source))
        self.weak_parts = {part.name: part.weakness for part in parts if part.weakness}
        if self.weak_parts:
            _log.warning(
                "metrics on held-out images say nothing: %s. Hold out more (--data.val_fraction, "
                "--data.test_fraction), or cross-validate (--data.folds 5 --data.fold 0 to 4)",
                "; ".join(self.weak_parts.values()),
            )

    @property
    def grading(self) -> Grading:
        """What is known of the grades of the training images; after `setup`."""
        return grading_of(self.records[n].grade for n in self.split["train"])

    def class_counts(self, part: str = "train") -> dict[str, int]:
        """Images of each of the ten classes in a part of the split; after `setup`."""
        return class_counts(self.records[n] for n in self.split[part])

    def labels(self, part: str) -> Tensor:
        """Labels int64 ``(N, 2)`` of a part of the split, -1 if unknown; after `setup`."""
        labels = [self.records[n].grade.labels for n in self.split[part]]
        return torch.tensor(labels, dtype=torch.int64).view(-1, 2)

    def class_distribution(self) -> dict[str, float]:
        """Share of each of the ten classes in training, by `balance`, among graded images."""
        return class_distribution(self.class_counts("train"), self.balance)

    def sampling_weights(self) -> Tensor:
        """Relative frequency of each training image, 1 on average, float64 ``(N,)``."""
        counts = Counter(self.records[n].grade.index for n in self.split["train"])
        shares = shares_of_strata(counts, self.balance)
        classes = [self.records[n].grade.index for n in self.split["train"]]
        weights = [shares[name] * len(classes) / counts[name] for name in classes]
        return torch.tensor(weights, dtype=torch.float64)

    def images(
        self, part: str, index: Tensor | Sequence[int] | None = None, resolution: int | None = None
    ) -> Tensor:
        """Images uint8 ``(N, C, R, R)`` of a part; after `setup`.

        Args:
            part: ``train``, ``val`` or ``test``.
            index: Positions in the part; ``None`` for all of it.
            resolution: R, in pixels; ``None`` for the final one.
        """
        assert self._decoded is not None
        positions = torch.tensor(self.split[part], dtype=torch.int64)
        if index is not None:
            positions = positions[torch.as_tensor(index, dtype=torch.int64)]
        return self._decoded.images(positions, resolution or self.schedule.final_resolution)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches from the images shown so far to the end of the tick."""
        assert self._decoded is not None
        assert self._augmentation is not None
        symmetries, transform = self._augmentation
        classes = [self.records[n].grade.index for n in self.split["train"]]
        trainer = self.trainer
        sampler = PositionedBatchSampler(
            ImageOrder(classes, self.seed, self.balance, symmetries),
            self.schedule,
            self._images_shown,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        rows, labels = self._decoded.rows[self.split["train"]], self.labels("train")
        levels = {side: self._decoded.levels[side] for side in self._resolutions()}
        return DataLoader(
            StreamedImages(levels, rows, labels, transform),
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
        assert self._decoded is not None
        level = self._decoded.levels[self.schedule.final_resolution]
        mine = positions_of_rank(len(self.split[part]), self.trainer)
        rows, labels = self._decoded.rows[self.split[part]][mine], self.labels(part)[mine]
        stored = ImagesInOrder(level, rows, labels, mine)
        return loader_in_order(stored, ("image", "labels", "index"), self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Labels, index and seed of the images that ``predict`` generates, class by class."""
        counts = parse_grade_counts(
            self.predict_grades, self.predict_count, self.class_counts("train")
        )
        labels = [Grade.parse(name).labels for name, count in counts.items() for _ in range(count)]
        index = torch.arange(len(labels))
        seeds = torch.full_like(index, self.predict_seed)
        mine = positions_of_rank(len(index), self.trainer)
        columns = (torch.tensor(labels), index, seeds)
        requests = TensorDataset(*(column[mine] for column in columns))
        return loader_in_order(requests, ("labels", "index", "seed"), self.eval_batch_size)
