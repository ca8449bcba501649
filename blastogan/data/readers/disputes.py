"""Images whose table, file name and folder give different grades."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from blastogan.data.readers.options import GradeSource, NotGradable
from blastogan.data.readers.path_grades import PathGrades, Source
from blastogan.data.records import ImageRecord
from blastogan.grades import Grade

Read = Callable[[str], Grade | bool]
"""Grade of a text; True if it is not gradable, False if it is none."""


class Disputes(NamedTuple):
    """Disputed images.

    Attributes:
        paths: Their files.
        summary: One sentence for all of them, if any.
        examples: The grades of each.
        notes: What was decided without the user.
    """

    paths: frozenset[Path]
    summary: tuple[str, ...]
    examples: tuple[str, ...]
    notes: tuple[str, ...]


class _Opinion(NamedTuple):
    record: ImageRecord
    source: GradeSource  # of the record's grade
    other: Source
    text: str
    differs: bool
    # whether the text has an expansion digit, and so hardly is anything but a grade
    strong: bool


def find_disputes(
    root: Path,
    records: Iterable[tuple[ImageRecord, GradeSource]],
    paths: PathGrades,
    trust: GradeSource | None,
    read: Read,
    not_gradable: NotGradable,
) -> Disputes:
    """Find the images of which a source contradicts the one that their grade was taken from.

    Args:
        root: The folder.
        records: Images, each with the source of its grade.
        paths: Grades in names and folders.
        trust: Source that wins; ``None`` if not decided.
        read: Reader of a grade's text.
        not_gradable: See `ReaderOptions`.
    """
    # `relative_to` takes a second for a hundred thousand paths
    start = len((root / "_").as_posix()) - 1
    opinions = [
        _Opinion(record, source, other, found.text, differs, found.text[:1].isdigit())
        for record, source in records
        for other, found in paths.both(record.path.as_posix()[start:]).items()
        if other != source
        for differs in [_differ(record.grade, read(found.text), not_gradable)]
    ]
    notes = []
    counted: list[_Opinion] = []
    for other in ("name", "folder"):
        theirs = [each for each in opinions if each.other == other]
        different = [each for each in theirs if each.differs]
        if _is_chance(theirs):
            notes.append(
                f"the {other}s of {len(theirs)} images have texts such as {theirs[0].text}, which "
                "are not taken for grades: most differ from the table"
            )
            continue
        trusted = [each for each in different if each.source == trust]
        counted += [each for each in different if each.source != trust]
        if trusted:
            notes.append(
                f"the {other} gives another grade for {len(trusted)} of {len(theirs)} images, "
                f"such as {_shown(trusted[0], start)}: the {trust} is trusted"
            )
    if not counted:
        return Disputes(frozenset(), (), (), tuple(notes))
    files = frozenset(each.record.path for each in counted)
    compared = {each.record.path for each in opinions}
    summary = _summary(counted, [e for e in opinions if e.other in _others(counted)], start)
    summary = f"{len(files)} of {len(compared)} images have {summary}"
    examples = tuple(_shown(each, start) for each in counted)
    return Disputes(files, (summary,), examples, tuple(notes))


def _differ(grade: Grade, other: Grade | bool, not_gradable: NotGradable) -> bool:
    """Whether two grades contradict each other, as far as both are known."""
    if not isinstance(other, Grade):
        treated_so = not_gradable == "DD" and grade.name == "DD"
        return other and grade.known and not treated_so
    pairs = ((grade.icm, other.icm), (grade.te, other.te))
    return any(a and b and a != b for a, b in pairs)


def _is_chance(opinions: Sequence[_Opinion]) -> bool:
    """Whether texts in paths are no grades, judged by a table."""
    if not opinions or any(each.source != "table" for each in opinions):
        return False
    different = sum(each.differs for each in opinions)
    strong = sum(each.strong for each in opinions)
    return 2 * different > len(opinions) and 2 * strong < len(opinions)


def _others(opinions: Iterable[_Opinion]) -> set[str]:
    return {each.other for each in opinions}


def _summary(counted: Sequence[_Opinion], compared: Sequence[_Opinion], start: int) -> str:
    sources = sorted({each.source for each in counted} | _others(counted))
    choice = " or ".join(sources)
    classes: dict[str, Counter[str]] = {}
    for each in compared:
        classes.setdefault(each.source, Counter())[each.record.grade.name] += 1
        classes.setdefault(each.other, Counter())[each.text.upper()] += 1
    shown = "; ".join(
        f"by {source} " + ", ".join(f"{name} {n}" for name, n in sorted(classes[source].items()))
        for source in sources
    )
    return (
        f"one grade by {sources[0]} and another by {' or '.join(sources[1:])}, such as "
        f"{'; '.join(_shown(each, start) for each in counted[:3])}. Find out which is right, and "
        f"set trust to {choice} (--trust in an audit, --data.trust in training). Images: {shown}"
    )


def _shown(each: _Opinion, start: int) -> str:
    name = each.record.path.as_posix()[start:]
    return f"{name} ({each.source} {each.record.grade}, {each.other} {each.text})"
