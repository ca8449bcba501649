"""Split of records into train, val and test: made by embryo, published, or given as a file."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from blastogan.data.records import PARTS, ImageRecord
from blastogan.data.split_file import image_names, read_split_file
from blastogan.errors import ProblemList, UserError
from blastogan.grades import CLASSES

_log = logging.getLogger(__name__)

SplitKind = Literal["by-embryo", "published"]
LeakRule = Literal["report", "drop"]

Split = dict[str, list[int]]
"""Sorted positions in records, by ``train``, ``val`` and ``test``."""


@dataclass(frozen=True)
class SplitPlan:
    """How a set is to be split.

    Attributes:
        kind: ``by-embryo`` for a split of our own, ``published`` for that of the data set.
        file: A split file, which wins over `kind`; images that it does not name are left out.
        leaks: What becomes of training images whose embryo is in another part too, which only a
            published split or a file can cause: ``report`` them, or ``drop`` them.
        val_fraction: Share of the embryos in val; of a published split without val, held out of
            its training images.
        test_fraction: Share of the embryos in test; a published split has its own.
        seed: Another seed, another split.

    Raises:
        UserError: If a value cannot be.
    """

    kind: SplitKind = "by-embryo"
    file: str | None = None
    leaks: LeakRule = "report"
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("split", self.kind, get_args(SplitKind)),
            ("leaks", self.leaks, get_args(LeakRule)),
        ):
            if value not in known:
                raise UserError(f"{name} is {value!r}: expected {' or '.join(known)}")


class Leak(NamedTuple):
    """An embryo that stands in several parts of a split.

    Attributes:
        embryo: The embryo, or what else a group is.
        counts: Number of its images by part.
    """

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
    """Split records as planned; what leaks is logged.

    Args:
        records: Graded images.
        plan: How.
        root: Folder of the images, against which a split file names them.
        known: Images of the set, also those left out, which a split file may name all the same.
        lenient: Whether a split file may name any image.

    Raises:
        UserError: If there is no such split, or too few embryos for it.
        ProblemList: If the split file names images that are not there; all are listed.
    """
    if plan.file is not None:
        split = _split_by_file(records, plan.file, root, None if lenient else known)
    elif plan.kind == "published":
        split = _published_split(records, plan)
    else:
        return split_by_embryo(records, plan.val_fraction, plan.test_fraction, plan.seed)
    leaks = find_leaks(records, split)
    if not leaks:
        return split
    leaking = {leak.embryo for leak in leaks}
    images = sum(records[n].embryo in leaking for n in split["train"])
    told = (
        f"this split leaks: {len(leaks)} embryos or groups, such as {leaks[0].embryo}, are in "
        f"several parts, with {images} of {len(split['train'])} training images"
    )
    if plan.leaks == "drop":
        _log.warning("%s; these training images are dropped", told)
        return _still_trains(_without_leaks([record.embryo for record in records], split))
    _log.warning(
        "%s, so metrics on held-out images are too good: set leaks to drop to leave them out", told
    )
    return split


def find_leaks(records: Sequence[ImageRecord], split: Mapping[str, Sequence[int]]) -> list[Leak]:
    """Embryos that stand in several parts of a split, by name."""
    counts: dict[str, Counter[str]] = {}
    for part, positions in split.items():
        for n in positions:
            counts.setdefault(records[n].embryo, Counter())[part] += 1
    return [Leak(embryo, dict(found)) for embryo, found in sorted(counts.items()) if len(found) > 1]


def resolve_copies(split: Split, contents: Sequence[int], rule: LeakRule) -> Split:
    """Report or drop images of which exact copies are in a later part, as other embryos.

    Args:
        split: Positions by part.
        contents: Number of the content of each image; copies have the same.
        rule: ``report`` or ``drop``.

    Returns:
        The split, without them if they are to be dropped.

    Raises:
        UserError: If no training image is left then.
    """
    kept = _without_leaks(contents, split)
    copies = sum(len(split[part]) - len(kept[part]) for part in split)
    if not copies:
        return split
    told = f"{copies} images in train or val are exact copies of images held out in val or test"
    if rule == "drop":
        _log.warning("%s: these are dropped", told)
        return _still_trains(kept)
    _log.warning(
        "%s, so metrics on held-out images are too good: give copies the same embryo, or set leaks "
        "to drop to leave them out; blastogan audit names them",
        told,
    )
    return split


def _without_leaks(groups: Sequence[Hashable], split: Split) -> Split:
    """A split of which train lost the groups that are in val or test, and val those in test."""
    kept = dict(split)
    later: set[Hashable] = set()
    for part in reversed(PARTS):
        kept[part] = [n for n in split[part] if groups[n] not in later]
        later |= {groups[n] for n in split[part]}
    return kept


def _still_trains(split: Split) -> Split:
    """The split, if training images are left in it."""
    if not split["train"]:
        raise UserError(
            "no training image is left without those whose embryo or copy is in val or test too: "
            "split by embryo instead"
        )
    return split


def _published_split(records: Sequence[ImageRecord], plan: SplitPlan) -> Split:
    split: Split = {
        part: [n for n, record in enumerate(records) if record.part == part] for part in PARTS
    }
    unassigned = sum(not record.part for record in records)
    if not split["train"] or not (split["val"] or split["test"]):
        found = ", ".join(f"{part} {len(positions)}" for part, positions in split.items())
        raise UserError(
            f"there is no published split ({found}, none {unassigned}): expected a set that "
            "comes with one, or a column part with train, val and test; or split by embryo"
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
    """The split of a file; it may name `known` images that are no records, or any if `None`."""
    parts = read_split_file(file)
    # as the cells of a table, which are stripped
    names = [name.strip() for name in image_names(records, root)]
    missing = sorted(parts.keys() - set(names))
    strange = sorted(set(missing) - {name.strip() for name in image_names(known or (), root)})
    if strange and known is not None:
        raise ProblemList(
            f"the split file {file} names images that are not in the set",
            strange,
            "Give the folder that was split, or take their rows out of the file.",
        )
    split: Split = {
        part: [n for n, name in enumerate(names) if parts.get(name) == part] for part in PARTS
    }
    if not split["train"]:
        raise UserError(f"the split file {file} has no training image: expected part train")
    if missing:
        _log.warning("%d images that the split file %s names are left out", len(missing), file)
    left_out = len(records) + len(missing) - len(parts)
    if left_out:
        _log.warning("%d images are not in the split file %s: left out", left_out, file)
    return split


def split_by_embryo(
    records: Sequence[ImageRecord], val_fraction: float, test_fraction: float, seed: int
) -> Split:
    """Split records by embryo, each class in proportion as far as its embryos allow.

    An embryo counts for the class of most of its images. Each class keeps an embryo in train, and
    an embryo stays there if it alone has images of some class. Which embryos are held out depends
    on their names and `seed` alone, not on the order of `records`.

    Args:
        records: Graded images.
        val_fraction: Share of the embryos in val, from 0 to less than 1.
        test_fraction: Share of the embryos in test, from 0 to less than 1.
        seed: Another seed, another split.

    Returns:
        Sorted positions in `records`, by ``train``, ``val`` and ``test``. Every part is non-empty
        whose fraction is above 0.

    Raises:
        UserError: If the fractions leave nothing for train, or if there are too few embryos.
    """
    fractions = {"val": val_fraction, "test": test_fraction}
    if (
        not all(0 <= fraction < 1 for fraction in fractions.values())
        or sum(fractions.values()) >= 1
    ):
        raise UserError(
            f"got val_fraction {val_fraction} and test_fraction {test_fraction}: "
            "expected numbers from 0 on whose sum is below 1, such as 0.1 and 0.1"
        )
    embryos: dict[str, Counter[str]] = {}
    for record in records:
        embryos.setdefault(record.embryo, Counter())[record.grade.name] += 1
    if not embryos:
        raise UserError("there is nothing to split: got no records, expected graded images")
    parts = _hold_out(_shuffled_by_class(embryos, seed), _pinned(embryos), fractions)
    split: Split = {part: [] for part in PARTS}
    for index, record in enumerate(records):
        split[parts.get(record.embryo, "train")].append(index)
    return split


def _shuffled_by_class(embryos: Mapping[str, Counter[str]], seed: int) -> dict[str, list[str]]:
    """Embryos of each class in random order; small classes first."""

    def shuffle_key(embryo: str) -> bytes:
        return hashlib.sha256(f"{seed} {embryo}".encode(errors="surrogatepass")).digest()

    by_class: dict[str, list[str]] = {name: [] for name in CLASSES}
    for embryo in sorted(embryos, key=shuffle_key):
        counts = embryos[embryo]
        by_class[max(CLASSES, key=lambda name: counts[name])].append(embryo)
    return dict(sorted(by_class.items(), key=lambda item: len(item[1])))


def _pinned(embryos: Mapping[str, Counter[str]]) -> set[str]:
    """Embryos that alone have images of some class; they are logged."""
    holders: dict[str, list[str]] = {name: [] for name in CLASSES}
    for embryo, counts in embryos.items():
        for name in counts:
            holders[name].append(embryo)
    single = [name for name in CLASSES if len(holders[name]) == 1]
    if single:
        _log.warning(
            "one embryo each of grade %s: it stays in train, and val and test have no such image",
            ", ".join(single),
        )
    return {holders[name][0] for name in single}


def _hold_out(
    by_class: Mapping[str, list[str]], pinned: set[str], fractions: Mapping[str, float]
) -> dict[str, str]:
    """Part of every embryo that leaves train, see `split_by_embryo`.

    What a class cannot give by rounding is carried over to the next, larger one, so that the
    parts have the asked size in total and the largest class bears the rest.
    """
    free = {
        name: [embryo for embryo in embryos if embryo not in pinned]
        for name, embryos in by_class.items()
    }
    spare = {  # a class keeps one in train, pinned or not
        name: min(len(free[name]), max(0, len(embryos) - 1)) for name, embryos in by_class.items()
    }
    total = sum(map(len, by_class.values()))
    asked = {part: max(share, 1 / total) for part, share in fractions.items() if share > 0}
    parts: dict[str, str] = {}
    owed = dict.fromkeys(asked, 0.0)
    for name, embryos in by_class.items():
        for part, share in asked.items():
            owed[part] += share * len(embryos)
        for embryo in free[name][: spare[name]]:
            due = [part for part in asked if owed[part] >= 0.5]
            if not due:
                break
            neediest = max(due, key=lambda part: owed[part] / asked[part])
            parts[embryo] = neediest
            owed[neediest] -= 1
    if set(parts.values()) != set(asked):
        raise UserError(
            f"too few embryos for {' and '.join(asked)} besides train: there are {total} of "
            f"{sum(map(bool, by_class.values()))} classes, and train keeps one of each class "
            f"and the {len(pinned)} that alone have images of some class. "
            "Add images of further embryos, or set a fraction to 0"
        )
    return parts
