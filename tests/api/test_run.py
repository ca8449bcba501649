from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image

from blastogan import Run, open_run, to_pil
from blastogan.api import MetricsTable
from blastogan.callbacks import FidelityCallback
from blastogan.errors import UserError
from blastogan.runs.loggers import CSVLog

CONFIG = """
schedule: {start_resolution: 8, final_resolution: 16, fade_kimg: 4, hold_kimg: {'8': 4, '16': 8},
           tick_kimg: 4}
"""


def write(path, *rows):
    columns = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def run(tmp_path):
    """The folder of a run at 8 of 16 kimg, whose extractor was changed after the first tick."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    write(
        tmp_path / CSVLog.FILE,
        {"kimg": 4.0, "resolution": 8, "loss_d": 1.0, "loss_g": 0.7},
        {"kimg": 4.0, "resolution": 8, "swd": 50.0},
        {"kimg": 8.0, "resolution": 16, "swd": 40.0, "fid": 9.0},
    )
    found = {"extractor": "b", "n_fake": 10, "n_real": 20, "swd": 1.0, "swd_std": 0.1}
    write(
        tmp_path / FidelityCallback.TABLE,
        {**found, "kimg": 4.0, "fid": 2.0, "extractor": "a"},
        {**found, "kimg": 8.0, "fid": 9.0},
    )
    (tmp_path / "samples").mkdir()
    for kimg in (4, 8):
        picture = Image.new("RGB", (kimg, kimg))
        picture.save(tmp_path / f"samples/kimg-{kimg:09.3f}-0016.png")
    return open_run(tmp_path)


def test_metrics_of_one_moment_are_one_row_and_those_of_the_validation_win(run):
    assert [dict(row) for row in run.metrics] == [
        {
            **{"kimg": 4.0, "resolution": 8, "fid": 2.0, "swd": 50.0, "loss_d": 1.0, "loss_g": 0.7},
            **{"extractor": "a", "n_fake": 10, "n_real": 20},
        },
        {
            **{"kimg": 8.0, "resolution": 16, "fid": 9.0, "swd": 40.0},
            **{"extractor": "b", "n_fake": 10, "n_real": 20},
        },
    ]
    assert run.metrics.column("loss_d") == {4.0: 1.0}
    with pytest.raises(UserError, match="mean loss_g"):
        run.metrics.column("loss_f")


def test_a_plot_has_a_panel_for_each_metric_and_values_of_one_extractor(run):
    figure = run.plot()
    assert "extractor b" in figure.get_suptitle()
    points = {axes.get_title(): len(axes.lines[0].get_xdata()) for axes in figure.axes}
    assert points.pop("FID") == 1
    assert points.pop("SWD x 1000, held out") == 2
    assert len(points) == 2  # the losses
    assert len(run.plot("loss_g").axes) == 1
    assert figure._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(UserError, match="loss_f"):
        run.plot("loss_f")


def test_a_run_says_where_it_is_and_shows_its_latest_sheet(run):
    assert repr(run) == f"Run({str(run.folder)!r}, 8 of 16 kimg)"
    assert run.schedule.hold_kimg == {8: 4, 16: 8}
    assert run.samples().size == (8, 8)
    assert not run.finished


def test_what_a_run_does_not_have_yet_is_one_message(tmp_path):
    with pytest.raises(UserError, match="no run"):
        open_run(tmp_path)
    (tmp_path / "config.yaml").write_text("data: {}")
    run = Run(tmp_path)
    assert repr(run) == f"Run({str(tmp_path)!r}, 0 kimg)"
    assert run.metrics == []
    for what in (lambda: run.checkpoint, lambda: run.generator, run.samples, run.plot):
        with pytest.raises(UserError, match=r"has no .* yet"):
            what()
    with pytest.raises(UserError, match="schedule"):
        _ = run.schedule


@pytest.mark.parametrize(
    ("path", "content", "read"),
    [
        ("config.yaml", b"schedule: {hold_kimg: {x: 1}}", lambda run: run.schedule),
        ("config.yaml", b"schedule: {layers: 1}", lambda run: run.schedule),
        ("config.yaml", b"[", lambda run: run.schedule),
        ("metrics.csv", b"kimg,\xff\n1,2\n", lambda run: run.metrics),
        ("checkpoints/last.ckpt", b"", lambda run: run.generator),
        ("samples/kimg-00009.000-0016.png", b"GIF89a", Run.samples),
    ],
)
def test_damaged_files_are_errors_of_the_user(run, path, content, read):
    path = Path(run.folder / path)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    assert repr(run).startswith("Run(")
    with pytest.raises(UserError):
        read(run)


def test_a_long_table_shows_its_ends_and_names_what_does_not_fit():
    names = [f"quantity_{n}" for n in range(20)]
    table = MetricsTable({"kimg": float(n), **dict.fromkeys(names, 0.123456)} for n in range(50))
    *lines, hidden, count = repr(table).splitlines()
    assert len(lines) == 12
    assert max(map(len, lines)) <= 100
    assert names[-1] in hidden
    assert names[-1] not in lines[0]
    assert count == "50 rows"
    html = MetricsTable([{"kimg": 1.0, "<b>": 2.0}])._repr_html_()
    assert "&lt;b&gt;" in html


def test_generated_images_become_pictures():
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    (first, _) = to_pil(images)
    assert first.getpixel((1, 0)) == (1, 5, 9)
    assert to_pil(images[:, :1])[1].getpixel((0, 1)) == 14
    for wrong in (images[0], images.float(), images[:, :2]):
        with pytest.raises(UserError, match="N, C, H, W"):
            to_pil(wrong)
