"""Imbalance of classes: how often training shows each, and the treatment of rare ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Literal

from blastogan.data.records import ImageRecord
from blastogan.errors import UserError, check_choice
from blastogan.grades import CLASSES, LETTERS, UNKNOWN_LABEL, Grade

Balance = Literal["none", "sqrt", "uniform"]
RareRule = Literal["keep", "merge", "drop"]

_WEIGHTS: dict[Balance, Callable[[int], float]] = {
    "none": float,
    "sqrt": math.sqrt,
    "uniform": lambda count: float(count > 0),
}


def check_balance(balance: str, rare_classes: str) -> None:
    """Raise a `UserError` for unknown values of the options ``balance`` and ``rare_classes``."""
    check_choice("balance", balance, Balance)
    check_choice("rare_classes", rare_classes, RareRule)


def class_distribution(counts: Mapping[str, int], balance: Balance) -> dict[str, float]:
    """Probability of each class in training: n^q / sum n^q (Kang et al. 2020, equation 1).

    ``none`` keeps the frequencies (q = 1), ``uniform`` shows all present classes equally often
    (q = 0), and ``sqrt`` lies between (q = 1/2; Mahajan et al. 2018): rare classes appear more
    often, but a few images do not fill a tenth of training.

    Returns:
        Probabilities in the order of `counts`; 0 for classes without images.

    Raises:
        UserError: If `balance` is unknown, or if there are no images.
    """
    check_choice("balance", balance, Balance)
    weights = {name: _WEIGHTS[balance](count) for name, count in counts.items()}
    total = math.fsum(weights.values())
    if total <= 0:
        raise UserError("there are no images to balance: every class is empty")
    return {name: weight / total for name, weight in weights.items()}


def shares_of_strata(counts: Mapping[int, int], balance: Balance) -> dict[int, float]:
    """Probability of each class in training, by index, where -1 are images of unknown class.

    The share of the latter is as in the data; the rest is divided by `class_distribution`.
    """
    total, unknown = sum(counts.values()), counts.get(UNKNOWN_LABEL, 0)
    graded = {str(n): count for n, count in sorted(counts.items()) if n != UNKNOWN_LABEL}
    shares = class_distribution(graded, balance) if any(graded.values()) else {}
    if not unknown:
        return {int(n): share for n, share in shares.items()}
    known = (total - unknown) / total
    return {UNKNOWN_LABEL: unknown / total} | {int(n): known * q for n, q in shares.items()}


def systematic_counts(count: int, shares: Sequence[float], offset: float) -> list[int]:
    """Divide `count` among classes by shares of sum 1, each rounded down or up at random.

    Systematic sampling (Madow and Madow 1944): for an offset uniform on [0, 1), the expected
    number of a class is exactly count x share.
    """
    edges = [math.floor(count * edge + offset) for edge in accumulate(shares)]
    edges[-1] = count  # rounding of the sum must not lose one
    return [after - before for before, after in pairwise([0, *edges])]


def apply_rare_class_rule(
    records: Sequence[ImageRecord], least: int, rule: RareRule
) -> tuple[tuple[ImageRecord, ...], list[str]]:
    """Keep, merge or drop the classes that have fewer than `least` images; others stay.

    A class is merged into the nearest class that is not rare, in steps of the ICM and the TE
    letter; of several, into the one with most images. Images keep their expansion, and the ``+``
    or ``-`` of an unchanged letter.

    Returns:
        The remaining records, in their order, and messages about the rare classes.

    Raises:
        UserError: If the rule is unknown, or if it would leave no class.
    """
    check_choice("rare_classes", rule, RareRule)
    counts = Counter(record.grade.name for record in records)
    rare = {name: counts[name] for name in CLASSES if 0 < counts[name] < least}
    common = [name for name in CLASSES if counts[name] and name not in rare]
    if not rare:
        return tuple(records), []
    listed = ", ".join(f"{name} {count}" for name, count in rare.items())
    if rule == "keep":
        return tuple(records), [
            f"fewer than {least} images: {listed}. A generator may copy the few images of these "
            "classes: add images, or set --data.rare_classes to merge or drop"
        ]
    if not common:
        raise UserError(
            f"no class has {least} images or more ({listed}), so none is left to train on: lower "
            "--data.min_class_images, set --data.rare_classes to keep, or add images"
        )
    if rule == "drop":
        kept = tuple(record for record in records if record.grade.name not in rare)
        return kept, [f"dropped, fewer than {least} images: {listed}"]
    targets = {name: _nearest(name, common, counts) for name in rare}
    merged = tuple(
        replace(record, grade=_regraded(record.grade, targets[record.grade.name]))
        if record.grade.name in targets
        else record
        for record in records
    )
    moves = ", ".join(f"{name} {count} into {targets[name]}" for name, count in rare.items())
    return merged, [f"merged, fewer than {least} images: {moves}"]


def _nearest(name: str, among: Sequence[str], counts: Mapping[str, int]) -> str:
    """Class at the fewest letter steps, then with most images, then the first of `among`."""

    def steps(other: str) -> int:
        pairs = zip(name, other, strict=True)
        return sum(abs(LETTERS.index(a) - LETTERS.index(b)) for a, b in pairs)

    return min(among, key=lambda other: (steps(other), -counts[other]))


def _regraded(grade: Grade, name: str) -> Grade:
    icm, te = name[0], name[1]
    return replace(
        grade,
        icm=icm,
        te=te,
        icm_modifier=grade.icm_modifier if icm == grade.icm else "",
        te_modifier=grade.te_modifier if te == grade.te else "",
    )
