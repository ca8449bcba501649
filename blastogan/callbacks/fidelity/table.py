"""Printed results of a fidelity test."""

from __future__ import annotations

from collections.abc import Sequence

from blastogan.metrics.held_out import HeldOutReport
from blastogan.utils.terminal import show_tables


def print_held_out(report: HeldOutReport, source: str) -> None:
    """Print a report, with the name of the real images' source, such as ``phantoms``."""
    train, held_out = report.train, report.held_out
    size = "x".join(map(str, train.shape[1:]))
    title = f"{train.n_fake} generated images against {source}, {size} pixels, {train.extractor}"
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
