"""Measures FID, KID and related metrics during a fit and in a test."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.callbacks.checkpoints import GrowthCheckpoint, save_last
from blastogan.callbacks.fidelity.statistics import MIN_HELD_OUT, RunStatistics
from blastogan.callbacks.fidelity.table import describe_report, print_held_out
from blastogan.errors import UserError, check_ranges
from blastogan.grades import MAX_COUNT
from blastogan.growth import MAX_BATCH, GrowthSchedule
from blastogan.metrics.extractors import AUTO, choose_extractor
from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.held_out import compare_held_out
from blastogan.metrics.report import FidelityReport
from blastogan.metrics.specs import METRICS, PIXEL_METRICS, SPECS, TESTED
from blastogan.modules import BaseGANModule
from blastogan.modules.base import as_gan
from blastogan.runs.loggers import send_picture, takes_texts
from blastogan.runs.table import RunTable
from blastogan.utils.curves import Panel, plot_curves
from blastogan.utils.files import unused_file, write_json
from blastogan.utils.sheets import save_picture

_log = logging.getLogger(__name__)

COMPARED = "extractor and images"
"""Column of the curves of ``fidelity.png``: values are comparable where it is equal."""

PANELS = [
    Panel(
        *(spec.name, spec.title, spec.scale, spec.reference, spec.reference_title),
        logarithmic=spec.logarithmic,
        curve="" if spec.needs == "pixels" else COMPARED,
    )
    for spec in SPECS
    if spec.in_plot
]


class FidelityCallback(Callback):
    """Evaluate the averaged generator at the end of each phase and at intervals within long ones.

    In a fit, a few fakes are compared with the training images and, by KID, with the validation
    images (``kid_held_out``). Values go to the loggers against kimg (``fid``, ``kid``, ...), to
    ``fidelity.csv`` and ``fidelity.png`` of the run folder, and to Lightning's
    ``ModelCheckpoint(monitor="fid", save_on_train_epoch_end=True)``. In a test, many fakes are
    compared with the training images and the held-out images.

    Fakes have the class distribution of the training images and the final resolution. Weights and
    random states of the run do not change.

    Args:
        schedule: Growth schedule of the run.
        extractor: Name of a feature extractor (`blastogan.metrics.extractors`); ``auto`` for
            ``inception-clean`` or ``efficientnet-lite0``, the first whose weights are on this
            machine; or ``none`` for sliced Wasserstein distance and MS-SSIM only.
        weights: File with its weights; ``None`` searches for it.
        metrics: Some of `blastogan.metrics.specs.METRICS`; empty disables evaluation.
        num_fakes: Fakes per evaluation in a fit.
        num_test_fakes: Fakes in a test.
        num_reals: Maximum number of training images in a fit, chosen at random; ``None`` for all.
        every_kimg: Interval between evaluations within a phase, rounded up to whole ticks.
        batch_size: Images per batch.
        kid_subset_size: Images per subset for KID.
        pixel_images: Maximum number of images for the metrics of pixels in a fit.
        seed: Seed of latents, labels and subsets.
        cache: Whether to keep features of real images in the cache folder.

    Raises:
        UserError: If a value is out of range.
    """

    TABLE = "fidelity.csv"
    PLOT = "fidelity.png"

    def __init__(
        self,
        schedule: GrowthSchedule,
        extractor: str = AUTO,
        weights: str | None = None,
        metrics: Sequence[str] = METRICS,
        num_fakes: int = 2000,
        num_test_fakes: int = 50_000,
        every_kimg: float = 500.0,
        batch_size: int = 32,
        kid_subset_size: int = 1000,
        pixel_images: int = 500,
        seed: int = 0,
        cache: bool = True,
        num_reals: int | None = None,
    ) -> None:
        if min(num_fakes, num_test_fakes, batch_size) < 2 or not every_kimg > 0:
            raise UserError(
                "fidelity: num_fakes, num_test_fakes and batch_size must be 2 or more, "
                f"every_kimg above 0; got {num_fakes}, {num_test_fakes}, {batch_size}, {every_kimg}"
            )
        counts = {"num_fakes": num_fakes, "num_test_fakes": num_test_fakes}
        counts |= {"pixel_images": pixel_images, "kid_subset_size": kid_subset_size}
        check_ranges({f"fidelity.{name}": n for name, n in counts.items()}, 0, MAX_COUNT)
        check_ranges({"fidelity.batch_size": batch_size}, 1, MAX_BATCH)
        if num_reals is not None:
            check_ranges({"fidelity.num_reals": num_reals}, 2, MAX_COUNT)
        self.schedule = schedule
        self.extractor = extractor
        self.weights = weights
        self.metrics = tuple(metrics)
        self.num_fakes = num_fakes
        self.num_test_fakes = num_test_fakes
        self.every_kimg = every_kimg
        self.batch_size = batch_size
        self.kid_subset_size = kid_subset_size
        self.pixel_images = pixel_images
        self.seed = seed
        self.cache = cache
        self.num_reals = num_reals
        self._statistics: RunStatistics | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the extractor and find the data first, to fail early."""
        # fidelity.csv has no columns for classes
        metrics = [name for name in self.metrics if stage == "test" or name != "classes"]
        if stage not in ("fit", "test") or not metrics:
            return
        # if one of several machines lacks the weights, none uses them
        agree = partial(trainer.strategy.reduce_boolean_decision, all=True)
        for extractor in (choose_extractor(self.extractor, self.weights, agree), "none"):
            evaluator = FidelityEvaluator(
                extractor,
                weights=self.weights,
                metrics=metrics,
                kid_subset_size=self.kid_subset_size,
                swd_images=self.pixel_images if stage == "fit" else 2000,
                seed=self.seed,
                device=trainer.strategy.root_device,
                optional=True,
            )
            if agree(evaluator.extractor is not None):
                break
        if not evaluator.metrics:
            return
        reals = self.num_reals if stage == "fit" else None
        self._statistics = RunStatistics(trainer, evaluator, self.batch_size, self.cache, reals)
        held_out = "val" in self._statistics.data.split and self._statistics.measures_held_out
        if stage == "fit" and self._statistics.measures_kid and not held_out:
            _log.warning(
                "the validation images are too few for KID against them, which needs %d, of 5 "
                "embryos and 2 classes: the best checkpoint is chosen by KID against the training "
                "images, which favours copies of them. Hold out more images (--data.val_fraction)",
                MIN_HELD_OUT,
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release features and networks."""
        self._statistics = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop rows that a resumed run repeats; `GrowthCheckpoint` repeats a missing evaluation."""
        network = self._statistics.evaluator.extractor if self._statistics else None
        for keeper in trainer.checkpoint_callbacks:
            if isinstance(keeper, GrowthCheckpoint) and network is not None:
                keeper.extractor = network.label
        if trainer.is_global_zero:
            table = RunTable(Path(trainer.default_root_dir) / self.TABLE)
            table.truncate(as_gan(pl_module).images_shown / 1000, inclusive=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate at the end of a phase or if `every_kimg` has passed."""
        module = as_gan(pl_module)
        if not self._statistics:
            return
        if not self._is_due(module.images_shown):
            # without a value, a ModelCheckpoint would stop the run or use the previous one
            pl_module.log_dict(dict.fromkeys(self._monitored(), math.nan), logger=False)
            return
        # so that no tick of training is lost if the evaluation fails
        save_last(trainer)
        values = self._evaluate(trainer, module)
        pl_module.log_dict(_without_pixel_metrics(values), logger=False)

    def _monitored(self) -> list[str]:
        assert self._statistics is not None
        names = [name for name in self._statistics.evaluator.metrics if name not in PIXEL_METRICS]
        return [*names, "kid_held_out"] if self._statistics.measures_held_out else names

    def _is_due(self, images_shown: int) -> bool:
        if not self.schedule.ends_tick(images_shown):
            return False
        if self.schedule.finished_phase(images_shown) is not None:
            return True
        within = images_shown - self.schedule.state_after(images_shown).phase.start
        every = self.every_kimg * 1000
        return within // every > (within - self.schedule.tick_images) // every

    def _evaluate(self, trainer: Trainer, module: BaseGANModule) -> dict[str, float]:
        """Measure, and write row, plot and log; returns the values on every process."""
        assert self._statistics is not None
        real, fake = self._statistics.real("train"), self._statistics.fake(self.num_fakes)
        # called on every process: each takes its part of the validation images
        held_out = self._statistics.held_out_kid(fake)
        values: dict[str, float] = {}
        if trainer.is_global_zero:
            report = self._statistics.evaluator.compare(real, fake)
            report.values |= held_out
            values = report.values
            self._record(trainer, module, report)
        return trainer.strategy.broadcast(values)

    def _record(self, trainer: Trainer, module: BaseGANModule, report: FidelityReport) -> None:
        assert self._statistics is not None
        shown, source = module.images_shown, self._statistics.data.source
        floor = report.floor or {}
        row = {
            "kimg": shown / 1000,
            **self.schedule.log_columns(shown),
            "extractor": report.extractor,
            "n_real": report.n_real,
            "n_fake": report.n_fake,
            **report.values,
            **{f"floor_{name}": floor[name] for name in ("fid", "kid") if name in floor},
        }
        folder = Path(trainer.default_root_dir)
        table = RunTable(folder / self.TABLE)
        table.replace(row, same=("extractor",))
        rows = [{**each, COMPARED: _describe_row(each)} for each in table.rows()]
        title = f"{type(module).__name__.removesuffix('Module')}: generated images against {source}"
        compared = dict.fromkeys(each[COMPARED] for each in rows)
        caption = "\n".join([f"{title} trained on", *compared])
        picture = plot_curves(rows, PANELS, self.schedule, caption)
        save_picture(picture, folder / self.PLOT)
        logged = _logged(report, rows)
        for logger in trainer.loggers:
            if logged:
                by = {"extractor": report.extractor} if takes_texts(logger) else {}
                columns: dict[str, Any] = {**self.schedule.log_columns(shown), **by, **logged}
                logger.log_metrics(columns, step=shown)
            send_picture(logger, "fidelity", picture, shown)
        _log.info("fidelity at %g kimg, %s", shown / 1000, describe_report(report))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare many fakes with training and held-out images, and report the gap."""
        if not self._statistics:
            return
        statistics, module = self._statistics, as_gan(pl_module)
        count = len(statistics.data.split["test"])
        if count < 2:
            _log.warning(
                "fidelity is not measured: it needs at least two held-out images, got %d; set "
                "--data.test_fraction as in training",
                count,
            )
            return
        train, held_out = statistics.real("train"), statistics.real("test")
        fake = statistics.fake(self.num_test_fakes, "fidelity: generating and measuring")
        values: dict[str, float] = {}
        if trainer.is_global_zero:
            report = compare_held_out(statistics.evaluator, train, held_out, fake)
            values = {f"{name}_train": value for name, value in report.train.values.items()}
            values |= {f"{name}_held_out": value for name, value in report.held_out.values.items()}
            if report.gap is not None:
                names = "kid", "kid_p", "nearest_p"
                values |= {f"gap_{name}": getattr(report.gap, name) for name in names}
            kimg = module.images_shown / 1000
            content = {"kimg": kimg, "resolution": module.resolution, "seed": self.seed}
            content |= statistics.data.plan.position()
            name = f"fidelity-test-{kimg:g}.json"
            path = unused_file(Path(trainer.default_root_dir) / name)
            try:
                write_json(content | report.to_json(), path)
                _log.info("written: %s", path)
            finally:
                print_held_out(report, statistics.data.source)
        values = trainer.strategy.broadcast(values)
        pl_module.log_dict({name: values[name] for name in TESTED if name in values})


def _describe_row(row: Mapping[str, str]) -> str:
    """Extractor and numbers of images of a row of the table."""
    text = f"extractor {row['extractor']}, {row['n_fake']} fakes, {row['n_real']} reals"
    return f"{text}, {row['n_held_out']} held out" if row.get("n_held_out") else text


def _logged(report: FidelityReport, rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Values for loggers, which draw a curve of each name; empty without features.

    Values of an extractor that is not the run's first are named by it.
    """
    values = _without_pixel_metrics(report.values)
    if not values:
        return {}
    first = next(row["extractor"] for row in rows if row["extractor"] != "none")
    prefix = "" if report.extractor == first else f"{report.extractor}/"
    counts = {"n_real": report.n_real, "n_fake": report.n_fake}
    return {f"{prefix}{name}": value for name, value in {**counts, **values}.items()}


def _without_pixel_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Drop metrics of pixels, whose names in a log belong to the validation."""
    return {name: value for name, value in values.items() if not name.startswith(PIXEL_METRICS)}
