"""Training images held on the device, or on the host where they do not fit."""

from __future__ import annotations

import pytest
import torch

from blastogan.data import residence
from blastogan.data.residence import ResidentImages
from blastogan.data.stream import IndexBatch

CPU = torch.device("cpu")
# six images of the set, of three files out of ten
ROWS = torch.tensor([9, 2, 2, 7, 9, 2])
BYTES = 3 * (8 * 8 + 4 * 4)


@pytest.fixture
def levels():
    """Images (10, 1, r, r) of which each has its own row as its grey."""
    return {
        side: torch.arange(10).byte().view(-1, 1, 1, 1).repeat(1, 1, side, side) for side in (8, 4)
    }


@pytest.fixture
def free(monkeypatch):
    """Say how many bytes are free on any device."""

    def say(amount):
        monkeypatch.setattr(residence, "_free_bytes", lambda device: amount)

    return say


def batch(index, resolution=8):
    index = torch.tensor(index)
    labels = torch.stack([index, index], 1)
    return IndexBatch(
        labels=labels, index=index, symmetry=torch.zeros_like(index), resolution=resolution
    )


def greys(images):
    """The grey of each image, all of whose pixels are alike."""
    flat = images["image"].flatten(1)
    assert (flat == flat[:, :1]).all()
    return flat[:, 0].tolist()


@pytest.mark.parametrize("amount", [None, 1 << 30, 1])
def test_images_are_those_of_their_rows_whether_they_fit_or_not(levels, free, amount):
    free(amount)
    resident = ResidentImages(levels, ROWS)
    for side in (8, 4):
        found = resident.gather(batch([0, 1, 3, 5], side), CPU)
        assert greys(found) == [9, 2, 7, 2]
        assert found["image"].shape == (4, 1, side, side)
        assert found["index"].tolist() == [0, 1, 3, 5]
        assert found["labels"].tolist() == [[0, 0], [1, 1], [3, 3], [5, 5]]


def test_the_images_needed_may_take_half_of_what_is_free(levels, free, caplog):
    free(2 * BYTES)
    ResidentImages(levels, ROWS).gather(batch([0]), CPU)
    assert not caplog.records
    free(2 * BYTES - 1)
    ResidentImages(levels, ROWS).gather(batch([0]), CPU)
    assert "take 0 MB, more than half of the 0 MB that are free on cpu" in caplog.text


def test_images_are_held_once_and_copied_only_if_they_fit(levels, free, caplog):
    free(None)
    held = ResidentImages(levels, ROWS)
    held.gather(batch([0]), CPU)
    free(1)
    left = ResidentImages(levels, ROWS)
    left.gather(batch([0]), CPU)
    levels[8].add_(100)
    assert greys(held.gather(batch([0, 3]), CPU)) == [9, 7]
    assert greys(left.gather(batch([0, 3]), CPU)) == [109, 107]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("amount", [None, 1])
def test_another_device_gets_images_of_its_own(levels, free, amount):
    free(amount)
    resident = ResidentImages(levels, ROWS)
    resident.gather(batch([0]), CPU)
    found = resident.gather(batch([0]), torch.device("meta"))
    assert {value.device.type for value in found.values()} == {"meta"}
    assert greys(resident.gather(batch([0]), CPU)) == [9]


def test_only_a_gpu_has_memory_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9))
    assert residence._free_bytes(torch.device("cuda")) == 5
    assert residence._free_bytes(CPU) is None
