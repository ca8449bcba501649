"""Plots of metrics of a run against thousands of images shown (kimg)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from blastogan.growth import GrowthSchedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """A metric to plot.

    Attributes:
        name: Column of the values; their deviations are in ``<name>_std``.
        title: Title of the panel.
        unit: Factor for the values.
        reference: Column of a reference value, drawn as a horizontal line; empty for none.
        reference_title: Label of that line.
        logarithmic: Use a symmetric logarithmic axis.
        curve: Column of texts; rows with different ones are drawn as curves of their own, named
            by it if there are several. Empty for one curve.
    """

    name: str
    title: str
    unit: float = 1.0
    reference: str = ""
    reference_title: str = ""
    logarithmic: bool = False
    curve: str = ""


def plot_curves(
    rows: Sequence[Mapping[str, Any]],
    panels: Sequence[Panel],
    schedule: GrowthSchedule,
    caption: str,
) -> Image.Image:
    """What `draw_curves` draws, as an RGB picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = FigureCanvasAgg(Figure())
    draw_curves(canvas.figure, rows, panels, schedule, caption)
    file = BytesIO()
    canvas.print_png(file)  # type: ignore[no-untyped-call]
    return Image.open(file).convert("RGB")


def draw_curves(
    figure: Figure,
    rows: Sequence[Mapping[str, Any]],
    panels: Sequence[Panel],
    schedule: GrowthSchedule,
    caption: str,
) -> None:
    """Plot metrics against kimg in panels, with the stages of growth marked.

    Args:
        figure: An empty figure, whose size is set.
        rows: Rows with ``kimg`` and the columns of the panels; empty values are skipped.
        panels: Metrics to plot; panels without values are skipped.
        schedule: Growth schedule; fades are shaded.
        caption: Title of the figure.
    """
    panels = [panel for panel in panels if _curve(rows, panel.name, panel.unit)[0]]
    columns = min(len(panels), 2) or 1
    lines = math.ceil(len(panels) / columns) or 1
    figure.set_size_inches(5.6 * columns, 2.5 * lines + 0.6)
    figure.set_dpi(110)
    figure.set_layout_engine("constrained")
    figure.suptitle(caption, fontsize=10)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(lines, columns, place + 1)
        _draw(axes, rows, panel)
        _mark_stages(axes, schedule)
        if place >= len(panels) - columns:
            axes.set_xlabel("thousands of images shown (kimg)", fontsize=8)


def _draw(axes: Any, rows: Sequence[Mapping[str, Any]], panel: Panel) -> None:
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if not math.isnan(_number(row.get(panel.name))):
            curves.setdefault(str(row.get(panel.curve, "")), []).append(row)
    drawn, scatter = [0.0], list[float]()
    for name, points in curves.items():
        kimg, values, errors = _curve(points, panel.name, panel.unit)
        style = {"marker": "o", "markersize": 3.5, "capsize": 2, "linewidth": 1.4}
        lines = axes.errorbar(kimg, values, yerr=errors, label=name, **style)
        _, references, _ = _curve(points, panel.reference, panel.unit)
        if references:
            colour = "tab:green" if len(curves) == 1 else lines[0].get_color()
            _draw_reference(axes, references[-1], panel, colour, above=max(values))
        drawn += [*values, *references]
        scatter += [abs(value) for value in [*references, *errors] if value]
    if len(curves) > 1:
        axes.legend(fontsize=7)
    if panel.logarithmic:
        # linear near zero, because unbiased estimates can be negative
        axes.set_yscale("symlog", linthresh=max(min(scatter, default=1.0), 1e-6))
        axes.set_ylim(3 * min(drawn), 3 * max(drawn) or 1.0)
    axes.set_title(panel.title, fontsize=9, pad=14)
    axes.tick_params(labelsize=8)


def _draw_reference(axes: Any, value: float, panel: Panel, colour: str, *, above: float) -> None:
    """Draw a horizontal line; its label is below the line if no value is above it."""
    axes.axhline(value, color=colour, linestyle=":", linewidth=1.2)
    axes.annotate(
        panel.reference_title,
        (0.01, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, -9 if value >= above else 3),
        textcoords="offset points",
        fontsize=7,
        color=colour,
    )


def _curve(
    rows: Sequence[Mapping[str, Any]], name: str, unit: float
) -> tuple[list[float], list[float], list[float]]:
    """kimg, values and deviations of a metric, sorted by kimg."""
    found = sorted(
        (_number(row["kimg"]), _number(row[name]) * unit, _number(row.get(f"{name}_std")) * unit)
        for row in rows
        if not math.isnan(_number(row.get(name)))
    )
    kimg, values, errors = ([each[n] for each in found] for n in range(3))
    return kimg, values, [0.0 if math.isnan(error) else error for error in errors]


def _number(value: Any) -> float:
    return math.nan if value in (None, "") else float(value)


def _mark_stages(axes: Any, schedule: GrowthSchedule) -> None:
    end = schedule.total_images / 1000
    axes.set_xlim(-0.01 * end, 1.02 * end)
    for phase in schedule.phases:
        start, end = phase.start / 1000, phase.end / 1000
        if phase.kind == "fade":
            axes.axvspan(start, end, color="0.93", zorder=0)
        axes.axvline(end, color="0.75", linewidth=0.7, zorder=0)
        if phase.kind == "hold":
            axes.annotate(
                f"{phase.resolution}x{phase.resolution}",
                ((start + end) / 2, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color="0.5",
            )
