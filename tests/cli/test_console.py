"""Files are written first; a console that fails loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import blastogan

from blastogan import PhantomDataset
from blastogan.data.phantom_folder import write_phantoms
from blastogan.utils.terminal import show_tables, track


@pytest.fixture
def consoles(monkeypatch):
    """Consoles that fail: a closed pipe, a full disk, and one without the sign of a deviation."""
    opened = []

    def open_console(kind):
        reading, writing = os.pipe()
        os.close(reading)
        if kind == "full disk":
            os.close(writing)
            writing = os.open("/dev/full", os.O_WRONLY)
        stream = os.fdopen(writing, "w", encoding="utf-8")
        opened.append(stream)
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    yield open_console
    for stream in opened:
        stream.close()


@pytest.mark.parametrize("kind", ["closed pipe", "full disk"])
def test_tools_end_well_and_leave_their_files(kind, consoles, here):
    write_phantoms(Path("set"), PhantomDataset(12, resolution=32), 0, track)
    consoles(kind)
    commands = [
        [
            "evaluate",
            "set",
            "set",
            "--extractor=none",
            "--no-cache",
            "--workers=0",
            "--json=e.json",
        ],
        ["audit", "set", "--labels-only", "--json=a.json", "--figure=a.png"],
        ["recipe", "--images=500", "--resolution=64"],
    ]
    assert [blastogan(*command) for command in commands] == [0, 0, 0]
    assert all(Path(name).stat().st_size for name in ("e.json", "a.json", "a.png"))


def test_signs_that_a_console_lacks_are_replaced(capfd, monkeypatch):
    stream = os.fdopen(os.dup(1), "w", encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    show_tables("\u00e9", [(("metric", "value"), [("FID", "3.1 \u00b1 0.2")])], [])
    stream.close()
    output = capfd.readouterr().out
    assert "3.1 +- 0.2" in output
    assert "\\xe9" in output


def test_the_backend_of_a_notebook_is_left_out(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://not_installed_here.backend")
    assert blastogan("recipe", "--images=500", "--resolution=64") == 0
    code = "import matplotlib; print(matplotlib.get_backend())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).lower() == "agg\n"
