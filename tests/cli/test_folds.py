"""``blastogan folds``: a table over the folds of a cross-validation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.command import blastogan

from blastogan.cli.folds import read_results, summarise
from blastogan.errors import ProblemList


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def result(run, fold, name="grade-test-1.json", folds=3, **content):
        Path(run).mkdir(exist_ok=True)
        given = {"folds": folds, "fold": fold, **content}
        Path(run, name).write_text(json.dumps(given))

    return result


def test_mean_and_spread_over_the_folds(write, capfd):
    for fold, kappa in enumerate((0.5, 0.7, 0.9)):
        write(f"cv-{fold}", fold, values={"kappa": kappa, "loss": float("nan")})
    assert blastogan("folds", "cv-2", "cv-0", "cv-1", "--json", "out.json") == 0
    found = json.loads(Path("out.json").read_text())
    assert found["folds"] == 3
    assert found["metrics"]["kappa"]["by_fold"] == [0.5, 0.7, 0.9]
    assert found["metrics"]["kappa"]["mean"] == pytest.approx(0.7)
    assert found["metrics"]["kappa"]["sd"] == pytest.approx(0.2)
    # not finite, so not measured
    assert "loss" not in found["metrics"]
    assert "0.7 ± 0.2" in capfd.readouterr().out


def test_fidelity_of_held_out_images_in_the_units_of_its_tables(write, capfd):
    for fold, kid in enumerate((0.01, 0.03)):
        name = "fidelity-test-2.json"
        write(f"g{fold}", fold, name, train={"kid": 9.0}, held_out={"kid": kid, "n_real": 4})
    assert summarise(read_results([Path("g0"), Path("g1")]))["kid"]["mean"] == pytest.approx(0.02)
    assert blastogan("folds", "g0", "g1") == 0
    assert "20 ± 14" in capfd.readouterr().out


def test_folds_measured_by_two_extractors_are_not_averaged(write, capfd):
    for run, by in (
        ("a", "inception-clean"),
        ("b", "efficientnet-lite0"),
        ("c", "inception-clean"),
    ):
        held_out = {"kid": 0.01, "extractor": by}
        write(run, "abc".index(run), "fidelity-test-2.json", held_out=held_out)
    with pytest.raises(ProblemList) as caught:
        read_results([Path("a"), Path("b")])
    assert "efficientnet-lite0" in caught.value.problems[0]
    assert blastogan("folds", "a", "c", "--json", "out.json") == 0
    assert json.loads(Path("out.json").read_text())["extractor"] == "inception-clean"
    assert "extractor inception-clean" in capfd.readouterr().out


def test_every_run_that_does_not_fit_is_named(write):
    write("a", 0, values={"kappa": 1.0})
    write("same", 0, values={"kappa": 1.0})
    write("other", 1, folds=5, values={"kappa": 1.0})
    write("no-fold", None, values={})
    Path("broken").mkdir()
    Path("broken/grade-test-1.json").write_text("[" * 100_000)
    Path("list").mkdir()
    Path("list/grade-test-1.json").write_text("[]")
    with pytest.raises(ProblemList) as caught:
        read_results(list(map(Path, ("a", "same", "other", "no-fold", "broken", "list", "gone"))))
    text = " ".join(caught.value.problems)
    assert len(caught.value.problems) == 7
    assert all(name in text for name in ("same", "other", "no-fold", "broken", "list", "gone"))
