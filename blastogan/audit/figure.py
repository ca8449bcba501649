"""Figure of an audit: counts of the classes, some images of each, and the noted images."""

from __future__ import annotations

import textwrap
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from blastogan.audit.quality import RULES, find_looks, noted_images
from blastogan.audit.report import counted
from blastogan.data.images.decoding import decode, load_image
from blastogan.data.images.framing import Crop
from blastogan.errors import printable
from blastogan.grades import CLASSES

if TYPE_CHECKING:
    from pathlib import Path

    from blastogan.audit.contents import Audit
    from blastogan.data.records import ImageRecord

_Item = TypeVar("_Item")

_COLUMNS = 8
_TILE = 128
_GAP = 4
_NAME = 40
_ROW, _CHART, _LEFT, _ABOVE, _BELOW, _BETWEEN = 0.95, 3.2, 0.5, 0.75, 0.4, 0.3
_BARS = ("#33658a", "#b9c9d6")


def draw_audit(audit: Audit, crop: Crop | None = None) -> Image.Image:
    """Draw the numbers of images and embryos of each class, and examples of each.

    Examples show different embryos if there are enough; an audit of labels alone has none.
    Classes without an image are only named. Below are the images of each note on single images, and
    of each look, in full.

    Args:
        audit: The audit.
        crop: Crop of the examples; by default the centre square.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    crop = crop or Crop()
    names = [name for name in CLASSES if audit.classes[name]]
    noted = _noted(audit)
    shows = audit.pixels and bool(names)
    height = _ROW * max(len(names), 0 if noted else 1)
    below = _ROW * len(noted) + (_BETWEEN if noted else 0)
    width = _LEFT + _CHART + (_COLUMNS * _ROW if shows or noted else 1.5) + 0.2
    size = (width, height + _ABOVE + _BELOW + below)
    figure = Figure(figsize=size, dpi=110)
    canvas = FigureCanvasAgg(figure)
    # two dollar signs in a folder's name must not become a formula
    figure.suptitle(_caption(audit), fontsize=9, y=1 - 0.15 / size[1], va="top", parse_math=False)

    def add_axes(
        left: float, width: float, bottom: float = _BELOW + below, height: float = height
    ) -> Any:
        """Axes placed in inches, so that bars line up with the images of their class."""
        place = (left / size[0], bottom / size[1], width / size[0], height / size[1])
        return figure.add_axes(place)

    def add_sheet(sheet: Image.Image, title: str, *place: float) -> None:
        axes = add_axes(_LEFT + _CHART, _COLUMNS * _ROW, *place)
        axes.imshow(sheet, aspect="auto", interpolation="lanczos")
        axes.set_axis_off()
        axes.set_title(title, fontsize=8, loc="left")

    if names:
        _draw_counts(add_axes(_LEFT, _CHART), audit, names)
    if shows:
        square = "centre squares" if crop.kind == "centre" else "squares on the embryo"
        add_sheet(_sheet(audit, names, crop), f"some images of each class, {square}")
    if noted:
        place = (_BELOW / 2, _ROW * len(noted))
        add_sheet(_noted_sheet(noted), "noted images, in full", *place)
        _name_rows(add_axes(_LEFT, _CHART, *place), [(name, len(each)) for name, each in noted])
    file = BytesIO()
    with warnings.catch_warnings():
        # characters of a folder's name that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph")
        canvas.print_png(file)  # type: ignore[no-untyped-call]
    return Image.open(file).convert("RGB")


def _caption(audit: Audit) -> str:
    table = audit.table
    embryos = f" of {counted(audit.embryos, 'embryo')}" if table.grouped else ""
    without = audit.incomplete.get("ungraded", 0)
    ungraded = f", {without:,} ungraded" if without else ""
    found = counted(len(audit.faults), "fault") if audit.faults else "sound"
    name = printable(table.root.resolve().name.replace("\n", "\\n"))
    if len(name) > _NAME:
        name = f"{name[:_NAME]}..."
    caption = f"{name}: {counted(audit.graded, 'graded image')}{ungraded}{embryos}; {found}"
    missing = [name for name in CLASSES if not audit.classes[name]]
    if missing and audit.records:
        caption += f"\nno image of {', '.join(missing)}"
    return caption


def _draw_counts(axes: Any, audit: Audit, names: list[str]) -> None:
    """Draw bars of images and, if known, of embryos, with their numbers."""
    kinds = [("images", audit.classes)]
    if audit.table.grouped:
        kinds.append(("embryos", audit.embryos_by_class))
    thickness = 0.7 / len(kinds)
    for n, (kind, counts) in enumerate(kinds):
        values = [counts[name] for name in names]
        places = [place + (n - (len(kinds) - 1) / 2) * thickness for place in range(len(names))]
        bars = axes.barh(places, values, thickness * 0.92, color=_BARS[n], label=kind)
        axes.bar_label(bars, [f"{value:,}" for value in values], padding=3, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    largest = max(audit.classes.values())
    # logarithmic, so that rare classes are visible beside frequent ones
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, 3 * largest)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title("number, logarithmic", fontsize=8)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.4, 0), ncols=len(kinds), fontsize=7, frameon=False
    )


def _sheet(audit: Audit, names: list[str], crop: Crop) -> Image.Image:
    """Sheet with a row of tiles for each class."""
    step = _TILE + _GAP
    sheet = Image.new("RGB", (_COLUMNS * step, len(names) * step), "white")
    for row, name in enumerate(names):
        graded = [record for record in audit.records if record.grade.name == name]
        for column, record in enumerate(_choice(graded)):
            values = load_image(record.path, _TILE, 3, crop).transpose(1, 2, 0)
            tile = Image.fromarray(np.ascontiguousarray(values))
            sheet.paste(tile, (column * step, row * step + _GAP // 2))
    return sheet


def _choice(records: list[ImageRecord]) -> list[ImageRecord]:
    """Images spread over the list, of as many embryos as possible."""
    one_each = list({record.embryo: record for record in reversed(records)}.values())[::-1]
    taken = {record.path for record in one_each}
    rest = [record for record in records if record.path not in taken]
    chosen = _spread(one_each, _COLUMNS)
    return chosen + _spread(rest, _COLUMNS - len(chosen))


def _spread(records: list[_Item], count: int) -> list[_Item]:
    count = min(count, len(records))
    return [records[n * len(records) // count] for n in range(count)]


def _noted(audit: Audit) -> list[tuple[str, list[Path]]]:
    """Titles and files of the notes on single images and of the looks."""
    root = audit.table.root
    rows = [(RULES[kind].name, names) for kind, names in noted_images(audit.measures).items()]
    rows += [(look.name, list(look.images)) for look in find_looks(audit.measures)]
    return [(title, [root / name for name in names]) for title, names in rows]


def _noted_sheet(noted: list[tuple[str, list[Path]]]) -> Image.Image:
    """Sheet with a row of whole images for each note."""
    step = _TILE + _GAP
    sheet = Image.new("RGB", (_COLUMNS * step, len(noted) * step), "white")
    for row, (_, paths) in enumerate(noted):
        for column, path in enumerate(_spread(paths, _COLUMNS)):
            tile = ImageOps.contain(decode(path, 3), (_TILE, _TILE), Image.Resampling.LANCZOS)
            centred = (_TILE - tile.width) // 2, (_TILE - tile.height) // 2
            sheet.paste(tile, (column * step + centred[0], row * step + _GAP // 2 + centred[1]))
    return sheet


def _name_rows(axes: Any, counts: list[tuple[str, int]]) -> None:
    """Write the title and the number of images of each row beside it."""
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_axis_off()
    for row, (title, count) in enumerate(counts):
        text = f"{textwrap.fill(title, 34)}\n{counted(count, 'image')}"
        axes.text(0.96, row, text, fontsize=8, ha="right", va="center")
