"""What an audit has to say: faults that would spoil training, and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from blastogan.audit.contents import ALL_GREY, Audit, Finding, Level
from blastogan.audit.copies import Duplicates, ImageLeak

FEW_IMAGES = 10
"""Classes with fewer images are named."""

IMBALANCE = 10
"""Ratio of the largest class to the smallest from which on it is told."""

DARK = 64
"""Images whose lightest grey is below, of 255, are named."""

FLAT = 16
"""Images whose greys are spread less are named."""


# -- faults -------------------------------------------------------------------------------------


def find_faults(audit: Audit) -> Iterator[Finding]:
    """What would spoil training."""
    if audit.refusal:
        yield Finding("layout", "fault", audit.refusal)
    elif not audit.records and not audit.table.problems:
        yield Finding(
            "empty",
            "fault",
            "no sound image has a grade: give some images a grade, or name another format or table",
        )
    if audit.table.problems:
        yield Finding.of(
            "rows",
            "fault",
            "rows or files that cannot be used",
            "mend them or take them out, or train without them (--data.faults skip)",
            audit.table.problems,
        )
    if audit.strangers and not audit.refusal:
        yield Finding.of(
            "split-names",
            "fault",
            "names in the given split that are no graded images of the set",
            "give the folder that was split, or take their rows out of the file",
            audit.strangers,
        )
    yield from _unreadable(audit)
    if audit.split_used:
        yield from _leaks(audit)
    yield from _duplicates(audit)


def _unreadable(audit: Audit) -> Iterator[Finding]:
    root = audit.table.root
    graded = {record.path for record in audit.table.records}
    used: list[str] = []
    unused: list[str] = []
    for name, why in audit.unreadable:
        (used if audit.refusal or root / name in graded else unused).append(f"{name}: {why}")
    if used:
        yield Finding.of(
            "unreadable",
            "fault",
            "images that cannot be decoded",
            "mend them or take them out, or train without them (--data.faults skip)",
            used,
        )
    if unused:
        yield Finding.of(
            "unreadable-unused",
            "note",
            "files without a usable grade that cannot be decoded",
            "training does not open them",
            unused,
        )


def _leaks(audit: Audit) -> Iterator[Finding]:
    split = "given" if audit.split_given else "published"
    anew = "split by embryo (--data.split by-embryo, the default)"
    remedies = {
        "embryo": f"leave the training images out (--data.leaks drop), or {anew}",
        "duplicates": "take the copies out of one of the parts",
    }
    for kind, what in (("embryo", "embryos"), ("duplicates", "groups of copies")):
        leaks = [leak for leak in audit.leaks if leak.kind == kind]
        if leaks:
            yield Finding.of(
                f"leak-{kind}",
                "fault" if audit.split_used else "note",
                f"{what} in several parts of the {split} split",
                f"what is measured on the {_held_out(audit, leaks)} of their images in val or test "
                f"is too good; {remedies[kind]}",
                [str(leak) for leak in leaks],
            )


def _held_out(audit: Audit, leaks: Sequence[ImageLeak]) -> int:
    leaking = {name for leak in leaks for name in leak.images}
    return sum(
        name in leaking and record.part in ("val", "test")
        for name, record in zip(audit.names, audit.records, strict=True)
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
    remedy = "keep one image of each group, or give its images one embryo"
    if not audit.table.grouped:
        what = "groups of copies, where nothing tells which images show the same embryo"
        remedy = "keep one image of each group, or tell the embryos (--embryo-pattern)"
    yield from _of_groups(
        "duplicates-embryos",
        "fault",
        what,
        f"a split would part them; {remedy}",
        [group for group in groups if len(group.embryos) > 1],
    )
    yield from _of_groups(
        "duplicates-within",
        "note",
        "groups of images of one embryo that are copies or nearly so",
        "such as neighbouring focal planes or frames; a split keeps them together, and training "
        "shows the picture more often",
        [group for group in groups if len(group.embryos) == 1],
    )


def _of_groups(
    kind: str, level: Level, what: str, remedy: str, groups: Sequence[Duplicates]
) -> Iterator[Finding]:
    if groups:
        examples = [
            f"{group} ({', '.join(['exact' if group.exact else 'near', *group.grades])})"
            for group in groups
        ]
        yield Finding.of(kind, level, what, remedy, examples)


# -- notes --------------------------------------------------------------------------------------


def find_notes(audit: Audit) -> Iterator[Finding]:
    """What is no fault, and good to know."""
    if audit.records:
        yield from _groups(audit)
        yield from _balance(audit)
        yield from _split(audit)
        if not audit.split_used:
            yield from _leaks(audit)
    if audit.records and audit.pixels:
        yield from _pixels(audit)
        yield from _levels(audit)
    yield from _left_out(audit)


def _groups(audit: Audit) -> Iterator[Finding]:
    if not audit.table.grouped:
        yield Finding(
            "no-groups",
            "note",
            "nothing tells which images show the same embryo: each counts as an embryo of its own, "
            "and a split may part the images of one; if their names tell, add --embryo-pattern",
        )
    classes: dict[str, set[str]] = {}
    for record in audit.records:
        classes.setdefault(record.embryo, set()).add(record.grade.name)
    mixed = [
        f"{embryo}: {', '.join(sorted(names))}"
        for embryo, names in classes.items()
        if len(names) > 1
    ]
    if mixed:
        yield Finding.of(
            "embryo-classes",
            "note",
            "embryos with images of several classes",
            "right if they were graded more than once, or stand for patients; else check the "
            "grades",
            mixed,
        )


def _balance(audit: Audit) -> Iterator[Finding]:
    counts = {name: count for name, count in audit.classes.items() if count}
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if len(counts) == 1:
        message = f"all images are of one class, {most}: nothing can be learned of grades"
        yield Finding("one-class", "note", message)
    ratio = counts[most] / counts[least]
    if ratio >= IMBALANCE:
        yield Finding(
            "imbalance",
            "note",
            f"imbalance of {ratio:.0f} to 1, from {most} with {counts[most]:,} images to {least} "
            f"with {counts[least]:,}: --data.balance sqrt or uniform shows rare classes more often",
        )
    named = (
        (
            "rare",
            f"classes with fewer than {FEW_IMAGES} images",
            "--data.rare_classes keeps, merges or drops them",
            [f"{name} {count}" for name, count in counts.items() if count < FEW_IMAGES],
        ),
        (
            "one-embryo",
            "classes of one embryo only",
            "it stays in train, so that val and test have no such image",
            [name for name in counts if audit.embryos_by_class[name] == 1],
        ),
        (
            "no-images",
            "classes without an image",
            "nothing is learned of them but their single letters",
            [name for name, count in audit.classes.items() if not count],
        ),
    )
    for kind, what, remedy, names in named:
        if names and not (kind == "no-images" and len(counts) == 1):
            yield Finding.of(kind, "note", what, remedy, names)


def _split(audit: Audit) -> Iterator[Finding]:
    without = [
        name for name, record in zip(audit.names, audit.records, strict=True) if not record.part
    ]
    if without and (audit.split_given or audit.parts):
        what = "images in no part of the split"
        yield Finding.of("no-part", "note", what, "they are not used with it", without)


def _pixels(audit: Audit) -> Iterator[Finding]:
    if audit.smallest and audit.smallest < audit.resolution:
        yield Finding(
            "small",
            "note",
            f"the shorter side of the smallest image has {audit.smallest} pixels, below "
            f"{audit.resolution}: images are enlarged to the resolution of training, and blurred",
        )
    several = (
        ("sizes", "sizes of images", "a square is cut from each and resized", audit.sizes),
        ("modes", "ways to store pixels", "all are turned to grey, or to RGB", audit.modes),
    )
    for kind, what, remedy, counts in several:
        if len(counts) > 1:
            examples = [f"{name}: {count:,}" for name, count in counts.items()]
            yield Finding.of(kind, "note", what, remedy, examples)
    grey = audit.modes.get(ALL_GREY, 0)
    if grey:
        message = f"grey images saved as RGB ({grey:,}): --data.img_channels 1 loses nothing"
        yield Finding("grey-rgb", "note", message, grey)


def _levels(audit: Audit) -> Iterator[Finding]:
    narrow = [
        f"{name}: {low} to {high} of 255"
        for name, (low, high) in audit.levels.items()
        if high < DARK or high - low < FLAT
    ]
    if narrow:
        yield Finding.of(
            "levels",
            "note",
            "images that use a small part of the range from black to white",
            "12-bit values in a 16-bit file come out nearly black; stretch those of all images "
            "alike, and take out what shows nothing",
            narrow,
        )


def _left_out(audit: Audit) -> Iterator[Finding]:
    table = audit.table
    if audit.others:
        number = sum(audit.others.values())
        yield Finding(
            "other-formats",
            "note",
            f"files of formats that are not read ({number:,}): convert them to PNG if they belong "
            "to the set",
            number,
            tuple(f"{suffix}: {count:,}" for suffix, count in audit.others.items()),
        )
    reasons = Counter(why for _, why in table.dropped)
    if reasons:
        number = len(table.dropped)
        yield Finding(
            "dropped",
            "note",
            f"images or rows that the reader leaves out ({number:,}): look whether that is meant",
            number,
            tuple(f"{why}: {count:,}" for why, count in reasons.most_common()),
        )
    if table.unlisted:
        what = "images of the folder without a grade, as no table lists them"
        yield Finding.of("unlisted", "note", what, "they are not used", table.unlisted)
    for note in table.notes:
        yield Finding("reader", "note", note)
