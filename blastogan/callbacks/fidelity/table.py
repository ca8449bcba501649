"""Printed results of evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blastogan.metrics.held_out import HeldOutReport
from blastogan.metrics.report import FidelityReport
from blastogan.metrics.specs import TABLE
from blastogan.utils.terminal import show_tables


def describe_report(report: FidelityReport) -> str:
    """One line: generated and real images, and each metric with its unit."""
    main = [f"{title.strip()} {value.partition(' ')[0]}" for title, value, _ in report.lines()]
    text = (
        f"{report.n_fake} generated images against {report.n_real} trained on, {_size(report)}, "
        f"extractor {report.extractor}: {', '.join(main)}"
    )
    if (held_out := report.values.get("kid_held_out")) is None:
        return text
    spec, count = TABLE["kid"], report.values["n_held_out"]
    return f"{text}; {spec.title} to the {count:g} validation images {held_out * spec.scale:.4g}"


def print_values(values: Mapping[str, float], title: str) -> None:
    """Print logged metrics of a validation or test, and which images they compare."""
    rows = [_row(name, value) for name, value in values.items()]
    show_tables(title, [(("metric", "value"), rows)], ())


def _row(name: str, value: float) -> tuple[str, str]:
    """Name for people, and value in its unit; a name may end in a resolution, as ``swd_32``."""
    side = name.rpartition("_")[2]
    if side.isdecimal():
        return f"  at {side}x{side}", f"{value:.4g}"
    spec = TABLE.get(name)
    return (spec.title, f"{value * spec.scale:.4g}") if spec else (name, f"{value:.4g}")


def _size(report: FidelityReport) -> str:
    return "x".join(map(str, report.shape[1:]))


def print_held_out(report: HeldOutReport, source: str) -> None:
    """Print a report, with the name of the real images' source, such as ``phantoms``."""
    train, held_out = report.train, report.held_out
    size, extractor = _size(train), train.extractor
    title = f"{train.n_fake} generated images against {source}, {size}, extractor {extractor}"
    others = {name: value for name, value, _ in held_out.lines()}
    rows = [(name, value, others.get(name, ""), floor) for name, value, floor in train.lines()]
    if report.fid_train_matched is not None:
        matched = f"FID, {held_out.n_real} of the images"
        rows.insert(1, (matched, f"{report.fid_train_matched:.4g}", others.get("FID", ""), ""))
    halves = " and ".join(map(str, train.floor["n"])) if train.floor else ""
    header = (
        "metric",
        f"{train.n_real} trained on",
        f"{held_out.n_real} held out",
        f"real half against real half ({halves})" if halves else "",
    )
    tables: list[tuple[tuple[str, ...], Sequence[tuple[str, ...]]]] = [(header, rows)]
    if train.classes:
        by_class = [
            (name, train.class_text(name), held_out.class_text(name)) for name in train.classes
        ]
        tables.append((("KID x 1000 with 95 % interval", *header[1:3]), by_class))
    notes = [*dict.fromkeys([*train.notes, *held_out.notes]), report.verdict()]
    show_tables(title, tables, notes)
