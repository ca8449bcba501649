"""The table of metrics: names, titles, panels and help texts of all tools follow from it.

Nothing is imported here but the standard library, so that help texts cost no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_FLOOR = "real half against real half"


@dataclass(frozen=True)
class MetricSpec:
    """A value of an evaluation; `blastogan.metrics.fidelity` computes it.

    Attributes:
        name: Column of ``fidelity.csv``; its standard deviation is in ``<name>_std``.
        title: Name for people.
        needs: ``moments`` of features, whose memory does not grow with the sets, the ``features``
            of all images, or ``pixels``.
        better: Which values are better; those of reals where neither low nor high ones are.
        help: What it measures.
        scale: Tables and plots show the value times this.
        option: Whether users ask for it by name; others come along with one that they asked for.
        in_table: Whether it is a row of the tables of one comparison.
        in_plot: Whether ``fidelity.png`` has a panel for it.
        reference: Column whose last value the panel shows as a line; empty for none.
        reference_title: Caption of that line.
        logarithmic: Whether values span orders of magnitude.
        in_test: Which of the comparisons of a test, ``train`` and ``held_out``, return it.
    """

    name: str
    title: str
    needs: Literal["moments", "features", "pixels"]
    better: Literal["lower", "higher", "as reals"]
    help: str
    scale: float = 1.0
    option: bool = True
    in_table: bool = True
    in_plot: bool = True
    reference: str = ""
    reference_title: str = ""
    logarithmic: bool = False
    in_test: tuple[str, ...] = ()


SPECS = (
    MetricSpec(
        "fid", "FID", "moments", "lower", "Fréchet distance of the features, biased by few images",
        reference="floor_fid", reference_title=_FLOOR, logarithmic=True,
        in_test=("train", "held_out"),
    ),
    MetricSpec(
        "kid", "KID x 1000", "features", "lower", "kernel distance of the features, unbiased",
        scale=1000.0, reference="floor_kid", reference_title=_FLOOR, logarithmic=True,
        in_test=("train", "held_out"),
    ),
    MetricSpec(
        "kid_held_out", "KID x 1000, held out", "features", "lower", "KID to validation images",
        scale=1000.0, option=False, in_table=False, logarithmic=True,
    ),
    MetricSpec(
        "precision", "precision", "features", "higher", "fraction of fakes among the reals",
        in_test=("train",),
    ),
    MetricSpec(
        "recall", "recall", "features", "higher", "fraction of reals among the fakes",
        in_test=("train",),
    ),
    MetricSpec("density", "density", "features", "higher", "as precision, robust to outliers"),
    MetricSpec("coverage", "coverage", "features", "higher", "as recall, robust to outliers"),
    MetricSpec(
        "swd", "SWD x 1000", "pixels", "lower", "sliced Wasserstein distance of patches",
        in_test=("train", "held_out"),
    ),
    MetricSpec(
        "ms_ssim", "MS-SSIM", "pixels", "as reals", "similarity of fakes of one class",
        reference="ms_ssim_real", reference_title="real images",
    ),
    MetricSpec(
        "ms_ssim_real", "  of the real images", "pixels", "as reals", "similarity of the reals",
        option=False, in_plot=False,
    ),
    MetricSpec(
        "classes", "KID x 1000 by class", "features", "lower", "KID by class and by letter",
        scale=1000.0, in_table=False, in_plot=False,
    ),
)  # fmt: skip
"""All metrics, in the order of tables and plots."""

METRICS = tuple(spec.name for spec in SPECS if spec.option)
"""What can be asked for."""

PIXEL_METRICS = tuple(spec.name for spec in SPECS if spec.option and spec.needs == "pixels")
"""Metrics that need no extractor."""

TABLE = {spec.name: spec for spec in SPECS if spec.in_table}
"""Rows of the tables of one comparison."""

TESTED = (
    *(f"{spec.name}_{part}" for spec in SPECS for part in spec.in_test),
    *("gap_kid", "gap_kid_p", "gap_nearest_p"),
)
"""Values of a test that Lightning returns and shows; its file has all."""


def describe_metrics() -> str:
    """One line of help for each metric that can be asked for."""
    better = {"lower": "lower is better", "higher": "higher is better", "as reals": "as reals"}
    return "\n".join(
        f"  {spec.name:<10} {spec.help} ({better[spec.better]})" for spec in SPECS if spec.option
    )
