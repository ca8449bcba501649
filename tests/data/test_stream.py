from __future__ import annotations

import hashlib
from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader

from blastogan.data.stream import (
    Draw,
    ImageOrder,
    PositionedBatchSampler,
    StreamedImages,
    apply_symmetry,
)
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.utils.workers import unchanged

SCHEDULE = GrowthSchedule(8, 16, 0.064, {8: 0.032, 16: 0.064}, {8: 8, 16: 4}, tick_kimg=0.032)


CLASSES_OF_TEN = [0] * 6 + [4] * 3 + [9]


def batches(position, balance="none", **ranks):
    order = ImageOrder(CLASSES_OF_TEN, 3, balance)
    return list(PositionedBatchSampler(order, SCHEDULE, lambda: position, **ranks))


def a_set():
    generator = torch.Generator().manual_seed(0)
    levels = {
        r: torch.randint(256, (20, 3, r, r), dtype=torch.uint8, generator=generator)
        for r in (8, 16)
    }
    return levels, torch.randperm(20, generator=generator)[:10], torch.arange(20).view(10, 2)


def flat(found):
    return [draw.image for batch in found for draw in batch]


def test_every_pass_shows_each_image_once_in_another_order():
    order = ImageOrder([0] * 10, seed=3)
    passes = [[order.at(n)[0] for n in range(k * 10, k * 10 + 10)] for k in range(3)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert passes[0] != passes[1]
    assert [ImageOrder([0] * 10, seed=4).at(n)[0] for n in range(10)] != passes[0]


def test_the_order_is_that_of_every_release_so_that_runs_can_be_resumed():
    few = ImageOrder([0] * 10, 3)
    assert [few.at(n)[0] for n in range(12)] == [1, 9, 6, 3, 4, 2, 5, 8, 0, 7, 0, 7]
    order = ImageOrder([n % 10 for n in range(3800)], 7, "none", 8)
    shown = repr([order.at(n) for n in range(8000)])
    assert hashlib.blake2b(shown.encode(), digest_size=8).hexdigest() == "58fda5c5ab885ae4"


@pytest.mark.parametrize("balance", ["none", "sqrt", "uniform"])
def test_what_comes_at_a_position_does_not_depend_on_what_came_before(balance):
    order = ImageOrder(CLASSES_OF_TEN, 3, balance, 8)
    backwards = [order.at(n) for n in reversed(range(40))]
    again = ImageOrder(CLASSES_OF_TEN, 3, balance, 8)
    assert backwards[::-1] == [again.at(n) for n in range(40)]


@pytest.mark.parametrize(
    ("balance", "sizes", "shares"),
    [("uniform", (6, 3, 1), (10 / 3, 10 / 3, 10 / 3)), ("sqrt", (16, 4, 4), (12, 6, 6))],
)
def test_a_balanced_pass_shows_each_class_by_its_share_and_its_images_alike(balance, sizes, shares):
    classes = [name for name, size in zip((0, 4, 9), sizes, strict=True) for _ in range(size)]
    count, passes = len(classes), 400
    order = ImageOrder(classes, 3, balance)
    shown = torch.zeros(passes, count)
    for position in range(passes * count):
        shown[position // count, order.at(position)[0]] += 1
    for places, share in zip(shown.split(sizes, dim=1), shares, strict=True):
        assert (places.sum(1) - share).abs().max() < 1
        assert (places.amax(1) - places.amin(1)).max() <= 1
        assert places.sum() / passes == pytest.approx(share, abs=0.08)
        each = share / places.shape[1]
        assert all(mean == pytest.approx(each, abs=0.1) for mean in places.mean(0).tolist())


def test_the_places_of_a_balanced_pass_are_shuffled():
    order = ImageOrder(CLASSES_OF_TEN, 3, "uniform")
    first = Counter(CLASSES_OF_TEN[order.at(10 * number)[0]] for number in range(300))
    assert all(first[name] > 60 for name in (0, 4, 9))


def test_an_empty_set_and_an_unknown_balance_are_refused():
    with pytest.raises(UserError, match="no images to train on"):
        ImageOrder([], 3)
    with pytest.raises(UserError, match="balance is 'even': expected one of none, sqrt, uniform"):
        ImageOrder([0], 3, "even")


def test_batches_end_at_the_tick_and_take_size_and_resolution_of_their_own_position():
    first, second = batches(0), batches(32)
    assert [len(batch) for batch in first] == [8] * 4
    assert {draw.resolution for batch in first for draw in batch} == {8}
    assert [len(batch) for batch in second] == [4] * 8
    assert {draw.resolution for batch in second for draw in batch} == {16}


@pytest.mark.parametrize("balance", ["none", "uniform"])
def test_a_stream_that_is_taken_up_anywhere_goes_on_the_same(balance):
    whole = flat(batches(0, balance))
    assert flat(batches(8, balance)) == whole[8:]
    assert flat(batches(24, balance)) == whole[24:]


def test_every_draw_knows_its_position_in_the_stream():
    assert [draw.position for batch in batches(32) for draw in batch] == list(range(32, 64))


def test_the_stream_is_over_at_the_end_of_the_schedule():
    assert batches(SCHEDULE.total_images) == []


def test_ranks_take_contiguous_parts_of_each_global_batch():
    parts = [batches(0, rank=rank, world_size=2) for rank in (0, 1)]
    joined = [a + b for a, b in zip(*parts, strict=True)]
    assert joined == batches(0)
    with pytest.raises(UserError, match="batches of 4, 8 images do not divide among 3"):
        batches(0, rank=0, world_size=3)


def test_the_eight_symmetries_differ_and_are_turns_and_mirrors():
    image = torch.arange(9).view(1, 3, 3)
    found = [apply_symmetry(image, n) for n in range(8)]
    assert len({tuple(each.flatten().tolist()) for each in found}) == 8
    assert torch.equal(found[0], image)
    assert torch.equal(found[1], image.flip(-1))
    corners = {0, 2, 6, 8}
    assert all({int(each[0, 0, 0]), int(each[0, 2, 2])} <= corners for each in found)


def test_images_come_from_their_row_with_their_labels_and_symmetry():
    levels, rows, labels = a_set()
    draws = [Draw(n, 16, n % 8, 0) for n in range(10)]
    batch = StreamedImages(levels, rows, labels).__getitems__(draws)
    assert batch["image"].shape == (10, 3, 16, 16)
    for n in range(10):
        assert torch.equal(batch["image"][n], apply_symmetry(levels[16][rows[n]], n % 8))
    assert torch.equal(batch["labels"], labels)
    assert batch["index"].tolist() == list(range(10))


def test_the_transform_gets_the_image_under_its_symmetry_with_its_position():
    levels, rows, labels = a_set()
    seen = []

    def transform(image, position):
        seen.append((image.clone(), position))
        return 255 - image

    images = StreamedImages(levels, rows, labels, transform)
    before = levels[8].clone()
    batch = images.__getitems__([Draw(4, 8, 0, 70), Draw(5, 8, 3, 71)])
    expected = [levels[8][rows[4]], apply_symmetry(levels[8][rows[5]], 3)]
    assert [position for _, position in seen] == [70, 71]
    assert all(torch.equal(mine, image) for mine, (image, _) in zip(expected, seen, strict=True))
    assert torch.equal(batch["image"], 255 - torch.stack(expected))
    assert torch.equal(levels[8], before)


def test_workers_deliver_the_same_stream():
    levels, rows, labels = a_set()
    images = StreamedImages(levels, rows, labels)

    def stream(workers):
        order = ImageOrder(CLASSES_OF_TEN, 3, "uniform", 8)
        sampler = PositionedBatchSampler(order, SCHEDULE, lambda: 32)
        settings = {"generator": torch.Generator(), "num_workers": workers}
        return list(DataLoader(images, batch_sampler=sampler, collate_fn=unchanged, **settings))

    alone, helped = stream(0), stream(2)
    assert len(alone) == len(helped) == 8
    for mine, theirs in zip(alone, helped, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
