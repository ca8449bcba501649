"""Findings of an audit: faults that would spoil training, and notes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from blastogan.audit.contents import ALL_GREY, Audit, Finding, Level
from blastogan.audit.copies import Duplicates, ImageLeak
from blastogan.data.records import unlisted_note

FEW_IMAGES = 10  # classes with fewer are reported
IMBALANCE = 10  # least ratio of the largest class to the smallest that is reported
DARK = 64  # images whose lightest grey, of 255, is lower are reported
GROUPS = 3  # embryos that are shown with their images
FLAT = 16  # images with a smaller range of greys are reported

_FIX_OR_SKIP = "fix or remove them, or train without them (--data.faults skip)"


def _listed(
    kind: str, level: Level, what: str, remedy: str, examples: Sequence[str]
) -> Iterator[Finding]:
    """A finding that lists what it concerns, if anything."""
    if examples:
        message = f"{what} ({len(examples):,}): {remedy}"
        yield Finding(kind, level, message, len(examples), tuple(examples))


def find_faults(audit: Audit) -> Iterator[Finding]:
    """Findings that would spoil training, and notes on the same subject."""
    if audit.refusal:
        yield Finding("layout", "fault", audit.refusal)
    elif not audit.records and not audit.table.problems:
        message = "no sound image has a grade: grade some images, or name another format or table"
        yield Finding("empty", "fault", message)
    disputes = audit.table.disputes
    rows = [problem for problem in audit.table.problems if problem not in disputes[:1]]
    yield from _listed("rows", "fault", "rows or files that cannot be used", _FIX_OR_SKIP, rows)
    if disputes:
        yield Finding("disputes", "fault", disputes[0], len(disputes) - 1, disputes[1:])
    yield from _listed(
        "split-names",
        "fault",
        "names in the given split that are not graded images of the set",
        "give the folder that was split, or remove their rows from the file",
        () if audit.refusal else audit.unknown_names,
    )
    yield from _unreadable(audit)
    if audit.no_split and audit.records:
        # a small set may be meant for something else than training
        level: Level = "fault" if audit.split == "published" else "note"
        yield Finding("no-split", level, f"training would refuse the set: {audit.no_split}")
    yield from _leaks(audit, "fault", audit.split, audit.leaks)
    yield from _duplicates(audit)


def _unreadable(audit: Audit) -> Iterator[Finding]:
    graded = {record.path for record in audit.table.records}
    used: list[str] = []
    unused: list[str] = []
    for name, why in audit.unreadable:
        is_used = audit.refusal or audit.table.root / name in graded
        (used if is_used else unused).append(f"{name}: {why}")
    what = "images that cannot be decoded"
    yield from _listed("unreadable", "fault", what, _FIX_OR_SKIP, used)
    what = "files without a usable grade that cannot be decoded"
    yield from _listed("unreadable-unused", "note", what, "training does not open them", unused)


def _leaks(audit: Audit, level: Level, split: str, found: Sequence[ImageLeak]) -> Iterator[Finding]:
    for kind, what, remedy in (
        (
            "embryo",
            "embryos",
            "leave the training images out (--data.leaks drop), or split by embryo (--data.split "
            "by-embryo, the default)",
        ),
        ("duplicates", "groups of copies", "remove the copies from one of the parts"),
    ):
        leaks = [leak for leak in found if leak.kind == kind]
        leaking = {name for leak in leaks for name in leak.images}
        held_out = sum(
            name in leaking and record.part in ("val", "test")
            for name, record in zip(audit.names, audit.records, strict=True)
        )
        yield from _listed(
            f"leak-{kind}",
            level,
            f"{what} in several parts of the {split} split",
            f"metrics on the {held_out} of their images in val or test are too good; {remedy}",
            [str(leak) for leak in leaks],
        )


def _duplicates(audit: Audit) -> Iterator[Finding]:
    groups = audit.duplicates
    if audit.refusal:
        yield from _of_groups("duplicates", "note", "groups of copies", "keep one of each", groups)
        return
    yield from _of_groups(
        "duplicates-grades",
        "fault",
        "groups of copies with different grades",
        "find out which grade is right, and keep one image of each group",
        [group for group in groups if len(group.grades) > 1],
    )
    what = "groups of copies that are listed as different embryos"
    remedy = "give its images one embryo"
    if not audit.table.grouped:
        what = "groups of copies, while it is unknown which images show the same embryo"
        remedy = "set --embryo-pattern"
    remedy = f"a split would separate them; keep one image of each group, or {remedy}"
    several = [group for group in groups if len(group.embryos) > 1]
    yield from _of_groups("duplicates-embryos", "fault", what, remedy, several)
    yield from _of_groups(
        "duplicates-within",
        "note",
        "groups of images of one embryo that are copies or nearly so",
        "such as neighbouring focal planes or frames; a split keeps them together, but training "
        "shows them more often",
        [group for group in groups if len(group.embryos) == 1],
    )


def _of_groups(
    kind: str, level: Level, what: str, remedy: str, groups: Sequence[Duplicates]
) -> Iterator[Finding]:
    kinds = (", ".join(["exact" if group.exact else "near", *group.grades]) for group in groups)
    examples = [f"{group} ({each})" for group, each in zip(groups, kinds, strict=True)]
    yield from _listed(kind, level, what, remedy, examples)


def find_notes(audit: Audit) -> Iterator[Finding]:
    """Findings that are good to know but no fault."""
    if audit.records:
        yield from _groups(audit)
        yield from _balance(audit)
        yield from _parts(audit)
    if audit.records and audit.pixels:
        yield from _pixels(audit)
    yield from _left_out(audit)


def _parts(audit: Audit) -> Iterator[Finding]:
    if audit.parts:
        pairs = zip(audit.names, audit.records, strict=True)
        without = [name for name, record in pairs if not record.part]
        what = "images in no part of the split"
        yield from _listed("no-part", "note", what, "they are not used with it", without)
    yield from _listed(
        "weak-parts",
        "note",
        "held-out parts too small to measure anything",
        "the best checkpoint is not chosen by them; cross-validate with --data.folds and "
        "--data.fold, or hold out more",
        [part.weakness for part in audit.parts if part.weakness],
    )
    if audit.published:
        counts = ", ".join(f"{name} {count:,}" for name, count in audit.published.items())
        message = (
            f"the set has a split of its own ({counts}), marked by {audit.table.split_by}: "
            "training uses it only with --data.split published"
        )
        yield Finding("published-split", "note", message)
        yield from _leaks(audit, "note", "published", audit.published_leaks)


def _groups(audit: Audit) -> Iterator[Finding]:
    if not audit.table.grouped:
        yield Finding(
            "no-groups",
            "note",
            "it is unknown which images show the same embryo: each counts as an embryo of its own, "
            "and a split may separate images of one; if file names contain the embryo, set "
            "--embryo-pattern",
        )
    groups: dict[str, list[str]] = {}
    classes: dict[str, set[str]] = {}
    for name, record in zip(audit.names, audit.records, strict=True):
        groups.setdefault(record.embryo, []).append(name)
        known = {record.grade.name} if record.grade.known else set()
        classes.setdefault(record.embryo, set()).update(known)
    if audit.table.grouped:
        largest = sorted(groups.items(), key=lambda group: -len(group[1]))[:GROUPS]
        shown = tuple(f"{embryo}: {_named(names)}" for embryo, names in largest)
        message = f"embryos ({len(groups):,}) are identified by {audit.table.embryos_by}, such as"
        yield Finding("embryos", "note", message, len(groups), shown)
        yield from _spellings(groups)
    yield from _listed(
        "embryo-classes",
        "note",
        "embryos with images of several classes",
        "right if they were graded more than once, or stand for patients; else check the grades",
        [f"{name}: {', '.join(sorted(each))}" for name, each in classes.items() if len(each) > 1],
    )


def _spellings(embryos: Iterable[str]) -> Iterator[Finding]:
    """Names of embryos that may be spellings of one."""
    alike: dict[str, list[str]] = {}
    for embryo in embryos:
        key = re.sub(r"\.0+$|[\W_]+", "", embryo.casefold())
        alike.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", key), []).append(embryo)
    yield from _listed(
        "embryo-spelling",
        "note",
        "names of embryos that differ only in case, zeros or signs",
        "they count as different embryos; if they are one, write them alike",
        [", ".join(each) for each in alike.values() if len(each) > 1],
    )


def _named(names: Sequence[str]) -> str:
    """Number of images, and the first two."""
    more = ", ..." if len(names) > 2 else ""
    return f"{len(names)} image{'s' * (len(names) != 1)}: {', '.join(names[:2])}{more}"


def _balance(audit: Audit) -> Iterator[Finding]:
    counts = {name: count for name, count in audit.classes.items() if count}
    if not counts:
        message = "no image has a known class: nothing can be learned about grades"
        yield Finding("no-classes", "note", message)
        return
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if len(counts) == 1:
        message = f"all images are of one class, {most}: nothing can be learned about grades"
        yield Finding("one-class", "note", message)
    ratio = counts[most] / counts[least]
    if ratio >= IMBALANCE:
        yield Finding(
            "imbalance",
            "note",
            f"imbalance of {ratio:.0f} to 1, from {most} with {counts[most]:,} images to {least} "
            f"with {counts[least]:,}: --data.balance sqrt or uniform shows rare classes more often",
        )
    rare = [f"{name} {count}" for name, count in counts.items() if count < FEW_IMAGES]
    what = f"classes with fewer than {FEW_IMAGES} images"
    yield from _listed(
        "rare", "note", what, "--data.rare_classes keeps, merges or drops them", rare
    )
    single = [name for name in counts if audit.embryos_by_class[name] == 1]
    remedy = "it stays in train, so that val and test have no such image"
    yield from _listed("one-embryo", "note", "classes of one embryo only", remedy, single)
    if len(counts) > 1:
        absent = [name for name, count in audit.classes.items() if not count]
        remedy = "only their single letters can be learned, from other classes"
        yield from _listed("no-images", "note", "classes without an image", remedy, absent)


def _pixels(audit: Audit) -> Iterator[Finding]:
    if audit.smallest and audit.smallest < audit.resolution:
        yield Finding(
            "small",
            "note",
            f"the shorter side of the smallest image has {audit.smallest} pixels, below "
            f"{audit.resolution}: smaller images are enlarged for training, and blurred",
        )
    for kind, what, remedy, counts in (
        ("sizes", "sizes of images", "a square is cut from each and resized", audit.sizes),
        ("modes", "colour modes", "all are converted to grey, or to RGB", audit.modes),
    ):
        if len(counts) > 1:
            examples = [f"{name}: {count:,}" for name, count in counts.items()]
            yield from _listed(kind, "note", what, remedy, examples)
    grey = audit.modes.get(ALL_GREY, 0)
    if grey:
        message = f"grey images saved as RGB ({grey:,}): --data.img_channels 1 loses nothing"
        yield Finding("grey-rgb", "note", message, grey)
    yield from _listed(
        "levels",
        "note",
        "images that use a small part of the range from black to white",
        "12-bit values in a 16-bit file come out nearly black; stretch all images alike, and "
        "remove those that show nothing",
        [
            f"{name}: {low} to {high} of 255"
            for name, (low, high) in audit.levels.items()
            if high < DARK or high - low < FLAT
        ],
    )


def _left_out(audit: Audit) -> Iterator[Finding]:
    table = audit.table
    reasons = dict(Counter(why for _, why in table.dropped).most_common())
    for kind, what, remedy, counts in (
        ("other-formats", "files of unsupported formats", "convert them to PNG", audit.others),
        ("dropped", "images or rows that the reader leaves out", "check the reasons", reasons),
    ):
        if counts:
            number = sum(counts.values())
            examples = tuple(f"{name}: {count:,}" for name, count in counts.items())
            yield Finding(kind, "note", f"{what} ({number:,}): {remedy}", number, examples)
    used = unlisted_note(table.unlisted)
    if used in table.notes:
        yield Finding("unlisted", "note", used, len(table.unlisted), table.unlisted)
    else:
        what = "images to which nothing assigns a grade"
        yield from _listed("unlisted", "note", what, "they are not used", table.unlisted)
    for note in table.notes:
        if note != used:
            yield Finding("reader", "note", note)
