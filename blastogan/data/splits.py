"""Split of records into train, val and test that never separates an embryo."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from blastogan.data.records import ImageRecord
from blastogan.errors import UserError
from blastogan.grades import CLASSES

_log = logging.getLogger(__name__)


def split_by_embryo(
    records: Sequence[ImageRecord], val_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[int]]:
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
    split: dict[str, list[int]] = {"train": [], "val": [], "test": []}
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
            "one embryo only has grade %s: it stays in train, val and test have no such image",
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
