"""A run that has been trained, or is being trained: its generator, samples and metrics."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blastogan.api.table import MetricsTable
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.metrics.specs import PIXEL_METRICS, SPECS
from blastogan.runs.folder import LOG, checkpoints_in, is_run, newest_config
from blastogan.runs.table import RunTable
from blastogan.utils.curves import Panel, draw_curves
from blastogan.utils.files import user_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

    from blastogan.modules import BaseGANModule

LOSSES = (Panel("loss_d", "loss of the discriminator"), Panel("loss_g", "loss of the generator"))

PANELS = {
    **{
        spec.name: Panel(
            spec.name,
            # the log has those to the validation images
            f"{spec.title}, held out" if spec.name in PIXEL_METRICS else spec.title,
            *(spec.scale, spec.reference, spec.reference_title, spec.logarithmic),
        )
        for spec in SPECS
        if spec.in_plot
    },
    **{panel.name: panel for panel in LOSSES},
}
"""What `Run.plot` shows, by column."""

OF_FEATURES = {spec.name for spec in SPECS if spec.needs != "pixels"}
"""Columns whose values depend on the extractor."""

FIRST_COLUMNS = ("kimg", "resolution", "alpha", *PANELS, "extractor", "n_fake", "n_real")
"""Columns in front of all others."""


class Run:
    """A run in its folder, finished or not; everything is read when it is asked for.

    Args:
        folder: Folder of a run of the command line, of `train` or of a script.

    Raises:
        UserError: If no run was started there.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(user_path(str(folder)))
        if not is_run(self.folder):
            raise UserError(
                f"no run in {self.folder}: expected a folder with config.yaml and checkpoints, "
                "such as runs/demo"
            )
        self._loaded: tuple[tuple[Path, int], BaseGANModule] | None = None

    def __repr__(self) -> str:
        position, total = 0.0, ""
        with suppress(UserError):
            position = max((row["kimg"] for row in self.metrics), default=0.0)
        with suppress(UserError):
            total = f" of {self.schedule.total_images / 1000:g}"
        return f"Run({str(self.folder)!r}, {position:g}{total} kimg)"

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint.

        Raises:
            UserError: If there is none yet.
        """
        found = checkpoints_in(self.folder / "checkpoints")
        if not found:
            raise UserError(f"{self.folder} has no checkpoint yet: a run saves one at each tick")
        return found[0]

    @property
    def generator(self) -> BaseGANModule:
        """The averaged generator of `checkpoint`: ``run.generator.generate(16, grade="AB")``.

        Raises:
            UserError: If there is no checkpoint yet, or if it is damaged.
        """
        from blastogan.modules import load_module

        path = self.checkpoint
        state = path, path.stat().st_mtime_ns
        if self._loaded is None or self._loaded[0] != state:
            self._loaded = state, load_module(str(path))
        return self._loaded[1]

    @property
    def schedule(self) -> GrowthSchedule:
        """The growth schedule, by the configuration or, in the run of a script, a checkpoint.

        Raises:
            UserError: If the folder holds neither, or is not that of a GAN.
        """
        if (path := newest_config(self.folder)) is None:
            callbacks = self._content().get("callbacks", {})
            found = callbacks.get("ProgressiveGrowing", {}).get("schedule")
        else:
            import yaml

            from blastogan.cli.yaml_text import read_yaml

            settings = yaml.safe_load(read_yaml(path))
            found = settings.get("schedule") if isinstance(settings, dict) else None
        if not isinstance(found, dict):
            raise UserError(f"{self.folder} has no growth schedule: expected the run of a GAN")
        return GrowthSchedule.from_dict(found)

    @property
    def finished(self) -> bool:
        """Whether the latest checkpoint is at the end of the schedule, and evaluated.

        Raises:
            UserError: As for `schedule`, or if the checkpoint is damaged.
        """
        from blastogan.callbacks.checkpoints import owes_evaluation

        if not checkpoints_in(self.folder / "checkpoints"):
            return False
        content, schedule = self._content(), self.schedule
        shown = content["blastogan"]["images_shown"]
        return shown >= schedule.total_images and not owes_evaluation(content, schedule)

    def _content(self) -> dict[str, Any]:
        from blastogan.runs.checkpoint_files import read_checkpoint

        return read_checkpoint(self.checkpoint)

    @property
    def metrics(self) -> MetricsTable:
        """Losses, metrics to the validation images, and FID, KID and the like, by kimg.

        The last ones are to the images trained on, by the features of ``extractor``, of ``n_fake``
        generated and ``n_real`` real images.

        Raises:
            UserError: If a table of the run is damaged.
        """
        rows: dict[float, dict[str, Any]] = {}
        for row in (*self._rows(LOG), *self._features()):
            rows.setdefault(row["kimg"], {}).update(row)
        table = MetricsTable(rows[kimg] for kimg in sorted(rows))
        names = dict.fromkeys((*FIRST_COLUMNS, *table.columns))
        return MetricsTable({n: row[n] for n in names if n in row} for row in table)

    def _features(self) -> Iterator[dict[str, Any]]:
        """Evaluations by features; their metrics of pixels have the names of the validation's."""
        for row in self._rows("fidelity.csv"):
            if row.get("extractor") != "none":
                yield {n: v for n, v in row.items() if not n.startswith(PIXEL_METRICS)}

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        try:
            rows = RunTable(path).rows()
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} is damaged: {error}") from error
        for row in rows:
            found = {column: _number(text) for column, text in row.items() if text}
            if isinstance(found.get("kimg"), (int, float)):
                yield {**found, "kimg": float(found["kimg"])}

    def samples(self) -> Image.Image:
        """The latest sheet of samples: a column for each class, a row for each latent.

        Raises:
            UserError: If there is none yet, or if it is damaged.
        """
        from PIL import Image

        sheets = sorted((self.folder / "samples").glob("kimg-*.png"))
        if not sheets:
            raise UserError(f"{self.folder} has no sheet of samples yet: one is made at each tick")
        try:
            with Image.open(sheets[-1], formats=["PNG"]) as sheet:
                picture: Image.Image = sheet.convert("RGB")
        # a damaged file fails in many ways
        except Exception as error:
            raise UserError(f"{sheets[-1]} cannot be read: {error}") from error
        return picture

    def plot(self, *names: str) -> Figure:
        """Metrics against kimg, with the stages of growth marked.

        A notebook shows the figure; ``figure.savefig(path)`` writes it.

        Args:
            *names: Columns of `metrics`; by default losses and all metrics that were measured.

        Raises:
            UserError: If a column is unknown, or nothing was logged yet.
        """
        from blastogan.api.figure import ShownFigure

        table = self.metrics
        for name in names:
            table.column(name)
        if not table:
            raise UserError(f"{self.folder} has no metrics yet")
        panels = [PANELS.get(name) or Panel(name, name) for name in names or PANELS]
        caption = f"{self.folder}: generated images"
        # values of other features cannot be compared
        if last := next((row for row in reversed(table) if "extractor" in row), None):
            caption += f"; extractor {last['extractor']}, {last['n_fake']} fakes"
            table = MetricsTable(_of_extractor(row, last["extractor"]) for row in table)
        figure = ShownFigure()
        draw_curves(figure, table, panels, self.schedule, caption)
        return figure


def _of_extractor(row: dict[str, Any], extractor: str) -> dict[str, Any]:
    """A row without metrics by other features."""
    if row.get("extractor", extractor) == extractor:
        return row
    return {name: value for name, value in row.items() if name not in OF_FEATURES}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def open_run(folder: str | PathLike[str]) -> Run:
    """Open the folder of a run, which may be finished or still training; see `Run`."""
    return Run(folder)
