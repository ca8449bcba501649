"""Settings of the data module, each seen to reach the images that training gets."""

from __future__ import annotations

import csv
from collections import Counter

import command
import numpy as np
import pytest
import torch
from PIL import Image

from blastogan import BlastocystDataModule
from blastogan.data.splits import find_leaks
from blastogan.errors import ProblemList, UserError


@pytest.fixture
def table(tmp_path):
    """A set of 36 images of 18 embryos with a column of its own for everything."""
    root = tmp_path / "set"
    root.mkdir()
    rows = []
    noise = np.random.default_rng(0)
    for n in range(36):
        name = f"{n // 2:02}_{n % 2}.png"
        Image.fromarray(noise.integers(0, 256, (20, 24), dtype=np.uint8)).save(root / name)
        grade = "AA" if n < 24 else "BB" if n < 34 else "CC"
        rows.append((name, grade, "test" if n in (0, 20, 35) else "train"))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("picture", "score", "split"), *rows])
    return root


OWN = {"columns": "image=picture,grade=score", "embryo_pattern": r"^(\d+)_"}


@pytest.fixture
def make(schedule, table):
    def make(stage="fit", **settings):
        data = BlastocystDataModule(schedule, root=str(table), **{**OWN, **settings})
        data.setup(stage)
        return data

    return make


def stream(data):
    return list(data.train_dataloader())


def same(first, second):
    return all(
        torch.equal(a[key], b[key])
        for a, b in zip(stream(first), stream(second), strict=True)
        for key in ("image", "labels", "index")
    )


def test_own_columns_and_embryos_by_pattern(make):
    data = make()
    assert len({record.embryo for record in data.records}) == 18
    assert find_leaks(data.records, data.split) == []


def test_a_store_gives_the_images_that_memory_gives(make, tmp_path):
    plain, stored = make(), make(cache_dir=str(tmp_path / "store"))
    assert len(list((tmp_path / "store").glob("images-*/manifest.json"))) == 1
    assert same(plain, stored)
    assert torch.equal(plain.images("val"), stored.images("val"))


@pytest.mark.parametrize("augment", ["none", "dihedral"])
def test_resident_images_are_those_of_the_host(make, augment):
    host, device = make(augment=augment), make(augment=augment, residence="device")
    loader = device.train_dataloader()
    cpu = torch.device("cpu")
    gathered = [device.transfer_batch_to_device(batch, cpu, 0) for batch in loader]
    for mine, theirs in zip(stream(host), gathered, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_an_own_pipeline_changes_images_and_comes_again_the_same(make):
    pipeline = [{"class_path": "albumentations.InvertImg", "init_args": {"p": 1.0}}]
    inverted = stream(make(augment=pipeline))
    for plain, changed in zip(stream(make()), inverted, strict=True):
        assert torch.equal(255 - plain["image"], changed["image"])
    noisy = [{"class_path": "RandomBrightnessContrast", "init_args": {"p": 0.9}}]
    assert same(make(augment=noisy), make(augment=noisy, num_workers=2))


def test_a_published_split_with_and_without_its_leaks(make):
    data = make(split="published", val_fraction=0)
    assert [len(data.split[part]) for part in ("train", "val", "test")] == [33, 0, 3]
    assert {leak.embryo for leak in find_leaks(data.records, data.split)} == {"00", "10", "17"}
    dropped = make(split="published", val_fraction=0, leaks="drop")
    assert [len(dropped.split[part]) for part in ("train", "val", "test")] == [30, 0, 3]


def test_balance_reaches_the_batches_and_the_weights_of_a_classifier(make):
    data = make(balance="uniform", val_fraction=0, test_fraction=0, rare_classes="merge")
    # two images of CC are merged into BB
    counts = {name: count for name, count in data.class_counts().items() if count}
    assert counts == {"AA": 24, "BB": 12}
    assert data.sampling_law()["BB"] == 0.5
    weights = data.sampling_weights()
    assert weights.mean() == pytest.approx(1)
    assert weights.unique().tolist() == pytest.approx([0.75, 1.5])
    shown = Counter(int(label) for batch in stream(data) for label in batch["labels"][:, 0])
    assert abs(shown[0] - shown[1]) <= 8


def test_rare_classes_are_named(make, caplog):
    make()
    assert "CC 2" in caplog.text
    assert make(rare_classes="drop").class_counts()["CC"] == 0


def test_faulty_rows_and_files_are_listed_together_or_skipped(make, table, caplog):
    (table / "07_0.png").write_bytes(b"text")
    with (table / "labels.csv").open("a") as file:
        file.write("absent.png,AA,train\n")
    with pytest.raises(ProblemList) as caught:
        make()
    assert len(caught.value.problems) == 2
    assert "labels.csv line 38" in caught.value.problems[0]
    assert "07_0.png" in caught.value.problems[1]
    with pytest.raises(ProblemList):
        make(stage="predict")
    data = make(faults="skip")
    used = [data.records[n].path.name for part in data.split.values() for n in part]
    assert "07_0.png" not in used
    assert len(used) == 35
    assert "skipped, 2 faulty images or rows" in caplog.text
    assert len(stream(data)) == 4


def test_a_set_without_a_sound_image(make, table):
    for path in table.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no image of .* can be used"):
        make(faults="skip")


def test_the_crop_and_the_balance_are_part_of_what_a_run_was_trained_on(make):
    saved = make().state_dict()
    old = {key: value for key, value in saved.items() if key not in ("balance", "crop")}
    make().load_state_dict(old)
    with pytest.raises(UserError, match="balance is none in the checkpoint and sqrt here"):
        make(balance="sqrt").load_state_dict(saved)
    with pytest.raises(UserError, match="crop is centre"):
        make(crop="embryo").load_state_dict(saved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"residence": "cloud"}, "residence is 'cloud'"),
        ({"residence": "device", "augment": "grade-preserving"}, "run on the host"),
        ({"faults": "ignore"}, "faults is 'ignore'"),
        ({"balance": "even"}, "balance is 'even'"),
        ({"rare_classes": "hide"}, "rare_classes is 'hide'"),
        ({"crop": "face"}, "face"),
        ({"columns": "picture"}, "expected each role once"),
        ({"augment": [{"class_path": "os.system"}]}, "augment"),
    ],
)
def test_wrong_settings_are_refused(make, settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)


@pytest.mark.slow
def test_a_run_leaves_its_split_which_can_be_given_back(here, table):
    own = ["--data.root", table, "--data.columns", OWN["columns"]]
    own += ["--data.embryo_pattern", OWN["embryo_pattern"], "--data.balance", "sqrt"]
    base = ["fit", "--config", "tiny.yaml", "--samples.rows", 1, *own]
    assert command.blastogan(*base, "--run_dir", "first") == 0
    split = here / "first/split.csv"
    rows = command.read_table(split)
    assert len(rows) == 36
    assert {row["part"] for row in rows} == {"train", "val", "test"}
    other = ["--run_dir", "second", "--data.split_file", split, "--data.val_fraction", 0.4]
    assert command.blastogan(*base, *other) == 0
    assert (here / "second/split.csv").read_bytes() == split.read_bytes()
