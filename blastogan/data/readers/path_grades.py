"""Grades and embryos in the paths of images: in the names of files, and of their folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

from blastogan.data.readers.cells import UNKNOWN, is_not_gradable, parse_grade, part_of
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tree import MASKS, ImageTree, stem_of
from blastogan.errors import UserError

_TOKEN = re.compile(
    # a digit and a blank only where the name begins, as in "embryo 4 AB" the digit is the embryo's
    r"(?<![A-Za-z0-9])(?P<digit>[1-6](?:(?<=^.)\s)?)?[A-D][+-]?[A-D][+-]?(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_NEAR = re.compile(r"[1-6]?[A-Z][+-]?[A-Z][+-]?", re.IGNORECASE)
"""A text that is a grade but for its letters, or meant as one."""
_FRAME = (
    r"\d+(?:[.,]\d+)?\s?(?:h|hr|hrs|hpi|min|um|µm)|(?:frame|plane|focus|slice|run|time|day|fp"
    r"|[ftzd])[ -]?[+-]?\d+(?:[.,]\d+)?h?"
)
_FRAME_END = re.compile(rf"(?:^|[\s_.-]+|(?<=\W))(?:{_FRAME})$", re.IGNORECASE)
_PLANE_END = re.compile(r"(?<=.)_[+-]?\d+$|(?<=.)\s*\(\d+\)$")
_STORK = "good_"
_COPY = re.compile(r"\s*\(\d+\)$")
_FAMILY = 5  # fewest images of one form of names among which a grade is no chance
_LONG = 6  # letters of a stage that is no abbreviation


Source = Literal["name", "folder"]


class PathGrade(NamedTuple):
    """Grade in a path, as written there."""

    text: str
    where: str  # place for messages: the folder, or the path of the image itself


class PathGrades:
    """Grades that stand in the paths of a tree.

    A grade in a name is a token between other signs, such as ``3AA`` in ``3AA (10)``,
    ``4AB_0012``, ``0012-4ab``, ``EMB12_5BA_f3``. Names count where most of them have one: all
    names, or, of tokens with an expansion digit, those of one form. A folder's name counts if it
    is a grade or a stage that is not gradable.

    Attributes:
        by_name: Grade in the file name by path of the image, or that of `grade_pattern`.
        by_folder: Grade or stage of the class folder by path of the image.
        near: Texts like a grade, such as ``AX``, in place of one: of a class folder, or at the end
            of a name ``<embryo>_<plane>_<grade>``.

    Raises:
        UserError: If the `grade_pattern` matches no image.
    """

    def __init__(self, tree: ImageTree, options: ReaderOptions) -> None:
        self._images = tree.images
        self._meanings = options.meanings
        self._pattern = re.compile(options.grade_pattern) if options.grade_pattern else None
        self.by_name: dict[str, PathGrade] = {}
        self.by_folder: dict[str, PathGrade] = {}
        self.near: dict[str, PathGrade] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._read_folders()
        if self._pattern is None:
            self._read_names()
        else:
            self._match_names(self._pattern)

    def knows(self, text: str) -> bool:
        """Whether a text is a grade, or given a meaning by the user."""
        return text.strip().upper() in self._meanings or _is_grade(text)

    def _read_folders(self) -> None:
        for parent, images in _by_parent(self._images).items():
            parts = [part for part in parent.split("/") if part]
            inside = parts[1:] if parts and part_of(parts[0]) else parts
            graded = next((each for each in inside if self.knows(each)), None)
            graded = graded or next(filter(is_not_gradable, inside), None)
            if graded is not None:
                where = f"folder {'/'.join(parts[: parts.index(graded) + 1])}/"
                self.by_folder |= dict.fromkeys(images, PathGrade(graded, where))
            elif inside and (_NEAR.fullmatch(inside[0]) or inside[0] == MASKS):
                where = f"folder {'/'.join(parts[: len(parts) - len(inside) + 1])}/"
                self.near |= dict.fromkeys(images, PathGrade(inside[0], where))

        if not any(self.knows(each.text) for each in self.by_folder.values()):
            # beside no class folder, M/ hardly means morula
            spelled = {name: g for name, g in self.by_folder.items() if len(g.text) >= _LONG}
            self.by_folder = spelled

    def _read_names(self) -> None:
        stems = {name: stem_of(name) for name in self._images}
        tokens = {name: token for name, stem in stems.items() if (token := self._token(stem))}
        if 2 * len(tokens) < len(stems):
            tokens = {name: each for name, each in tokens.items() if each["digit"]}
            forms = Counter(_form(stem) for stem in stems.values())
            graded = Counter(_form(stems[name]) for name in tokens)
            common = {form for form, n in graded.items() if n >= max(_FAMILY, forms[form] / 2)}
            tokens = {name: each for name, each in tokens.items() if _form(stems[name]) in common}
        if not tokens:
            return
        ends = sum(token.end() == len(stems[name]) for name, token in tokens.items())
        for name, stem in stems.items():
            token = tokens.get(name)
            end = _COPY.sub("", stem).rpartition("_")[2].strip()
            if token is not None:
                self.by_name[name] = PathGrade(token[0], name)
                self._spans[name] = token.span()
            elif _is_stage(stem) or ("_" in stem and _is_placeholder(end)):
                self.by_name[name] = PathGrade(end if "_" in stem else stem, name)
                self._spans[name] = (len(stem) - len(end), len(stem))
            elif "_" in stem and _NEAR.fullmatch(end) and 2 * ends >= len(tokens):
                self.near[name] = PathGrade(end, name)

    def _token(self, stem: str) -> re.Match[str] | None:
        """The one grade in a name: one with a digit, else at its end or its beginning."""
        found = [match for match in _TOKEN.finditer(stem) if _is_grade(match[0])]
        found = [match for match in found if match["digit"]] or found
        if len({match[0].upper() for match in found}) > 1:
            found = [each for each in found if each.end() == len(stem)] or [
                each for each in found if each.start() == 0
            ]
        return found[-1] if found else None

    def _match_names(self, pattern: re.Pattern[str]) -> None:
        for name in self._images:
            match = pattern.search(name)
            if match is not None and (text := _grade_of(match)):
                self.by_name[name] = PathGrade(text, name)
        if not self.by_name:
            raise UserError(
                f"the grade_pattern {pattern.pattern!r} matches none of the {len(self._images)} "
                f"paths below the folder, such as {', '.join(self._images[:3])}"
            )

    @property
    def pattern_groups(self) -> frozenset[str]:
        """Names of the groups of the `grade_pattern`."""
        return frozenset(self._pattern.groupindex if self._pattern else ())

    def both(self, name: str) -> dict[Source, PathGrade]:
        """Grades in the path of an image, by the ``name`` and the ``folder`` that has them."""
        found: dict[Source, PathGrade | None] = {
            "name": self.by_name.get(name),
            "folder": self.by_folder.get(name),
        }
        return {source: grade for source, grade in found.items() if grade is not None}

    @cached_property
    def unmatched(self) -> list[str]:
        """Images in which the `grade_pattern` finds no grade."""
        return [name for name in self._images if self._pattern and name not in self.by_name]

    @cached_property
    def embryos(self) -> dict[str, str]:
        """Embryo by path of each image with a grade in its name, if the names tell embryos.

        It is what precedes the grade, or follows if nothing does, without the focal plane or frame:
        one integer, or numbers marked as such (``110.5h``, ``f3``, ``z-15``). A number in brackets
        is that of a copy.
        """
        if self._pattern is not None:
            matches = {name: self._pattern.search(name) for name in self.by_name}
            has = "embryo" in self._pattern.groupindex
            return {name: (each["embryo"] or "") for name, each in matches.items() if has and each}
        heads: dict[str, str] = {}
        found: dict[str, str] = {}
        after: dict[str, str] = {}
        for name, (start, end) in self._spans.items():
            stem = stem_of(name)
            head = stem[len(_STORK) if name in self.test_prefixes else 0 : start].rstrip("_-. ")
            if head:
                heads[name] = head
                found[name] = _embryo_of(head, grade_is_last=end == len(stem))
            else:
                tail = _COPY.sub("", stem[end:]).strip("_-. ")
                after[name] = _without_frames(tail)
        if len(set(found.values())) == 1:
            # an integer of which all the rest is equal is no focal plane
            found = {name: _without_frames(head) for name, head in heads.items()}
        few = 2 * sum(map(bool, after.values())) < len(after)
        if not few and not _is_running_number(after, self.by_name):
            found |= after
        return {name: embryo for name, embryo in found.items() if embryo}

    @cached_property
    def test_prefixes(self) -> frozenset[str]:
        """Images with STORK's prefix ``good_`` or ``poor_`` before an embryo."""
        return frozenset(
            name
            for name, (start, _) in self._spans.items()
            if start > len(_STORK) and stem_of(name)[: len(_STORK)].lower() in (_STORK, "poor_")
        )


_KNOWN: WeakKeyDictionary[ImageTree, tuple[ReaderOptions, PathGrades]] = WeakKeyDictionary()


def path_grades(tree: ImageTree, options: ReaderOptions) -> PathGrades:
    """`PathGrades`, computed once for a tree and its options."""
    known = _KNOWN.get(tree)
    if known is None or known[0] != options:
        known = _KNOWN[tree] = (options, PathGrades(tree, options))
    return known[1]


def _is_grade(text: str) -> bool:
    grade = parse_grade(text)
    return grade is not None and grade.known


def _is_placeholder(text: str) -> bool:
    return is_not_gradable(text) or text.upper() in UNKNOWN


def _is_stage(stem: str) -> bool:
    """Whether a name begins with a stage that is not gradable, such as ``morula``."""
    word = re.match(r"[^\W\d_]+", stem)
    return bool(word and len(word[0]) >= _LONG and is_not_gradable(word[0]))


def _grade_of(match: re.Match[str]) -> str:
    """Grade by the groups of `ReaderOptions.grade_pattern`; empty if they are."""
    groups = {name: (text or "").strip() for name, text in match.groupdict().items()}
    letters = groups.get("icm", "") + groups.get("te", "")
    grade = groups.get("grade") or letters
    digit = groups.get("expansion", "")
    return f"{digit} {grade}".strip() if grade and not grade[:1].isdigit() else grade


def _by_parent(names: Iterable[str]) -> dict[str, list[str]]:
    parents: dict[str, list[str]] = {}
    for name in names:
        parents.setdefault(name.rpartition("/")[0], []).append(name)
    return parents


def _form(stem: str) -> str:
    """Form of a name: ``0_0_0a`` of ``34107362_-15_3AA-``."""
    form = re.sub(r"\d+", "0", re.sub(r"[^\W\d_]+", "a", stem))
    return re.sub(r"[\W_]+", "_", form).strip("_")


def _without_frames(text: str) -> str:
    """A text without frames at its end, unless nothing else is left."""
    while (shorter := _FRAME_END.sub("", text).rstrip("_-. ")) not in ("", text):
        text = shorter
    return text


def _embryo_of(head: str, grade_is_last: bool) -> str:
    """Embryo of what precedes a grade."""
    shorter = _without_frames(head)
    if shorter == head and grade_is_last:
        shorter = _PLANE_END.sub("", head)
    return shorter


def _is_running_number(embryos: dict[str, str], grades: dict[str, PathGrade]) -> bool:
    """Whether numbers after a grade count the images of each grade, and are no embryos."""
    pairs = {(embryo, grades[name].text.upper()) for name, embryo in embryos.items()}
    return len(pairs) == len(embryos) > len(set(embryos.values()))
