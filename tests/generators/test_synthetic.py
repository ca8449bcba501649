"""Generated images as a data set."""

from __future__ import annotations

import pickle

import pytest
import torch
from helpers.sources import make, saved
from torch.utils.data import DataLoader

from blastogan import SyntheticDataset
from blastogan.errors import UserError
from blastogan.generators import Generator
from blastogan.grades import Grade


@pytest.fixture
def module():
    module = make("stylegan")
    module.grade_counts[0, 1], module.grade_counts[2, 2] = 30, 10
    return module


@pytest.fixture
def forwards(module, monkeypatch):
    """Sizes of the forward passes."""
    found, sample = [], module.sample

    def counted(indices, *args, **options):
        found.append(len(indices))
        return sample(indices, *args, **options)

    monkeypatch.setattr(module, "sample", counted)
    return found


def test_images_are_those_of_generate_in_any_order(module):
    images = SyntheticDataset(module, 7, "xB", seed=4, batch_size=3)
    expected = module.generate(7, "xB", seed=4, batch_size=3)
    for n in (6, 0, 3, -1, 5):
        assert torch.equal(images[n]["image"], expected[n])
    item = images[2]
    assert Grade.from_labels(*item["labels"].tolist()).index == item["grade"]
    # an item may be changed without harm
    item["image"].zero_()
    assert torch.equal(images[2]["image"], expected[2])
    with pytest.raises(IndexError, match="no image 7"):
        images[7]
    assert "7 images" in repr(images)


@pytest.mark.parametrize("counts", [{"CC": 2, "AB": 3}, "CC:2,AB:3"])
def test_counts_by_grade_come_in_the_order_of_the_classes(counts, module):
    images = SyntheticDataset(module, counts)
    assert [Grade.from_labels(*pair).name for pair in images.labels.tolist()] == [
        *["AB"] * 3, *["CC"] * 2
    ]  # fmt: skip


def test_reading_is_one_forward_pass_for_each_batch(module, forwards):
    images = SyntheticDataset(module, 8, batch_size=3)
    for _ in range(2):
        for n in (4, 0, 7, 1, 6, 2, 3, 5):
            images[n]
    assert sorted(forwards) == [2, 3, 3]
    forwards.clear()
    small = SyntheticDataset(module, 8, batch_size=3, cache_mb=0)
    assert [len(small[n]["image"]) for n in range(8)] == [1] * 8
    assert forwards == [3, 3, 2]


def test_processes_that_are_not_forked_get_a_copy_without_images():
    images = SyntheticDataset(Generator.from_content(saved(make()), "test"), 4)
    expected = images[3]["image"]
    copied = pickle.loads(pickle.dumps(images))
    assert not copied._kept
    assert torch.equal(copied[3]["image"], expected)


def test_workers_give_the_same_images(module):
    images = SyntheticDataset(module, 8, batch_size=3, transform=lambda image: image.float() / 255)
    loaders = [DataLoader(images, batch_size=4, num_workers=count) for count in (0, 2)]
    for alone, helped in zip(*loaders, strict=True):
        assert alone["image"].dtype == torch.float32
        for name in ("image", "labels", "grade"):
            assert torch.equal(alone[name], helped[name])


def test_without_grades_an_item_is_an_image():
    module = make(conditional=False)
    assert set(SyntheticDataset(module, 2)[0]) == {"image"}
    for asked in ({"AB": 2}, "AB:2"):
        with pytest.raises(UserError, match="without grades"):
            SyntheticDataset(module, asked)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((0,), "count"),
        (({"EE": 1},), "EE"),
        (({"AB": 0},), "AB"),
        ((2, ["AB"]), "1 grades for 2"),
        (({"AB": 1}, "AB"), "twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, word, module):
    with pytest.raises(UserError, match=word):
        SyntheticDataset(module, *arguments)
    with pytest.raises(UserError, match="batch_size"):
        SyntheticDataset(module, 2, batch_size=0)
