from __future__ import annotations

import pytest
import torch
from PIL import Image

from blastogan import BlastocystDataModule, GrowthSchedule
from blastogan.data import find_leaks
from blastogan.errors import ProblemList, UserError
from blastogan.grades import CLASSES, Grade
from blastogan.phantoms import PhantomDataset


@pytest.fixture
def phantoms(make_data):
    data = make_data()
    data.setup("fit")
    return data


@pytest.fixture
def tree(tmp_path):
    for name, count in (("AA", 12), ("BB", 8)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for n in range(count):
            level = CLASSES.index(name) * 20 + n
            Image.new("L", (40, 24), level).save(tmp_path / "set" / name / f"{n}.png")
    return tmp_path / "set"


def test_phantoms_are_those_of_the_seed(phantoms):
    drawn = PhantomDataset(60, "balanced", resolution=16)
    for part in ("train", "val", "test"):
        for place, n in list(enumerate(phantoms.split[part]))[:3]:
            assert torch.equal(phantoms.images(part)[place], drawn[n]["image"])
            assert torch.equal(phantoms.labels(part)[place], drawn[n]["labels"])


def test_no_embryo_of_phantoms_is_in_two_parts(make_data):
    data = make_data(num_phantoms=120, phantom_counts="study")
    data.setup("fit")
    assert all(data.split.values())
    assert find_leaks(data.records, data.split) == []
    assert 20 < len({record.embryo for record in data.records}) < 80


def test_parts_share_no_image_and_cover_all(phantoms):
    parts = [set(phantoms.split[part]) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == 60
    assert set().union(*parts) == set(range(60))
    assert all(parts)


def test_real_images_are_squares_at_every_resolution(schedule, tree):
    data = BlastocystDataModule(schedule, root=str(tree), img_channels=3)
    data.setup("fit")
    assert data.images("train").shape[1:] == (3, 16, 16)
    assert data.class_counts("train") == {n: {"AA": 10, "BB": 6}.get(n, 0) for n in CLASSES}
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 8, 8)
    for image, labels, index in zip(
        batch["image"], batch["labels"].tolist(), batch["index"], strict=True
    ):
        record = data.records[data.split["train"][index]]
        assert record.grade == Grade.from_labels(*labels)
        level = CLASSES.index(record.grade.name) * 20 + int(record.path.stem)
        assert image.unique().tolist() == [level]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_stream_of_the_tick(workers, make_data, schedule):
    data = make_data(num_workers=workers, augment="dihedral")
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [len(batch["index"]) for batch in batches] == [8] * 4
    plain = make_data()
    plain.setup("fit")
    order = [n for batch in plain.train_dataloader() for n in batch["index"].tolist()]
    assert [n for batch in batches for n in batch["index"].tolist()] == order


def test_evaluation_batches_come_in_order_at_the_final_resolution(phantoms):
    batches = list(phantoms.val_dataloader())
    images = torch.cat([batch["image"] for batch in batches])
    assert torch.equal(images, phantoms.images("val"))
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(len(images)))


def test_requests_follow_the_grades_asked_for(make_data):
    data = make_data(predict_grades="AA:3,CC:2", predict_count=5, predict_seed=7)
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert batch["labels"].tolist() == [[0, 0]] * 3 + [[2, 2]] * 2
    assert batch["index"].tolist() == [0, 1, 2, 3, 4]
    assert batch["seed"].tolist() == [7] * 5


def test_loading_leaves_the_global_random_state_alone(make_data):
    state = torch.get_rng_state()
    data = make_data(num_workers=2)
    data.setup("fit")
    next(iter(data.train_dataloader()))
    next(iter(data.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), state)


def test_all_broken_images_are_named_at_once(schedule, tree):
    (tree / "AA/x.png").write_text("text")
    (tree / "BB/y.png").write_bytes(b"")
    with pytest.raises(ProblemList) as caught:
        BlastocystDataModule(schedule, root=str(tree)).setup("fit")
    assert len(caught.value.problems) == 2
    assert "x.png" in str(caught.value)
    assert "y.png" in str(caught.value)


def test_wrong_settings_are_refused(schedule):
    with pytest.raises(UserError, match="augment is 'turn'"):
        BlastocystDataModule(schedule, augment="turn")
    with pytest.raises(UserError, match="num_workers must be"):
        BlastocystDataModule(schedule, num_workers=-1)
    large = BlastocystDataModule(GrowthSchedule(1024, 1024, hold_kimg=1), num_phantoms=50)
    with pytest.raises(UserError, match="16 to 512"):
        large.setup("fit")


def test_phantoms_below_their_least_resolution_are_shrunk():
    data = BlastocystDataModule(GrowthSchedule(4, 8, hold_kimg=1), num_phantoms=50)
    data.setup("fit")
    assert data.images("train").shape[1:] == (1, 8, 8)
    assert set(data._decoded.levels) == {16, 8, 4}


def test_data_print_as_what_they_are(make_data):
    data = make_data()
    assert repr(data) == "BlastocystDataModule(phantoms, 8 to 16 pixels, before setup)"
    assert str(data) == repr(data)
    data.setup("fit")
    assert "train 48, val 6, test 6" in repr(data)
    assert repr(data.records[0]).startswith("ImageRecord('")
    made = PhantomDataset(5, seed=3, masks=True)
    assert eval(repr(made)).settings() == made.settings()
