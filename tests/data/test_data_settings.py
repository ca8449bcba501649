"""Settings of the data module, each seen to reach the images that training gets."""

from __future__ import annotations

import csv
import inspect
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import command
from jsonargparse import ArgumentParser
from PIL import Image

from blastogan import BlastocystDataModule
from blastogan.data import Crop, GradeDataModule, find_leaks, write_split_file
from blastogan.data.images.decoding import load_image
from blastogan.errors import ProblemList, UserError
from blastogan.phantoms import PhantomDataset


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


def test_a_cache_gives_the_images_that_decoding_gives(make, tmp_path):
    cache = str(tmp_path / "cache")
    plain, writing, reading = make(), make(cache_dir=cache), make(cache_dir=cache)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    for stored in (writing, reading):
        assert same(plain, stored)
        assert torch.equal(plain.images("val"), stored.images("val"))


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
    assert data.class_distribution()["BB"] == 0.5
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


def test_faulty_images_count_neither_for_the_split_nor_for_rare_classes(make, table, caplog):
    # of the two images of CC, of one embryo, one cannot be decoded
    (table / "17_0.png").write_bytes(b"text")
    data = make(faults="skip", min_class_images=2)
    assert "fewer than 2 images: CC 1" in caplog.text
    assert data.class_counts()["CC"] == 1
    assert make(faults="skip", min_class_images=2, rare_classes="drop").class_counts()["CC"] == 0


def test_a_few_sound_images_among_faulty_ones_are_split(make, table):
    for path in sorted(table.glob("*.png"))[6:]:
        path.write_bytes(b"")
    data = make(faults="skip", val_fraction=0.3, test_fraction=0.3)
    assert [len(data.split[part]) for part in ("train", "val", "test")] == [2, 2, 2]
    assert data.images("test").shape == (2, 1, 16, 16)


def test_a_split_file_may_name_what_is_left_out_now(make, table, tmp_path, caplog):
    first = make()
    path = tmp_path / "split.csv"
    write_split_file(path, first.records, first.split, table)
    fewer = make(split_file=str(path), rare_classes="drop")
    assert sum(map(len, fewer.split.values())) == 34
    assert f"2 images that the split file {path} names are left out" in caplog.text
    (table / "03_1.png").unlink()
    with pytest.raises(ProblemList, match=r"03_1\.png"):
        make(split_file=str(path))
    skipped = make(split_file=str(path), faults="skip")
    assert sum(map(len, skipped.split.values())) == 35
    (table / "labels.csv").write_text("picture,score\n00_0.png,AA\n")
    with pytest.raises(ProblemList, match="names images that are not in the set"):
        make(split_file=str(path))


@pytest.mark.parametrize("leaks", ["report", "drop"])
def test_copies_that_a_split_tears_apart(make, table, caplog, leaks):
    names = {part: [] for part in ("train", "val", "test")}
    data = make()
    for part, positions in data.split.items():
        names[part] = [data.records[n].path.name for n in positions]
    for copy, original in (
        (names["val"][0], names["train"][0]),
        (names["test"][0], names["train"][1]),
        (names["test"][1], names["val"][1]),
    ):
        shutil.copy(table / original, table / copy)
    caplog.clear()
    data = make(leaks=leaks)
    assert "3 images in train or val are exact copies" in caplog.text
    now = {
        part: [data.records[n].path.name for n in positions]
        for part, positions in data.split.items()
    }
    if leaks == "drop":
        names["train"], names["val"] = names["train"][2:], [names["val"][0], *names["val"][2:]]
    assert now == names


def test_a_set_with_unknown_embryos_is_reported(make, caplog):
    caplog.set_level("INFO", "blastogan")
    make(embryo_pattern=None)
    assert "unknown which images show the same embryo" in caplog.text
    assert "embryos" not in "".join(line for line in caplog.messages if line.startswith("train: "))
    caplog.clear()
    make()
    assert "unknown which" not in caplog.text
    assert " of 18 embryos" in caplog.text


def test_the_crop_reaches_the_images(make, table):
    phantoms = PhantomDataset(18, "balanced", resolution=96, framing="well")
    for path in table.glob("*.png"):
        Image.fromarray(phantoms.picture(int(path.name[:2]))).save(path)
    settings = {"crop": "embryo", "crop_margin": 0.4}
    shown = make(**settings)
    assert not torch.equal(shown.images("val"), make().images("val"))
    closer = make(**{**settings, "crop_margin": 0.0})
    assert not torch.equal(shown.images("val"), closer.images("val"))
    with pytest.raises(UserError, match="crop is "):
        closer.load_state_dict(shown.state_dict())
    path = shown.records[shown.split["val"][0]].path
    assert np.array_equal(shown.images("val")[0], load_image(path, 16, 1, Crop("embryo", 0.4)))


def test_the_reading_reaches_the_reader(make, table):
    (table / "other.csv").write_text("image,grade\n00_0.png,ND\n01_0.png,CC\n02_0.png,CC\n")
    (table / "third.csv").write_text("image,grade\n00_0.png,AA\n")
    plain = {"columns": None, "table": "other.csv", "val_fraction": 0, "test_fraction": 0}
    assert make(**plain).class_counts()["DD"] == 0
    assert make(**plain, not_gradable="DD").class_counts()["DD"] == 1
    with pytest.raises(UserError, match="but the format is folders"):
        make(format="folders")


def test_the_seed_reaches_the_pipeline(make):
    pipeline = [{"class_path": "RandomBrightnessContrast", "init_args": {"p": 1.0}}]
    grey = torch.full((1, 16, 16), 128, dtype=torch.uint8)
    seeds = (0, 0, 1)
    first, same, other = (
        make(augment=pipeline, seed=seed)._augmentation[1](grey, 5) for seed in seeds
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_each_device_gets_its_share(make):
    class Trainer:
        world_size = 2
        lightning_module = None

        def __init__(self, rank):
            self.global_rank = rank

    whole = make(predict_count=7)
    shares = [make(predict_count=7) for _ in range(2)]
    for rank, data in enumerate(shares):
        data.trainer = Trainer(rank)
    for loader in ("train_dataloader", "predict_dataloader"):
        index = [torch.cat([b["index"] for b in getattr(d, loader)()]) for d in (whole, *shares)]
        assert len(index[1]) == -(-len(index[0]) // 2)
        if loader == "predict_dataloader":
            assert torch.equal(torch.cat(index[1:]).sort().values, index[0])
        else:
            assert not torch.equal(index[1], index[2])
            assert torch.equal(torch.cat(index[1:]).sort().values, index[0].sort().values)


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


def test_phantoms_are_not_cropped(make_data):
    assert make_data(crop="embryo").state_dict()["crop"] == Crop().key()


def test_settings_of_phantoms_reach_them(make_data):
    settings = {"counts": "AA:20,BB:16,DD:24", "style": "dic", "framing": "well"}
    options = {f"phantom_{name}": value for name, value in settings.items()}
    data = make_data(num_phantoms=None, val_fraction=0, test_fraction=0, **options)
    data.setup("fit")
    counts = {name: number for name, number in data.class_counts().items() if number}
    assert counts == {"AA": 20, "BB": 16, "DD": 24}
    phantoms = PhantomDataset(resolution=16, **settings)
    for n in (0, 59):
        assert np.array_equal(data.images("train")[n, 0], phantoms.picture(n))
    with pytest.raises(UserError, match="look is dic, well in the checkpoint and hoffman, embryo"):
        make_data().load_state_dict(data.state_dict())


def test_wrong_settings_of_phantoms_are_refused_before_they_are_drawn(make_data):
    with pytest.raises(ProblemList) as caught:
        make_data(num_phantoms=5, phantom_counts="AA:6", phantom_style="phase")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
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


@pytest.mark.parametrize("kind", [BlastocystDataModule, GradeDataModule])
def test_the_help_describes_every_setting(kind):
    parser = ArgumentParser()
    parser.add_class_arguments(kind, "data")
    text = " ".join(parser.format_help().split())
    names = inspect.signature(BlastocystDataModule).parameters.keys() - {"schedule"}
    assert [name for name in names if f"--data.{name} " not in text] == []
    assert "{by-embryo,published} ``by-embryo`` for a new split" in text
    assert "Margin around the embryo, in units of its radius" in text


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


def test_images_left_out_by_hand_count_nowhere(make, table, tmp_path, caplog):
    whole = make()
    write_split_file(tmp_path / "split.csv", whole.records, whole.split, table)
    (tmp_path / "out.csv").write_text("image,why\n00_0.png,blurred\n05_1.png,\n")
    data = make(exclude=str(tmp_path / "out.csv"), split_file=str(tmp_path / "split.csv"))
    assert len(data.records) == 34
    assert "excluded by hand 2" in caplog.text
    assert data.state_dict()["fingerprint"] != whole.state_dict()["fingerprint"]
    assert sum(len(part) for part in data.split.values()) == 34
    kept = make(exclude=str(tmp_path / "out.csv"))
    labels = (table / "labels.csv").read_text().splitlines()
    rest = [line for line in labels if not line.startswith(("00_0.png", "05_1.png"))]
    (table / "labels.csv").write_text("\n".join(rest))
    assert make(ungraded="drop").state_dict() == kept.state_dict()
