"""Notebooks and examples run, in a small form."""

from __future__ import annotations

import runpy
from pathlib import Path

import nbformat
import pytest
from helpers.processes import run_cells

pytestmark = pytest.mark.notebooks(seconds=13)

ROOT = Path(__file__).parents[2]
SMALL = {
    "grow_on_phantoms": 'run_dir = "run"\n'
    "hold_kimg = {8: 0.064, 16: 0.064}\nfade_kimg = 0.064\nnum_phantoms = 60",
    "few_images": 'run_dir = "run"\n'
    "hold_kimg = {8: 0.064, 16: 0.064}\nfade_kimg = 0.064\nnum_phantoms = 60\nrows = 2",
    "fid_on_small_sets": "grader_phantoms = 60\ngrader_epochs = 1\nsizes = (30, 60)\ndraws = 2",
    "your_own_images": "num_embryos = 18",
}
MESSAGES = {
    "your_own_images": (
        "fault layout",
        "note no-groups",
        "are identified by",
        "unknown grade '",
        "z1.png' points outside",
        "has grade 3BB",
        "fault unreadable",
        "listed as different embryos",
        "fault leak-embryo",
        "grade ND",
        "; 0 embryos in several parts",
        "sound: True",
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs_and_is_kept_with_its_pictures(name, tmp_path, monkeypatch):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    kept = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in kept)
    assert not any(output.output_type == "error" for output in kept)
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    tagged[0].source += "\n" + SMALL[name]
    monkeypatch.chdir(tmp_path)
    code, said = run_cells(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert code == 0, said
    for text in ("".join(output.get("text", "") for output in kept), said):
        assert [words for words in MESSAGES.get(name, ()) if words not in text] == []


def test_the_example_trains(tmp_path):
    example = runpy.run_path(str(ROOT / "examples/train_progan.py"))
    module = example["main"](run_dir=str(tmp_path / "run"), hold_kimg=0.128, num_phantoms=60)
    assert module.images_shown == 320
    assert list((tmp_path / "run/samples").glob("kimg-*.png"))
