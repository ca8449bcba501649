"""Curves of a run against thousands of images shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from PIL import Image

from blastogan.growth import GrowthSchedule


def plot_curves(
    rows: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
    schedule: GrowthSchedule,
    caption: str,
) -> Image.Image:
    """A panel per metric, with the stages of growth marked.

    Args:
        rows: With ``kimg``, and by metric its value, under ``<metric>_std`` its deviation and
            under ``floor_<metric>`` its floor; what is empty is left out.
        titles: Title of a panel by metric; metrics without a value get none.
        schedule: Gives the stages; fades are shaded.
        caption: Title of the whole.

    Returns:
        RGB picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = {name: _curve(rows, name) for name in titles}
    curves = {name: curve for name, curve in curves.items() if curve[0]}
    columns = min(len(curves), 2) or 1
    lines = math.ceil(len(curves) / columns) or 1
    figure = Figure(figsize=(5.6 * columns, 2.6 * lines + 0.6), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(caption, fontsize=10)
    for place, (name, (kimg, values, errors)) in enumerate(curves.items()):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.errorbar(
            kimg, values, yerr=errors, marker="o", markersize=3.5, capsize=2, linewidth=1.4
        )
        _, floors, _ = _curve(rows, f"floor_{name}")
        if floors:
            axes.axhline(floors[-1], color="tab:green", linestyle=":", linewidth=1.2)
            axes.annotate(
                "real half against real half",
                (0.01, floors[-1]),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                fontsize=7,
                color="tab:green",
            )
        _mark_stages(axes, schedule)
        axes.set_title(titles[name], fontsize=9)
        axes.set_xlim(0, schedule.total_images / 1000)
        axes.tick_params(labelsize=8)
        if place >= len(curves) - columns:
            axes.set_xlabel("thousands of images shown (kimg)", fontsize=8)
    file = BytesIO()
    canvas.print_png(file)  # type: ignore[no-untyped-call]
    return Image.open(file).convert("RGB")


def _curve(
    rows: Sequence[Mapping[str, Any]], name: str
) -> tuple[list[float], list[float], list[float]]:
    """Places, values and deviations of a metric, in order."""
    found = sorted(
        (_number(row["kimg"]), _number(row[name]), _number(row.get(f"{name}_std")))
        for row in rows
        if not math.isnan(_number(row.get(name)))
    )
    kimg, values, errors = ([each[n] for each in found] for n in range(3))
    return kimg, values, [0.0 if math.isnan(error) else error for error in errors]


def _number(value: Any) -> float:
    return math.nan if value in (None, "") else float(value)


def _mark_stages(axes: Any, schedule: GrowthSchedule) -> None:
    for phase in schedule.phases:
        start, end = phase.start / 1000, phase.end / 1000
        if phase.kind == "fade":
            axes.axvspan(start, end, color="0.93", zorder=0)
        axes.axvline(end, color="0.75", linewidth=0.7, zorder=0)
        if phase.kind == "hold":
            axes.annotate(
                f"{phase.resolution}",
                ((start + end) / 2, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, -9),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color="0.5",
            )
