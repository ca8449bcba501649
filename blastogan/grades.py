"""Gardner grades of blastocysts, and the library's ten classes.

Gardner and Schoolcraft (1999) grade a blastocyst by its expansion (1 to 6), its inner cell mass
(ICM) and its trophectoderm (TE), in this order: ``4AB`` is a full blastocyst with ICM A and TE B.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from blastogan.errors import UserError

LETTERS = "ABCD"
"""Letters of the ICM and of the TE, best first; D means none or degenerate."""

CLASSES = ("AA", "AB", "AC", "BA", "BB", "BC", "CA", "CB", "CC", "DD")
"""The ten classes: ICM letter, then TE letter."""

Grading = Literal["complete", "partial", "none"]
"""What is known of the grades of a set: every letter, some letters, or nothing."""

UNKNOWN_LABEL = -1
"""Label of an unknown letter."""

LABEL_SIZES = (len(LETTERS), len(LETTERS))
"""Number of ICM and of TE letters: label sizes of a network conditioned on the grade."""

_PATTERN = re.compile(r"([1-6])?([A-D])([+-])?([A-D])([+-])?", re.IGNORECASE)


@dataclass(frozen=True)
class Grade:
    """Grade of one blastocyst, of which a letter or both may be unknown.

    Attributes:
        icm: ICM letter, ``A`` to ``D``; empty if unknown.
        te: TE letter, ``A`` to ``D``; empty if unknown.
        expansion: Expansion 1 to 6; ``None`` if unknown.
        icm_modifier: ``+``, ``-`` or nothing; does not change the class.
        te_modifier: Likewise for the TE.

    Raises:
        UserError: If the two letters are known but not one of the ten classes, or a letter is none
            of the four.
    """

    icm: str
    te: str
    expansion: int | None = None
    icm_modifier: str = ""
    te_modifier: str = ""

    def __post_init__(self) -> None:
        known = self.name in CLASSES if self.known else {self.icm, self.te} <= {"", *LETTERS}
        if not known:
            raise UserError(f"unknown grade {self.name!r}: expected one of {', '.join(CLASSES)}")

    @classmethod
    def parse(cls, text: str) -> Grade:
        """Parse a grade such as ``AB``, ``3AA-`` or ``1b-b-``.

        Raises:
            UserError: If the text is not a grade of the ten classes.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise UserError(
                f"unknown grade {text!r}: expected one of {', '.join(CLASSES)}, with an expansion "
                "digit before it if known (4AB, 3AA-)"
            )
        digit, icm, icm_modifier, te, te_modifier = match.groups()
        return cls(
            icm=icm.upper(),
            te=te.upper(),
            expansion=int(digit) if digit else None,
            icm_modifier=icm_modifier or "",
            te_modifier=te_modifier or "",
        )

    @classmethod
    def from_labels(cls, icm: int, te: int) -> Grade:
        """Grade of a pair of letter indices; the inverse of `labels`."""
        first, second = ("" if n == UNKNOWN_LABEL else LETTERS[n] for n in (icm, te))
        return cls(first, second)

    @property
    def known(self) -> bool:
        """Whether both letters are known, so that the grade is one of the ten classes."""
        return bool(self.icm and self.te)

    @property
    def name(self) -> str:
        """The class, such as ``AB``; an unknown letter is an ``x``, see `classes_of`."""
        return (self.icm or "x") + (self.te or "x")

    @property
    def index(self) -> int:
        """Position of the class in `CLASSES`, 0 to 9; -1 unless both letters are known."""
        return CLASSES.index(self.name) if self.known else -1

    @property
    def labels(self) -> tuple[int, int]:
        """Indices of the ICM and the TE letter, 0 (A) to 3 (D), or -1: the label of networks."""
        icm, te = (LETTERS.index(each) if each else UNKNOWN_LABEL for each in (self.icm, self.te))
        return icm, te

    def __str__(self) -> str:
        digit = "" if self.expansion is None else str(self.expansion)
        return f"{digit}{self.icm or 'x'}{self.icm_modifier}{self.te or 'x'}{self.te_modifier}"


UNGRADED = Grade("", "")
"""Grade of an image without one."""


def grading_of(grades: Iterable[Grade]) -> Grading:
    """What is known of some grades; ``none`` if there are none."""
    every = set(grades)
    if every and all(grade.known for grade in every):
        return "complete"
    return "partial" if any(grade.icm or grade.te for grade in every) else "none"


def classes_of(text: str) -> tuple[str, ...]:
    """Classes of a pattern: ``AB`` one class, ``Ax`` all with ICM A, ``xB`` all with TE B.

    Raises:
        UserError: If the text is not such a pattern.
    """
    name = text.strip().upper()
    if len(name) == 2 and "X" in name:
        known = name.strip("X")
        if known not in tuple(LETTERS):
            raise UserError(
                f"unknown grade {text!r}: expected x with one of {', '.join(LETTERS)}, such as Ax "
                "(ICM A) or xB (TE B)"
            )
        return tuple(each for each in CLASSES if each[name.index(known)] == known)
    return (Grade.parse(text).name,)


def apportion(count: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Divide `count` images among classes in proportion to `weights`, in their order.

    Uses largest remainders (Hamilton's method); ties go to the class named first. Classes without
    images are left out.

    Raises:
        UserError: If the count is negative or all weights are 0.
    """
    total = sum(Fraction(weight) for weight in weights.values())
    if count < 0 or total <= 0:
        raise UserError(f"cannot divide {count} images among the weights {dict(weights)}")
    quotas = {name: count * Fraction(weight) / total for name, weight in weights.items()}
    shares = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: shares[name] - quotas[name])
    for name in by_remainder[: count - sum(shares.values())]:
        shares[name] += 1
    return {name: share for name, share in shares.items() if share}


MAX_COUNT = 10**7
"""Most images that may be asked for."""


def parse_grade_counts(
    text: str, count: int | None, data_weights: Mapping[str, float]
) -> dict[str, int]:
    """Parse the numbers of images by class to generate.

    Args:
        text: ``balanced``, ``like-data``, grades such as ``AB`` or ``AA,CC``, which share `count`
            equally, or counts such as ``AA:20,CC:5``. ``Ax`` or ``xB`` is divided among the classes
            of that letter as in the data.
        count: Number of images; may be ``None`` if `text` has counts.
        data_weights: Weight of each class in the data.

    Returns:
        Positive numbers of images by class, in the order of `CLASSES`.

    Raises:
        UserError: If the text is none of these, or if its counts do not sum to `count`.
    """
    words = ("balanced", "like-data")
    if ":" not in text and (count is None or count < 1):
        raise UserError(f"grades {text!r} need a count of 1 or more images, but got {count}")
    if count is not None and count > MAX_COUNT:
        raise UserError(f"count is {count}: expected at most {MAX_COUNT}")
    if count is not None and text in words:
        weights = dict.fromkeys(CLASSES, 1.0) if text == "balanced" else data_weights
        return apportion(count, weights)
    if count is not None and re.fullmatch(r"\s*\w\w\s*(,\s*\w\w\s*)*", text):
        asked = text.split(",")
        shares = apportion(count, dict.fromkeys(map(str, range(len(asked))), 1.0))
        text = ",".join(f"{asked[int(n)]}:{share}" for n, share in shares.items())
    counts = dict.fromkeys(CLASSES, 0)
    for names, number in _named_counts(text, words, "grades"):
        for name, share in apportion(number, distribution_within(names, data_weights)).items():
            counts[name] += share
    if count is not None and sum(counts.values()) != count:
        raise UserError(f"grades {text!r} sum to {sum(counts.values())}, but the count is {count}")
    return {name: number for name, number in counts.items() if number}


def distribution_within(
    names: Sequence[str], data_weights: Mapping[str, float]
) -> dict[str, float]:
    """Weights of the given classes in the data; equal if the data have none of them."""
    weights = {name: float(data_weights.get(name, 0.0)) for name in names}
    return weights if any(weights.values()) else dict.fromkeys(names, 1.0)


def parse_class_counts(
    text: str, words: Sequence[str] = (), option: str = "grades"
) -> dict[str, int]:
    """Parse numbers of images by class, such as ``AA:20,CC:5``.

    Args:
        text: The text.
        words: Other values of the option, for the message.
        option: Name of the option, for the message.

    Returns:
        Numbers of images by class, in the order of `CLASSES`.

    Raises:
        UserError: If the text is not such a list, or if it names a class twice.
    """
    counts: dict[str, int] = {}
    for names, number in _named_counts(text, words, option):
        if len(names) > 1:
            raise UserError(f"{option} {text!r}: expected classes such as AA, not Ax or xA")
        counts[names[0]] = number
    return {name: counts[name] for name in CLASSES if name in counts}


def _named_counts(
    text: str, words: Sequence[str], option: str
) -> list[tuple[tuple[str, ...], int]]:
    """Classes and count of each item of a text such as ``AA:20,xB:5``."""
    found: dict[tuple[str, ...], int] = {}
    for part in text.split(","):
        name, _, number = part.partition(":")
        if not re.fullmatch(r"\s*0*[1-9]\d{0,9}\s*", number):
            expected = ", ".join([*words, "or such as AA:20,CC:5"])
            raise UserError(f"{option} {text!r}: expected {expected.removeprefix('or ')}")
        names = classes_of(name)
        if names in found:
            raise UserError(f"{option} {text!r} name {name.strip()} twice")
        found[names] = int(number)
    if sum(found.values()) > MAX_COUNT:
        raise UserError(f"{option} {text!r} sum to more than {MAX_COUNT}")
    return list(found.items())
