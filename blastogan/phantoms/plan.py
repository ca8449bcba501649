"""Contents of picture n of a set of phantoms: embryo, grade, shot, focal plane and clinic."""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args, overload

import numpy as np

from blastogan.errors import ProblemList, UserError
from blastogan.grades import CLASSES, MAX_COUNT, Grade, parse_class_counts
from blastogan.phantoms import ranges
from blastogan.phantoms.blocks import BlockPlan, Layout, draw_layout, embryo_numbers
from blastogan.phantoms.styles import STYLES
from blastogan.phantoms.view import View

PhantomStyle = Literal["hoffman", "dic", "brightfield", "mixed"]
"""Optics of the microscope; ``mixed``: each embryo has one of them."""

PhantomClinic = Literal["1", "2", "mixed"]
"""Which of the two clinics of a style; ``mixed``: each embryo has one of them."""

PLANES = (1, 7)
"""Smallest and largest number of focal planes of a shot."""

NAMED_COUNTS = ("study", "balanced")
"""Class distributions that have a name."""

DEFAULT_COUNT = sum(ranges.STUDY_COUNTS.values())


class PhantomPlan(Sequence[View]):
    """Contents of each picture of a set, as a sequence of views; nothing is drawn.

    Unless counts are explicit, picture n does not depend on the size of the set: a larger set
    begins with the smaller one. Pictures of one embryo are consecutive: all planes of a shot, then
    the next shot.

    Args:
        count: Number of pictures; by default 3,800, or the sum of explicit counts.
        seed: Seed of the set.
        counts: ``study``: in each 3,800 pictures exactly `STUDY_COUNTS`, 1 to 11 shots of an
            embryo by `IMAGES_PER_EMBRYO`; ``balanced``: one shot of an embryo, and in each ten
            embryos all ten classes; or pictures of each class, such as ``AA:10,BB:5``, one shot of
            an embryo.
        planes: Focal planes of a shot, 1 to 7, `PLANE_STEP` apart about the middle one.
        style: Optics of the microscope.
        clinic: Which clinic's microscope.

    Raises:
        ProblemList: If settings are invalid; lists all problems.
    """

    def __init__(
        self,
        count: int | None = None,
        seed: int = 0,
        counts: str = "study",
        planes: int = 1,
        style: PhantomStyle = "hoffman",
        clinic: PhantomClinic = "1",
    ) -> None:
        problems = [*_problems(seed, planes, style, clinic), *_count_problems(count, counts)]
        if problems:
            raise phantom_problems(problems)
        self._plan = _block_plan(counts, planes)
        total = DEFAULT_COUNT if counts in NAMED_COUNTS else self._plan.size
        self._count = total if count is None else operator.index(count)
        self.seed = operator.index(seed)
        # explicit counts in a canonical spelling
        written = ",".join(f"{name}:{number}" for name, number in self._plan.pictures.items())
        self.counts = counts if counts in NAMED_COUNTS else written
        self.planes = operator.index(planes)
        self.style: PhantomStyle = style
        self.clinic: PhantomClinic = clinic
        self._styles: tuple[str, ...] = STYLES if style == "mixed" else (style,)
        self._clinics: tuple[str, ...] = ("1", "2") if clinic == "mixed" else (clinic,)
        self._blocks: list[_Block] = []

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> View: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[View]: ...
    def __getitem__(self, index: int | slice) -> View | Sequence[View]:
        """View of a picture; negative numbers count from the end.

        Raises:
            IndexError: If there is no such picture.
        """
        if isinstance(index, slice):
            return [self._view(n) for n in range(self._count)[index]]
        try:
            return self._view(range(self._count)[index])
        except IndexError:
            raise IndexError(f"picture {index} of {self._count} phantoms") from None

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings().items())
        return f"PhantomPlan({settings})"

    def settings(self) -> dict[str, Any]:
        """The arguments that make an equal plan, as plain values."""
        names = ("seed", "counts", "planes", "style", "clinic")
        return {"count": len(self), **{name: getattr(self, name) for name in names}}

    def _view(self, n: int) -> View:
        number, place = divmod(n, self._plan.size)
        block = self._block(number)
        embryo = block.embryos[block.layout.embryo[place]]
        shot, plane = divmod(block.layout.number[place], self.planes)
        focus = (plane - self.planes // 2) * ranges.PLANE_STEP
        return View(embryo.number, embryo.grade, shot, plane, focus, embryo.clinic)

    def _block(self, number: int) -> _Block:
        while len(self._blocks) <= number:
            first = self._blocks[-1].embryos[-1].number + 1 if self._blocks else 0
            layout = draw_layout(self._plan, self.seed, len(self._blocks))
            numbers = embryo_numbers(self.seed, range(first, first + len(layout.kind)))
            embryos = map(self._embryo, itertools.count(first), layout.kind, numbers.tolist())
            self._blocks.append(_Block(list(embryos), layout))
        return self._blocks[number]

    def _embryo(self, number: int, kind: int, numbers: list[float]) -> _Embryo:
        style = self._styles[int(numbers[1] * len(self._styles))]
        clinic = self._clinics[int(numbers[2] * len(self._clinics))]
        return _Embryo(number, _grade(kind, _expansion(numbers[0])), f"{style}-{clinic}")


class _Embryo(NamedTuple):
    number: int
    grade: Grade
    clinic: str


class _Block(NamedTuple):
    embryos: list[_Embryo]
    layout: Layout


def _block_plan(counts: str, planes: int) -> BlockPlan:
    if counts == "study":
        return BlockPlan(ranges.STUDY_COUNTS, tuple(ranges.IMAGES_PER_EMBRYO.values()), planes)
    if counts == "balanced":
        # a hundred rounds, as a block has a fixed cost
        return BlockPlan(dict.fromkeys(CLASSES, planes), (1.0,), planes, rounds=100)
    return BlockPlan(parse_class_counts(counts), (1.0,), planes)


_EXPANSION_STEPS = tuple(itertools.accumulate(ranges.EXPANSION_FREQUENCIES.values()))


def _expansion(number: float) -> int:
    # rounding may leave the last step a little below 1
    place = bisect.bisect_right(_EXPANSION_STEPS[:-1], number * _EXPANSION_STEPS[-1])
    return list(ranges.EXPANSION_FREQUENCIES)[place]


@lru_cache(maxsize=len(CLASSES) * len(ranges.EXPANSION_FREQUENCIES))
def _grade(kind: int, expansion: int) -> Grade:
    name = CLASSES[kind]
    return Grade(name[0], name[1], expansion=expansion)


def phantom_problems(problems: Sequence[str]) -> ProblemList:
    """The error for invalid settings of phantoms."""
    remedy = "blastogan phantom --help explains each setting."
    return ProblemList("phantoms cannot be drawn with these settings", problems, remedy)


def is_integer(value: object) -> bool:
    """Whether a value is an integer, of Python or of numpy."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _problems(seed: int, planes: int, style: str, clinic: str) -> Iterator[str]:
    if not (is_integer(seed) and 0 <= seed < 2**64):
        yield f"seed of phantoms is {seed!r}: expected 0 to 2**64 - 1"
    least, most = PLANES
    if not (is_integer(planes) and least <= planes <= most):
        yield f"planes is {planes!r}: expected a whole number from {least} to {most}"

    choices = (("style", style, PhantomStyle), ("clinic", clinic, PhantomClinic))
    for name, value, kinds in choices:
        known = get_args(kinds)
        if value not in known:
            yield f"{name} is {value!r}: expected {', '.join(map(repr, known))}"


def _count_problems(count: int | None, counts: str) -> Iterator[str]:
    if count is not None and not (is_integer(count) and 1 <= count <= MAX_COUNT):
        yield f"count of phantoms is {count!r}: expected a whole number of 1 or more, at most 10^7"
        count = None
    if counts in NAMED_COUNTS:
        return
    if not isinstance(counts, str):
        yield f"counts is {counts!r}: expected a text"
        return
    try:
        total = sum(parse_class_counts(counts, NAMED_COUNTS, "counts").values())
    except UserError as error:
        yield str(error)
        return
    if count is not None and total != count:
        yield f"counts {counts!r} sum to {total}, but the count is {count}: leave one of them out"
