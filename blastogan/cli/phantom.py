"""``blastogan phantom``: a set of phantoms as files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from blastogan.grades import CLASSES
from blastogan.utils.files import user_path
from blastogan.utils.terminal import positive, track
from blastogan.utils.workers import worker_count

_log = logging.getLogger(__name__)


def phantom(args: Sequence[str]) -> int:
    """Draw phantoms into a folder, or continue a set there."""
    options = vars(_parser().parse_args(args))
    folder, workers = Path(options.pop("out")), worker_count(options.pop("workers"))

    from blastogan.data.phantom_folder import write_phantoms
    from blastogan.phantoms.dataset import PhantomDataset

    phantoms = PhantomDataset(**options)
    try:
        written = write_phantoms(folder, phantoms, workers, track)
    except KeyboardInterrupt:
        _log.warning("stopped; to continue %s, give the same command again", folder)
        raise
    message = "%d phantoms in %s" if written.drawn else "all %d phantoms are in %s already"
    _log.info(message, len(phantoms), folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blastogan phantom",
        description="Draw phantoms, procedural blastocysts, as PNGs in class folders with a "
        "metadata.csv and a truth.csv. They are drawings, not images of embryos. The same command "
        "on the same folder continues where it was stopped.",
    )
    add = parser.add_argument
    add(
        "out",
        metavar="OUT",
        type=user_path,
        help="folder: new, empty, or begun with the same settings",
    )
    add("--count", type=positive, metavar="N", help="number of pictures (default: 3800)")
    add(
        "--counts",
        default="study",
        help="study (default): ten classes, long-tailed, several pictures of an embryo; balanced; "
        f"or pictures of each class, such as AA:10,CC:5; classes are {', '.join(CLASSES)}",
    )
    add("--resolution", type=int, default=256, help="side in pixels, 16 to 512 (default: 256)")
    add("--planes", type=int, default=1, help="focal planes of a shot, 1 to 7 (default: 1)")
    styles = ("hoffman", "dic", "brightfield", "mixed")
    add("--style", choices=styles, default="hoffman", help="optics (default: hoffman)")
    add(
        "--clinic",
        choices=("1", "2", "mixed"),
        default="1",
        help="whose microscope; those of a style differ in light, contrast and noise (default: 1)",
    )
    add(
        "--framing",
        choices=("embryo", "well"),
        default="embryo",
        help="embryo: centred on the embryo (default); well: the whole well",
    )
    add("--seed", type=int, default=0, help="picture n of a seed is always the same (default: 0)")
    add("--masks", action="store_true", help="write masks of ICM, TE, zona and cavity too")
    add("--workers", type=int, metavar="N", help="processes that draw (default: one to a core)")
    return parser
