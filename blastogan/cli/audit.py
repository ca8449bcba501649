"""``blastogan audit``: contents of a set of graded images, and faults that would spoil training."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from blastogan.audit.collect import audit_images
from blastogan.audit.quality import reasons
from blastogan.audit.report import show_audit
from blastogan.data.images.framing import Crop
from blastogan.data.readers import READERS, ReaderOptions
from blastogan.data.readers.exclusion import write_exclude_file
from blastogan.data.readers.options import COLUMN_ROLES, GradeSource, NotGradable, UngradedRule
from blastogan.data.split_file import read_split_file
from blastogan.data.splits import SplitKind, SplitPlan
from blastogan.errors import UserError
from blastogan.utils.files import atomic_write, user_path, write_json
from blastogan.utils.terminal import add_crop, check_outputs, positive, track
from blastogan.utils.workers import worker_count

if TYPE_CHECKING:
    pass

_log = logging.getLogger(__name__)

SPLIT_OPTIONS = ("split", "split_file", "val_fraction", "test_fraction", "folds", "fold")
"""Options of the split, named as those of training."""


def audit(args: Sequence[str]) -> int:
    """Audit a set, print and write the findings; returns 1 if there are faults."""
    options = _parser().parse_args(args)
    outputs = _outputs(options)
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
        options.exclude,
    )
    found = audit_images(
        options.root,
        reader_options,
        pixels=not options.labels_only,
        parts=read_split_file(options.split_file) if options.split_file else None,
        plan=SplitPlan(
            options.split,
            val_fraction=options.val_fraction,
            test_fraction=options.test_fraction,
            seed=options.seed,
            folds=options.folds,
            fold=options.fold,
        ),
        num_workers=0 if options.labels_only else worker_count(options.workers),
        resolution=options.resolution,
        track=track,
    )
    if options.json:
        write_json(found.to_dict(), options.json)
    try:
        if options.write_exclude:
            noted = reasons(found.measures)
            write_exclude_file(options.write_exclude, noted)
            _log.info("%d noted images: remove the rows of those to be kept", len(noted))
        if options.figure:
            from blastogan.audit.figure import draw_audit

            with atomic_write(options.figure) as part:
                draw_audit(found, crop).save(part, format="PNG")
    finally:
        # last, as a console may fail
        show_audit(found, options.json)
    for what, path in outputs.items():
        if path:
            _log.info("%s written to %s", what, path)
    if found.sound and not found.no_split:
        _log.info("next: %s", _fit_command(options))
    return 0 if found.sound else 1


def _outputs(options: argparse.Namespace) -> dict[str, str | None]:
    """Checked paths of the files to write, by what they hold."""
    files = {
        "--json": options.json,
        "--write-exclude": options.write_exclude,
        "--figure": options.figure,
    }
    check_outputs(files)
    if options.labels_only and options.write_exclude:
        raise UserError("--write-exclude lists images by their pixels: leave out --labels-only")
    if options.figure and Path(options.figure).suffix.lower() != ".png":
        raise UserError(f"--figure is {options.figure}: expected a name ending in .png")
    return dict(zip(("audit", "table of noted images", "figure"), files.values(), strict=True))


def _fit_command(options: argparse.Namespace) -> str:
    """The command that trains on the set, read as it was audited."""
    command = ["blastogan", "fit", "--config", "demo", "--data.root", options.root]
    usual = vars(_parser().parse_args([options.root]))
    for name in (*vars(ReaderOptions()), *SPLIT_OPTIONS, "crop", "crop_margin"):
        if (value := getattr(options, name, None)) != usual.get(name):
            command += [f"--data.{name}", str(value)]
    if options.seed:
        command += ["--seed_everything", str(options.seed)]
    return shlex.join(command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blastogan audit",
        description="Audit a set of graded images before training: its contents, files that cannot "
        "be decoded, copies, and leaks between the parts of a split. Exit code 0: sound; 1: faults "
        "that would spoil training; 2: wrong use.",
    )
    add = parser.add_argument
    formats = ", ".join(reader.format for reader in READERS)
    add("root", metavar="PATH", type=user_path, help="folder of graded images")
    add("--format", default="auto", help=f"auto (default), {formats}")
    add("--table", metavar="FILE", type=user_path, help="table of the format csv")
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
        default="by-embryo",
        help="split that training will use: a new one by embryo (default), or the set's own",
    )
    share = "share of the embryos in {}, as --data.{}_fraction in training (default: 0.1)"
    add("--val-fraction", type=float, default=0.1, metavar="X", help=share.format("val", "val"))
    add("--test-fraction", type=float, default=0.1, metavar="X", help=share.format("test", "test"))
    add("--seed", type=int, default=0, help="--seed_everything of training (default: 0)")
    add("--folds", type=int, metavar="K", help="cross-validation by embryo, as --data.folds")
    add("--fold", type=int, default=0, metavar="N", help="fold that is the test part, from 0")
    text = "split to check instead, such as the split.csv of a run"
    add("--split-file", metavar="FILE", type=user_path, help=text)
    text = "side in pixels that training will use: smaller images are reported (default: 64)"
    add("--resolution", type=positive, metavar="R", help=text)
    text = "check grades and splits only, without opening images"
    add("--labels-only", action="store_true", help=text)
    add("--workers", type=int, help="processes that decode images (default: one per core, to 8)")
    text = "leave out the images that this table names, as --data.exclude"
    add("--exclude", metavar="FILE", type=user_path, help=text)
    text = "write a table of the noted images, to be edited and given as --data.exclude"
    add("--write-exclude", metavar="FILE", type=user_path, help=text)
    add("--json", metavar="FILE", type=user_path, help="write the audit as JSON")
    add_crop(add, "crop of the images in the figure")
    text = "draw counts of the classes, images of each, and noted ones"
    add("--figure", metavar="FILE.png", type=user_path, help=text)
    return parser
