"""A run that went wrong goes on from before, with other random numbers, so often and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.command import blastogan, read_table, same, weights

from blastogan.errors import DivergenceError, RollBack
from blastogan.runs.rollback import roll_back

pytestmark = pytest.mark.usefixtures("blank_plots")


def write(folder, name, shown, value=1.0, seed=7):
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "blastogan": {"images_shown": shown, "draw_seed": seed},
        "state_dict": {"weight": torch.full((2,), value)},
    }
    torch.save(content, folder / name)


@pytest.fixture
def run(tmp_path):
    """A run at 300 images, with what it kept on the way."""
    folder = tmp_path / "checkpoints"
    write(folder, "last.ckpt", 300)
    write(folder, "last-1.ckpt", 200)
    write(folder, "phase-00-hold-0008.ckpt", 100)
    write(folder, "best.ckpt", 250)
    return tmp_path


def error(at=310, good=200):
    return RollBack("mode collapse.", reason="mode collapse", at_images=at, good_images=good)


def last(run):
    return weights(run / "checkpoints/last.ckpt")["blastogan"]


def test_the_last_checkpoint_of_good_times_is_the_last_with_another_seed(run):
    roll_back(run, error(), limit=3)
    assert last(run)["images_shown"] == 200
    assert last(run)["draw_seed"] != 7
    aside = {path.name for path in (run / "checkpoints/rolled-back-1").iterdir()}
    assert aside == {"last.ckpt", "best.ckpt"}
    (row,) = read_table(run / "rollbacks.csv")
    assert row == {"kimg": "0.31", "to_kimg": "0.2", "reason": "mode collapse"}


def test_what_went_wrong_again_goes_back_further_and_at_last_ends(run):
    seeds = []
    for expected in (200, 100):
        roll_back(run, error(), limit=3)
        assert last(run)["images_shown"] == expected
        seeds.append(last(run)["draw_seed"])
    assert len({7, *seeds}) == 3
    with pytest.raises(DivergenceError, match="no checkpoint to roll back to"):
        roll_back(run, error(), limit=3)
    with pytest.raises(DivergenceError, match="was rolled back 2 times: it ends here"):
        roll_back(run, error(), limit=2)
    assert last(run)["images_shown"] == 100


def test_a_checkpoint_that_is_not_finite_or_damaged_is_no_place_to_go_back_to(run):
    write(run / "checkpoints", "last-1.ckpt", 200, value=float("nan"))
    write(run / "checkpoints", "last-2.ckpt", 150)
    (run / "checkpoints/last-2.ckpt").write_bytes(b"damaged")
    roll_back(run, error(), limit=3)
    assert last(run)["images_shown"] == 100


FAULTY = (
    "trainer: {callbacks: [{class_path: command.NaNAt, "
    "init_args: {images: 88, times: TIMES}}]}\n"
    "watch: {on_nan: roll_back}\n"
)


@pytest.mark.slow
def test_a_run_with_a_nan_goes_on_by_itself(trained, caplog):
    Path("nan.yaml").write_text(FAULTY.replace("TIMES", "1"))
    assert blastogan("fit", "--config", "tiny.yaml", "--config", "nan.yaml") == 0
    run = Path("runs/nan")
    (row,) = read_table(run / "rollbacks.csv")
    assert row == {"kimg": "0.096", "to_kimg": "0.064", "reason": "NaN"}
    assert "Rolled back from 0.096 to 0.064 kimg" in caplog.text
    # each row once, though some steps were taken twice
    kimg = [row["kimg"] for row in read_table(run / "metrics.csv") if row["swd"]]
    assert kimg == ["0.032", "0.064", "0.096", "0.128", "0.16", "0.192"]
    mine, whole = weights(run / "checkpoints/last.ckpt"), weights("runs/tiny/checkpoints/last.ckpt")
    assert mine["blastogan"]["images_shown"] == whole["blastogan"]["images_shown"]
    assert mine["blastogan"]["draw_seed"] != whole["blastogan"]["draw_seed"]
    assert not same(mine["state_dict"], whole["state_dict"])
    # until where it went back, it is the same run
    early = [weights(r / "checkpoints/phase-00-hold-0008.ckpt") for r in (run, Path("runs/tiny"))]
    assert same(early[0]["state_dict"], early[1]["state_dict"])


@pytest.mark.slow
def test_a_run_that_goes_wrong_again_and_again_ends(here, capfd):
    Path("nan.yaml").write_text(FAULTY.replace("TIMES", "9"))
    assert blastogan("fit", "--config", "tiny.yaml", "--config", "nan.yaml") == 1
    said = capfd.readouterr().err
    assert "There is no checkpoint to roll back to" in said
    assert "Traceback" not in said
    assert len(read_table(Path("runs/nan/rollbacks.csv"))) == 2
    assert Path("runs/nan/checkpoints/last.ckpt").exists()
