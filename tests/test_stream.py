from __future__ import annotations

import pytest
import torch

from blastogan.data.stream import (
    ImageOrder,
    PositionedBatchSampler,
    StreamedImages,
    apply_symmetry,
)
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule

SCHEDULE = GrowthSchedule(8, 16, 0.064, {8: 0.032, 16: 0.064}, {8: 8, 16: 4}, tick_kimg=0.032)


def batches(position, **ranks):
    sampler = PositionedBatchSampler(ImageOrder(10, 3), SCHEDULE, lambda: position, **ranks)
    return list(sampler)


def flat(found):
    return [draw.image for batch in found for draw in batch]


def test_every_pass_shows_each_image_once_in_another_order():
    order = ImageOrder(10, seed=3)
    passes = [[order.at(n)[0] for n in range(k * 10, k * 10 + 10)] for k in range(3)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert passes[0] != passes[1]
    assert [ImageOrder(10, seed=4).at(n)[0] for n in range(10)] != passes[0]


def test_what_comes_at_a_position_does_not_depend_on_what_came_before():
    order = ImageOrder(10, seed=3, symmetries=8)
    backwards = [order.at(n) for n in reversed(range(40))]
    assert backwards[::-1] == [ImageOrder(10, 3, 8).at(n) for n in range(40)]


def test_batches_end_at_the_tick_and_take_size_and_resolution_of_their_own_position():
    first, second = batches(0), batches(32)
    assert [len(batch) for batch in first] == [8] * 4
    assert {draw.resolution for batch in first for draw in batch} == {8}
    assert [len(batch) for batch in second] == [4] * 8
    assert {draw.resolution for batch in second for draw in batch} == {16}


def test_a_stream_that_is_taken_up_anywhere_goes_on_the_same():
    whole = flat(batches(0))
    assert flat(batches(8)) == whole[8:]
    assert flat(batches(24)) == whole[24:]


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


def test_images_come_at_their_resolution_with_their_labels_and_symmetry():
    torch.manual_seed(0)
    pyramid = {r: torch.randint(256, (10, 1, r, r), dtype=torch.uint8) for r in (8, 16)}
    labels = torch.arange(20).view(10, 2)
    images = StreamedImages(pyramid, labels)
    order = ImageOrder(10, 3, symmetries=8)
    draws = next(iter(PositionedBatchSampler(order, SCHEDULE, lambda: 32)))
    batch = images.__getitems__(draws)
    assert batch["image"].shape == (4, 1, 16, 16)
    for n, draw in enumerate(draws):
        expected = apply_symmetry(pyramid[16][draw.image], draw.symmetry)
        assert torch.equal(batch["image"][n], expected)
        assert torch.equal(batch["labels"][n], labels[draw.image])
    assert any(draw.symmetry for draw in draws)
