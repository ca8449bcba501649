"""Terminal report of an audit."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from blastogan.errors import printable
from blastogan.grades import CLASSES
from blastogan.utils.terminal import report_console

if TYPE_CHECKING:
    from rich.console import Console

    from blastogan.audit.contents import Audit, Finding

_EXAMPLES = 4
_MAX_EXAMPLE = 300
_SHORT = 14
_BAR = 40
_SHOWN_SIZES = 4


def show_audit(audit: Audit, json: str | None = None) -> None:
    """Print contents, findings and verdict; `json` is the file that lists all, if any."""
    with report_console() as console:
        _print(console, _title(audit))
        if audit.records:
            for line in ("", *_classes(audit, console.width), "", *_summary(audit), ""):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        for finding in audit.findings:
            _show_finding(console, finding, json)
        _print(console, _verdict(audit))


def _title(audit: Audit) -> str:
    table = audit.table
    how = f"format {table.format}" if table.format else "no known layout"
    images = counted(audit.graded, "sound graded image")
    if without := audit.incomplete.get("ungraded", 0):
        images += f" and {without:,} ungraded"
    embryos = f" of {counted(audit.embryos, 'embryo')}" if table.grouped else ""
    return f"{table.root} ({how}): {images}{embryos}; {counted(audit.files, 'image file')}"


def _classes(audit: Audit, width: int) -> Iterator[str]:
    """Lines of a table of images, embryos and parts by class, with bars."""
    columns: list[tuple[str, Mapping[str, int]]] = [("images", audit.classes)]
    if audit.table.grouped:
        columns.append(("embryos", audit.embryos_by_class))
    columns += [(part.name, part.classes) for part in audit.parts]
    sign = "\u2588" if "utf" in (sys.stdout.encoding or "").lower() else "#"
    most = max(*audit.classes.values(), *audit.incomplete.values())
    room = max(min(width - 9 - 10 * len(columns), _BAR), 1)
    yield "class" + "".join(f"{title:>10}" for title, _ in columns)
    for name, count in audit.classes.items():
        numbers = "".join(f"{counts.get(name, 0):>10,}" for _, counts in columns)
        # a class with an image always has a visible bar
        bar = sign * max(round(room * count / most), count > 0)
        yield f"{name:<5}{numbers}   {bar}".rstrip()
    for name, count in audit.incomplete.items():
        yield f"{name:<{max(5, 15 - len(f'{count:,}'))}}{count:,}   ".rstrip()


def _summary(audit: Audit) -> list[str]:
    """Counts below the table of classes."""
    expansion = {name: count for name, count in audit.expansion.items() if count}
    lines = [
        ("ICM", _pairs(audit.icm)),
        ("TE", _pairs(audit.te)),
        ("expansion", _pairs(expansion) if set(expansion) != {"unknown"} else "unknown"),
        ("pixels", _first(audit.sizes)),
        ("mode", _first(audit.modes)),
    ]
    if not audit.pixels:
        lines[3:] = [("pixels", "no image was opened (--labels-only)")]
    how = {"given": "from the file", "published": "the set's own"}.get(audit.split, "by embryo")
    lines += [(part.name, f"{str(part).partition(': ')[2]}, {how}") for part in audit.parts]
    return [f"{name:<9}  {text}" for name, text in lines]


def _first(counts: Mapping[str, int]) -> str:
    """The first few of `counts`."""
    shown = _pairs(dict(list(counts.items())[:_SHOWN_SIZES]))
    rest = len(counts) - _SHOWN_SIZES
    return shown + (f"  and {rest} others" if rest > 0 else "")


def _pairs(counts: Mapping[str, int]) -> str:
    return "   ".join(f"{name} {count:,}" for name, count in counts.items())


def _show_finding(console: Console, finding: Finding, json: str | None) -> None:
    style = "bold red" if finding.level == "fault" else ""
    _print(console, f"{finding.level}: {finding.message}", style)
    examples = finding.examples
    if all(len(example) <= _SHORT for example in examples[: len(CLASSES)]) and examples:
        shown, rest = ["; ".join(examples[: len(CLASSES)])], len(examples) - len(CLASSES)
    else:
        shown, rest = list(examples[:_EXAMPLES]), len(examples) - _EXAMPLES
    for example in shown:
        cut = example[:_MAX_EXAMPLE]
        _print(console, f"  - {cut}{'...' if cut != example else ''}", indent=4)
    if rest > 0:
        where = f"all are in {json}" if json else "all with --json FILE"
        _print(console, f"  - and {rest:,} more ({where})", indent=4)


def _verdict(audit: Audit) -> str:
    notes = len(audit.findings) - len(audit.faults)
    noted = f"; {counted(notes, 'note')}" if notes else ""
    if audit.sound:
        seen = " as far as labels show" if not audit.pixels else ""
        weak = any(part.weakness for part in audit.parts)
        but = ", but its held-out parts are too small to measure anything" if weak else ""
        return f"sound{seen}{but}{noted}"
    return f"{counted(len(audit.faults), 'fault')} that would spoil training{noted}"


def counted(number: int, what: str) -> str:
    """A number with its noun: ``1 image``, ``2 images``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print(console: Console, line: str, style: str = "", indent: int = 6) -> None:
    """Print a line, wrapped between words on a terminal, unchanged elsewhere."""
    from rich.text import Text

    line = printable(line.replace("\n", "\\n"))
    if console.is_terminal:
        line = textwrap.fill(
            line,
            console.width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    # a Text, as names in brackets must not become markup
    console.print(Text(line, style=style), soft_wrap=True)
