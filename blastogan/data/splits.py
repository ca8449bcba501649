"""Split of records into train, val and test: by embryo, as published, or from a file."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from blastogan.data.records import PARTS, ImageRecord
from blastogan.data.split_file import image_names, read_split_file
from blastogan.errors import ProblemList, UserError, check_choice
from blastogan.grades import CLASSES, UNGRADED

_log = logging.getLogger(__name__)

SplitKind = Literal["by-embryo", "published"]
LeakRule = Literal["report", "drop"]

Split = dict[str, list[int]]
"""Sorted positions in the records, by ``train``, ``val`` and ``test``."""


@dataclass(frozen=True)
class SplitPlan:
    """How to split a set.

    Attributes:
        kind: ``by-embryo`` for a new split, ``published`` for the data set's own.
        file: A split file, which overrides `kind`; images that it does not name are left out.
        leaks: ``report`` or ``drop`` training images of which another part has the embryo too.
        val_fraction: Share of the embryos in val; with a published split without val, held out of
            its training images.
        test_fraction: Share of the embryos in test; not used with a published split.
        seed: Selects the embryos that are held out.
        folds: Number of folds of a cross-validation by embryo, each of which is the test part
            once; ``None`` for a single split by `test_fraction`.
        fold: Fold that is the test part, from 0.

    Raises:
        UserError: If a value is invalid.
    """

    kind: SplitKind = "by-embryo"
    file: str | None = None
    leaks: LeakRule = "report"
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0
    folds: int | None = None
    fold: int = 0

    def __post_init__(self) -> None:
        check_choice("split", self.kind, SplitKind)
        check_choice("leaks", self.leaks, LeakRule)
        if self.folds is None:
            if self.fold:
                raise UserError(f"fold is {self.fold}, but folds is not set: add folds, such as 5")
            return
        if self.folds < 2 or not 0 <= self.fold < self.folds:
            raise UserError(
                f"folds is {self.folds} and fold {self.fold}: expected 2 or more folds, and a fold "
                "from 0 to one less"
            )
        if self.file is not None or self.kind != "by-embryo":
            raise UserError(
                "folds are a split of their own: leave out the split file, and split by embryo"
            )

    def position(self) -> dict[str, int]:
        """``folds`` and ``fold`` of a cross-validation; empty for a single split."""
        return {} if self.folds is None else {"folds": self.folds, "fold": self.fold}


class Leak(NamedTuple):
    """An embryo or other group in several parts of a split, with its images by part."""

    embryo: str
    counts: dict[str, int]


def split_records(
    records: Sequence[ImageRecord],
    plan: SplitPlan,
    root: Path | None = None,
    *,
    known: Sequence[ImageRecord] = (),
    lenient: bool = False,
) -> Split:
    """Split records as planned, and log leaks.

    Args:
        records: Graded images.
        plan: How to split them.
        root: Folder of the images, to which names in a split file are relative.
        known: Images of the set that `records` may lack but a split file may name.
        lenient: Whether a split file may name any image.

    Raises:
        UserError: If the split does not exist, or if there are too few embryos for it.
        ProblemList: If the split file names unknown images; lists them all.
    """
    if plan.file is not None:
        split = _split_by_file(records, plan.file, root, None if lenient else known)
    elif plan.kind == "published":
        split = _published_split(records, plan)
    elif plan.folds is not None:
        return split_by_folds(records, plan.folds, plan.fold, plan.val_fraction, plan.seed)
    else:
        return split_by_embryo(records, plan.val_fraction, plan.test_fraction, plan.seed)
    leaks = find_leaks(records, split)
    if not leaks:
        return split
    images = sum(leak.counts.get("train", 0) for leak in leaks)
    message = (
        f"this split leaks: {len(leaks)} embryos or groups, such as {leaks[0].embryo}, are in "
        f"several parts, with {images} of {len(split['train'])} training images"
    )
    kept = _without_leaks([record.embryo for record in records], split)
    return _dropped_or_reported(split, kept, plan.leaks, message)


def find_leaks(records: Sequence[ImageRecord], split: Mapping[str, Sequence[int]]) -> list[Leak]:
    """Embryos in several parts of a split, sorted by name."""
    counts: dict[str, Counter[str]] = {}
    for part, positions in split.items():
        for n in positions:
            counts.setdefault(records[n].embryo, Counter())[part] += 1
    return [Leak(embryo, dict(found)) for embryo, found in sorted(counts.items()) if len(found) > 1]


def resolve_copies(split: Split, contents: Sequence[int], rule: LeakRule) -> Split:
    """Report or drop images with exact copies in a later part, listed as other embryos.

    Args:
        split: Positions by part.
        contents: Content number of each image; copies have the same one.
        rule: ``report`` or ``drop``.

    Raises:
        UserError: If no training image is left.
    """
    kept = _without_leaks(contents, split)
    copies = sum(len(split[part]) - len(kept[part]) for part in split)
    if not copies:
        return split
    message = (
        f"{copies} images in train or val are exact copies of images held out in val or test, "
        "which blastogan audit names"
    )
    return _dropped_or_reported(split, kept, rule, message)


def _dropped_or_reported(split: Split, kept: Split, rule: LeakRule, message: str) -> Split:
    """The split, or what is kept of it."""
    if rule == "report":
        _log.warning(
            "%s, so metrics on held-out images are too good: give copies the same embryo, or set "
            "--data.leaks drop to leave them out",
            message,
        )
        return split
    _log.warning("%s; these training images are dropped", message)
    if not kept["train"]:
        raise UserError(
            "no training image is left: every one has its embryo or a copy in val or test; split "
            "by embryo instead (--data.split by-embryo)"
        )
    return kept


def _without_leaks(groups: Sequence[Hashable], split: Split) -> Split:
    """The split with groups only in their last part: train loses those in val or test."""
    kept = dict(split)
    later: set[Hashable] = set()
    for part in reversed(PARTS):
        kept[part] = [n for n in split[part] if groups[n] not in later]
        later |= {groups[n] for n in split[part]}
    return kept


def _published_split(records: Sequence[ImageRecord], plan: SplitPlan) -> Split:
    split: Split = {
        part: [n for n, record in enumerate(records) if record.part == part] for part in PARTS
    }
    unassigned = sum(not record.part for record in records)
    if not split["train"] or not (split["val"] or split["test"]):
        found = ", ".join(f"{part} {len(positions)}" for part, positions in split.items())
        raise UserError(
            f"the set has no published split ({found}, none {unassigned}): add a column part with "
            "train, val and test, or split by embryo (--data.split by-embryo)"
        )
    if unassigned:
        _log.warning("%d images are in no part of the published split: left out", unassigned)
    if not split["val"] and plan.val_fraction:
        train = split["train"]
        inner = split_by_embryo([records[n] for n in train], plan.val_fraction, 0, plan.seed)
        split["train"] = [train[n] for n in inner["train"]]
        split["val"] = [train[n] for n in inner["val"]]
    return split


def _split_by_file(
    records: Sequence[ImageRecord],
    file: str,
    root: Path | None,
    known: Sequence[ImageRecord] | None,
) -> Split:
    """Split of a file, which may also name `known` images, or any if None."""
    parts = read_split_file(file)
    # cells of a table are stripped too
    names = [name.strip() for name in image_names(records, root)]
    missing = sorted(parts.keys() - set(names))
    unknown = sorted(set(missing) - {name.strip() for name in image_names(known or (), root)})
    if unknown and known is not None:
        raise ProblemList(
            f"the split file {file} names images that are not in the set",
            unknown,
            "Give the folder that was split, or remove these rows from the file.",
        )
    split: Split = {
        part: [n for n, name in enumerate(names) if parts.get(name) == part] for part in PARTS
    }
    if not split["train"]:
        raise UserError(f"the split file {file} has no training image: some rows need part train")
    if missing:
        _log.warning("%d images that the split file %s names are left out", len(missing), file)
    left_out = len(records) + len(missing) - len(parts)
    if left_out:
        _log.warning("%d images are not in the split file %s: left out", left_out, file)
    return split


def split_by_embryo(
    records: Sequence[ImageRecord], val_fraction: float, test_fraction: float, seed: int
) -> Split:
    """Split records by embryo, stratified by class as far as possible.

    An embryo belongs to the class of most of its images, or to those of unknown class. Each class
    keeps an embryo in train, and an embryo stays there if it alone has images of some class. Which
    embryos are held out depends only on their names and `seed`, not on the order of `records`. A
    part is empty only if its fraction is 0.

    Args:
        records: Graded images.
        val_fraction: Share of the embryos in val, from 0 to less than 1.
        test_fraction: Share of the embryos in test, from 0 to less than 1.
        seed: Selects the embryos that are held out.

    Raises:
        UserError: If the fractions leave nothing for train, or if there are too few embryos.
    """
    fractions = {"val": val_fraction, "test": test_fraction}
    if not min(fractions.values()) >= 0 or not sum(fractions.values()) < 1:
        raise UserError(
            f"got val_fraction {val_fraction} and test_fraction {test_fraction}: "
            "expected numbers from 0 with a sum below 1, such as 0.1 and 0.1"
        )
    embryos = _classes_by_embryo(records)
    parts = _hold_out(_shuffled_by_class(embryos, seed), _pinned(embryos), fractions)
    split: Split = {part: [] for part in PARTS}
    for index, record in enumerate(records):
        split[parts.get(record.embryo, "train")].append(index)
    return split


def split_by_folds(
    records: Sequence[ImageRecord], folds: int, fold: int, val_fraction: float, seed: int
) -> Split:
    """Split records for cross-validation: each fold of the embryos is the test part once.

    Folds are stratified by class as far as possible. An embryo that alone has images of some class
    is in no fold, and always in train. From the other folds, val is held out as in
    `split_by_embryo`.

    Args:
        records: Images.
        folds: Number of folds.
        fold: The fold that is the test part, from 0.
        val_fraction: Share of the other embryos in val.
        seed: Divides the embryos.

    Raises:
        UserError: If there are too few embryos.
    """
    embryos = _classes_by_embryo(records)
    pinned = _pinned(embryos)
    ordered = [name for each in _shuffled_by_class(embryos, seed).values() for name in each]
    free = [name for name in ordered if name not in pinned]
    if len(free) < folds:
        raise UserError(
            f"too few embryos for {folds} folds: {len(free)} of {len(embryos)}, besides those that "
            "alone have images of some class: use fewer folds, or add images of more embryos"
        )
    tested = set(free[fold::folds])
    rest = [n for n, record in enumerate(records) if record.embryo not in tested]
    inner = split_by_embryo([records[n] for n in rest], val_fraction, 0, seed)
    return {
        "train": [rest[n] for n in inner["train"]],
        "val": [rest[n] for n in inner["val"]],
        "test": [n for n, record in enumerate(records) if record.embryo in tested],
    }


def _classes_by_embryo(records: Sequence[ImageRecord]) -> dict[str, Counter[str]]:
    """Number of images of each class, by embryo."""
    embryos: dict[str, Counter[str]] = {}
    for record in records:
        embryos.setdefault(record.embryo, Counter())[record.grade.name] += 1
    if not embryos:
        raise UserError("got no records to split: expected images")
    return embryos


def _shuffled_by_class(embryos: Mapping[str, Counter[str]], seed: int) -> dict[str, list[str]]:
    """Embryos of each class and of none in random order, small classes first."""

    def shuffle_key(embryo: str) -> bytes:
        return hashlib.sha256(f"{seed} {embryo}".encode(errors="surrogatepass")).digest()

    by_class: dict[str, list[str]] = {name: [] for name in (*CLASSES, UNGRADED.name)}
    for embryo in sorted(embryos, key=shuffle_key):
        name = max(CLASSES, key=embryos[embryo].__getitem__)
        by_class[name if embryos[embryo][name] else UNGRADED.name].append(embryo)
    return dict(sorted(by_class.items(), key=lambda item: len(item[1])))


def _pinned(embryos: Mapping[str, Counter[str]]) -> set[str]:
    """Embryos that alone have images of some class; logs their classes."""
    holders = {
        name: [embryo for embryo, counts in embryos.items() if counts[name]] for name in CLASSES
    }
    single = [name for name in CLASSES if len(holders[name]) == 1]
    if single:
        _log.warning(
            "one embryo each of grade %s: it stays in train, so val and test have no such image",
            ", ".join(single),
        )
    return {holders[name][0] for name in single}


def _hold_out(
    by_class: Mapping[str, list[str]], pinned: set[str], fractions: Mapping[str, float]
) -> dict[str, str]:
    """Part of every embryo outside train; a class passes rounding remainders on to the next."""
    total = sum(map(len, by_class.values()))
    wanted = {part: max(share, 1 / total) for part, share in fractions.items() if share > 0}
    parts: dict[str, str] = {}
    owed = dict.fromkeys(wanted, 0.0)
    for embryos in by_class.values():
        for part, share in wanted.items():
            owed[part] += share * len(embryos)
        free = [embryo for embryo in embryos if embryo not in pinned]
        # each class keeps one in train, pinned or not
        for embryo in free[: max(0, len(embryos) - 1)]:
            due = [part for part in wanted if owed[part] >= 0.5]
            if not due:
                break
            neediest = max(due, key=lambda part: owed[part] / wanted[part])
            parts[embryo] = neediest
            owed[neediest] -= 1
    if set(parts.values()) != set(wanted):
        raise UserError(
            f"too few embryos for {' and '.join(wanted)} besides train: the set has {total} of "
            f"{sum(map(bool, by_class.values()))} classes, and train keeps one of each class "
            f"and the {len(pinned)} that alone have images of some class. "
            "Add images of more embryos, or set a fraction to 0"
        )
    return parts
