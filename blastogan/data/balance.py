"""Imbalance of classes: how often each is shown in training, and what becomes of the rare ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Literal, get_args

from blastogan.data.records import ImageRecord
from blastogan.errors import UserError
from blastogan.grades import CLASSES, LETTERS, Grade

Balance = Literal["none", "sqrt", "uniform"]
"""Law by which the classes are sampled, see `class_distribution`."""

RareRule = Literal["keep", "merge", "drop"]
"""What becomes of classes of few images, see `apply_rare_class_rule`."""

_WEIGHTS: dict[Balance, Callable[[int], float]] = {
    "none": float,
    "sqrt": math.sqrt,
    "uniform": lambda count: float(count > 0),
}


def check_balance(balance: str, rare_classes: str) -> None:
    """Refuse laws and rules that there are not.

    Raises:
        UserError: If there is no such law of balance, or no such rule for rare classes.
    """
    for name, value, known in (
        ("balance", balance, get_args(Balance)),
        ("rare_classes", rare_classes, get_args(RareRule)),
    ):
        if value not in known:
            raise UserError(f"{name} is {value!r}: expected one of {', '.join(known)}")


def class_distribution(counts: Mapping[str, int], balance: Balance) -> dict[str, float]:
    """Share of each class in what is shown: n^q / sum n^q (Kang et al. 2020, equation 1).

    ``none`` shows the classes as they are (q = 1), ``uniform`` all present ones alike (q = 0), and
    ``sqrt`` lies between (q = 1/2; Mahajan et al. 2018): rare classes come more often, without
    the same few images filling a tenth of training.

    Args:
        counts: Images of each class, at least 0.
        balance: The law.

    Returns:
        Shares in the order of `counts`, which sum to 1; 0 for classes without image.

    Raises:
        UserError: If there is no such law, or no image.
    """
    check_balance(balance, "keep")
    weights = {name: _WEIGHTS[balance](count) for name, count in counts.items()}
    total = math.fsum(weights.values())
    if total <= 0:
        raise UserError("there are no images to balance: every class is empty")
    return {name: weight / total for name, weight in weights.items()}


def systematic_counts(count: int, shares: Sequence[float], offset: float) -> list[int]:
    """Share out `count` places at random, each class its floor or ceiling of count x share.

    Systematic sampling (Madow and Madow 1944): with an offset uniform on [0, 1), the mean number
    of places of a class is exactly count x share, and places are never more than one off.

    Args:
        count: Number of places.
        shares: Shares of the classes; they sum to 1.
        offset: From 0 to less than 1.

    Returns:
        Places of each class; they sum to `count`.
    """
    edges = [math.floor(count * edge + offset) for edge in accumulate(shares)]
    edges[-1] = count  # whatever the rounding of the sum
    return [after - before for before, after in pairwise([0, *edges])]


def apply_rare_class_rule(
    records: Sequence[ImageRecord], least: int, rule: RareRule
) -> tuple[tuple[ImageRecord, ...], list[str]]:
    """Keep, merge or drop the classes that have fewer than `least` images.

    A class is merged into the nearest that is not rare, counted in steps of the ICM and of the TE
    letter; of several, into the one with most images. The image keeps its expansion, and the
    ``+`` or ``-`` of a letter that stays.

    Args:
        records: Graded images.
        least: Images that a class must have not to be rare; 0 or 1 makes none rare.
        rule: ``keep`` warns, ``merge`` gives the images the grade of another class, ``drop``
            leaves them out.

    Returns:
        The records that stay, in their order, and messages that name each rare class and say
        what became of it.

    Raises:
        UserError: If there is no such rule, or if every class is rare and none may be kept.
    """
    check_balance("none", rule)
    counts = Counter(record.grade.name for record in records)
    rare = {name: counts[name] for name in CLASSES if 0 < counts[name] < least}
    common = [name for name in CLASSES if counts[name] and name not in rare]
    if not rare:
        return tuple(records), []
    listed = ", ".join(f"{name} {count}" for name, count in rare.items())
    if rule == "keep":
        return tuple(records), [
            f"fewer than {least} images: {listed}. What is learned of these classes may be copies "
            "of their few images: add images, or set --data.rare_classes to merge or drop"
        ]
    if not common:
        raise UserError(
            f"no class has {least} images or more ({listed}), so there is none left to train on: "
            "lower this number, keep the rare classes, or add images"
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
    """Class of the fewest letter steps, then of the most images, then the first of `among`."""

    def steps(other: str) -> int:
        return sum(
            abs(LETTERS.index(a) - LETTERS.index(b)) for a, b in zip(name, other, strict=True)
        )

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
