"""``blastogan audit``: contents of a set of graded images, and faults that would spoil training."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from blastogan.audit.collect import audit_images
from blastogan.audit.report import show_audit
from blastogan.data.images.framing import Crop
from blastogan.data.readers import READERS, ReaderOptions
from blastogan.data.readers.options import COLUMN_ROLES, GradeSource, NotGradable, UngradedRule
from blastogan.data.split_file import read_split_file
from blastogan.data.splits import SplitKind
from blastogan.errors import UserError
from blastogan.utils.files import atomic_write, write_json
from blastogan.utils.terminal import add_crop, check_outputs, positive, track
from blastogan.utils.workers import worker_count

_log = logging.getLogger(__name__)


def audit(args: Sequence[str]) -> int:
    """Audit a set, print and write the findings; returns 1 if there are faults."""
    options = _parser().parse_args(args)
    check_outputs({"--json": options.json, "--figure": options.figure})
    if options.figure and Path(options.figure).suffix.lower() != ".png":
        raise UserError(f"--figure is {options.figure}: expected a name ending in .png")
    crop = Crop(options.crop, options.crop_margin)
    reader_options = ReaderOptions(
        options.format,
        options.table,
        options.columns or {},
        options.embryo_pattern,
        options.not_gradable,
        options.ungraded,
        options.grade_pattern,
        options.grade_map or "",
        options.trust,
    )
    found = audit_images(
        options.root,
        reader_options,
        pixels=not options.labels_only,
        parts=read_split_file(options.split_file) if options.split_file else None,
        split=options.split,
        num_workers=0 if options.labels_only else worker_count(options.workers),
        resolution=options.resolution,
        track=track,
    )
    if options.json:
        write_json(found.to_dict(), options.json)
    show_audit(found, options.json)
    if options.figure:
        from blastogan.audit.figure import draw_audit

        with atomic_write(options.figure) as part:
            draw_audit(found, crop).save(part, format="PNG")
    for what, path in (("audit", options.json), ("figure", options.figure)):
        if path:
            _log.info("%s written to %s", what, path)
    return 0 if found.sound else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blastogan audit",
        description="Audit a set of graded images before training: its contents, files that cannot "
        "be decoded, copies, and leaks between the parts of a split. Exit code 0: sound; 1: faults "
        "that would spoil training; 2: wrong use.",
    )
    add = parser.add_argument
    formats = ", ".join(reader.format for reader in READERS)
    add("root", metavar="PATH", help="folder of graded images")
    add("--format", default="auto", help=f"auto (default), {formats}")
    add("--table", metavar="FILE", help="table of the format csv")
    add(
        "--columns",
        metavar="ROLE=NAME,...",
        help="its columns, such as image=file,grade=score,embryo=patient+embryo; expansion= takes "
        f"none; roles are {', '.join(COLUMN_ROLES)}",
    )
    text = r"regular expression for the embryo in an image's path, such as '(\d+)_'"
    add("--embryo-pattern", metavar="REGEX", help=text)
    text = "regular expression for the grade in an image's path, by its groups grade, or icm and te"
    add("--grade-pattern", metavar="REGEX", help=text)
    text = "what values of grades mean, such as EB=ND,1=AA (ND: not gradable, NA: unknown)"
    add("--grade-map", metavar="VALUE=GRADE,...", help=text)
    text = "which grade is right where folder, file name and table disagree"
    add("--trust", choices=get_args(GradeSource), help=text)
    text = "drop images marked as not gradable yet (default), or assign them to class DD"
    add("--not-gradable", choices=get_args(NotGradable), default="drop", help=text)
    text = "use images without a complete grade (default), or drop them"
    add("--ungraded", choices=get_args(UngradedRule), default="use", help=text)
    add(
        "--split",
        choices=get_args(SplitKind),
        default="published",
        help="split that training will use: with published (default), leaks of a published split "
        "are faults; with by-embryo (training's default), they are notes",
    )
    text = "split to check instead of a published one, such as the split.csv of a run"
    add("--split-file", metavar="FILE", help=text)
    text = "side in pixels that training will use: smaller images are reported (default: 64)"
    add("--resolution", type=positive, metavar="R", help=text)
    text = "check grades and splits only, without opening images"
    add("--labels-only", action="store_true", help=text)
    add("--workers", type=int, help="processes that decode images (default: one per core, to 8)")
    add("--json", metavar="FILE", help="write the audit as JSON")
    add_crop(add, "crop of the images in the figure")
    add("--figure", metavar="FILE.png", help="draw counts of the classes, and images of each")
    return parser
