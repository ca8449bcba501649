from __future__ import annotations

import pickle
import random
from itertools import product

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch.utils.data import DataLoader, Dataset

from blastogan.data.transforms import (
    GRADE_PRESERVING,
    SYMMETRIES,
    Augment,
    Transform,
    plan_augmentation,
)
from blastogan.errors import ProblemList, UserError
from blastogan.utils.workers import unchanged


def entry(name, **arguments):
    return {"class_path": name, "init_args": arguments}


def picture(channels=1, side=32):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(256, (channels, side, side), dtype=torch.uint8, generator=generator)


VARIED = [
    entry("albumentations.Rotate", limit=40, p=0.5),
    entry("GaussNoise", p=1.0),
    entry(
        "SomeOf",
        n=2,
        p=1.0,
        transforms=[
            entry("RandomGamma", p=0.7),
            entry("OneOf", transforms=[entry("Blur"), entry("ElasticTransform")], p=0.9),
            entry("CoarseDropout"),
        ],
    ),
]


def test_ready_made_augmentations_have_their_symmetries_and_only_one_a_transform():
    plans = {name: plan_augmentation(name, 0, 1) for name in SYMMETRIES}
    assert {name: plan[0] for name, plan in plans.items()} == SYMMETRIES
    assert SYMMETRIES == {"none": 1, "flip": 2, "dihedral": 8, "grade-preserving": 8}
    assert [name for name, plan in plans.items() if plan[1]] == ["grade-preserving"]
    symmetries, transform = plan_augmentation(VARIED, 0, 1)
    assert symmetries == 1
    assert isinstance(transform, Transform)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transform_is_a_pure_function_of_image_seed_and_position(channels):
    transform, again = Transform(VARIED, 7, channels), Transform(VARIED, 7, channels)
    image = picture(channels)
    before = image.clone()
    forwards = [transform(image, position) for position in range(12)]
    backwards = [again(image, position) for position in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert torch.equal(image, before)
    assert all(each.shape == image.shape and each.dtype == torch.uint8 for each in forwards)
    distinct = {each.numpy().tobytes() for each in forwards}
    assert len(distinct) == 12
    assert not torch.equal(Transform(VARIED, 8, channels)(image, 0), forwards[0])


def test_an_image_that_no_transform_applies_to_comes_back_as_a_copy():
    image = picture()
    same = Transform([entry("HorizontalFlip", p=0.0)], 0, 1)(image, 0)
    assert torch.equal(same, image)
    assert same.data_ptr() != image.data_ptr()


def test_the_global_generators_are_neither_read_nor_moved():
    random_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch_state = torch.get_rng_state()
    first = [Transform(VARIED, 7, 1)(picture(), position) for position in range(6)]
    assert random.getstate() == random_state
    assert str(np.random.get_state()) == str(numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    with torch.random.fork_rng():
        random.seed(99)
        np.random.seed(99)  # noqa: NPY002
        torch.manual_seed(99)
        second = [Transform(VARIED, 7, 1)(picture(), position) for position in range(6)]
    random.setstate(random_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_transforms_of_one_pipeline_choose_independently():
    flips = [entry("HorizontalFlip", p=0.5), entry("VerticalFlip", p=0.5)]
    transform, image = Transform(flips, 0, 1), picture()
    shown = {
        (across, down): image.flip([-1] * across + [-2] * down)
        for across, down in product((0, 1), (0, 1))
    }
    found = [
        next(key for key, each in shown.items() if torch.equal(each, transform(image, position)))
        for position in range(200)
    ]
    assert all(30 < found.count(key) < 70 for key in shown)


class Shown(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 12

    def __getitem__(self, position):
        return self.transform(picture(), position).numpy()


def test_workers_and_pickled_copies_make_the_same_images():
    transform = Transform(VARIED, 7, 1)
    settings = {"batch_size": None, "collate_fn": unchanged, "generator": torch.Generator()}
    alone = [transform(picture(), position).numpy() for position in range(12)]
    helped = list(DataLoader(Shown(transform), num_workers=2, **settings))
    copied = pickle.loads(pickle.dumps(transform))
    assert all(np.array_equal(a, b) for a, b in zip(alone, helped, strict=True))
    assert all(np.array_equal(alone[n], copied(picture(), n).numpy()) for n in range(12))


FAULTS = [
    (entry("Rotat"), r"augment\[0\] \(Rotat\): albumentations has no such .* mean Rotate or "),
    (entry("torch.nn.Linear"), "no such transform"),
    (entry("Lambda"), "takes code or files"),
    (entry("TextImage", font_path="/etc/passwd"), "takes code or files"),
    (entry("FDA", reference_images=["a.png"]), "takes code or files"),
    (entry("ReplayCompose", transforms=[entry("Blur")]), "cannot be used"),
    (entry("ToTensorV2"), "cannot be used"),
    (entry("BasicTransform"), "cannot be used"),
    (entry("Rotate", limitt=3), "no argument limitt: expected some of border_mode"),
    (entry("Equalize", mask="f"), "no argument mask"),
    (entry("Rotate", limit="far"), "unable to parse string"),
    (entry("Rotate", p=2), "p Input should be less than or equal to 1"),
    (entry("RandomCrop", height=8, width=8), "exceeds image dimensions"),
    (entry("RandomCrop", height=4, width=4), r"returns uint8 \(4, 4, 1\) for .* \(16, 16, 1\)"),
    (entry("Normalize"), "returns float32"),
    (entry("ToFloat", p=0.001), "returns float32"),
    (entry("HueSaturationValue"), "not applicable to grayscale"),
    (entry("OneOf"), r"\(OneOf\).transforms: expected a list of one transform or more"),
    (entry("OneOf", transforms=[entry("ToFloat")]), r"\.transforms\[0\] \(ToFloat\): returns"),
    (entry("Sequential", transforms=[entry("Blur")], p="1"), "p is '1', expected a number"),
    (entry("Sequential", transforms=[entry("Blur")], p=3), "p is 3, expected a number from 0"),
    (entry("SomeOf", transforms=[entry("Blur")], n=3), "greater than number of transforms"),
    (entry("Compose", transforms=[entry("Blur")], bbox_params={}), "no argument bbox_params"),
    ("Rotate", "expected class_path and init_args, got 'Rotate'"),
    ({"class_path": "Rotate", "args": {}}, "expected class_path and init_args"),
    ({"class_path": "Rotate", "init_args": [3]}, r"init_args are \[3\], expected a mapping"),
]


@pytest.mark.parametrize(("fault", "told"), FAULTS)
def test_an_entry_that_cannot_be_used_is_refused_with_its_reason(fault, told):
    with pytest.raises(UserError, match=told):
        plan_augmentation([fault], 0, 1)


def test_all_faults_are_listed_and_those_of_inner_entries_alone():
    inner = entry("OneOf", transforms=[entry("Blur"), entry("Rotat")])
    with pytest.raises(ProblemList) as refused:
        plan_augmentation([entry("Normalize"), entry("Rotate"), inner], 0, 1)
    places = [problem.split(" ")[0] for problem in refused.value.problems]
    assert places == ["augment[0]", "augment[2]"]


@pytest.mark.parametrize("augment", ["turn", []])
def test_an_unknown_name_and_an_empty_list_are_refused(augment):
    with pytest.raises(UserError, match="expected"):
        plan_augmentation(augment, 0, 1)


def test_colour_may_change_in_colour_and_entries_may_be_named_in_short():
    transform = Transform([{"class_path": "HueSaturationValue"}], 0, 3)
    assert any(not torch.equal(transform(picture(3), n), picture(3)) for n in range(5))


def test_transforms_are_tried_at_the_resolutions_of_the_run():
    crop = [entry("RandomCrop", height=16, width=16)]
    assert Transform(crop, 0, 1, resolutions=[16])
    with pytest.raises(UserError, match="returns uint8"):
        Transform(crop, 0, 1, resolutions=[16, 32])


def test_the_command_line_hands_entries_over_and_constructs_nothing():
    parser = ArgumentParser()
    parser.add_argument("--augment", type=Augment)
    inner = entry("Sequential", transforms=[entry("albumentations.Blur"), entry("builtins.dict")])
    assert parser.parse_object({"augment": [inner]}).augment == [inner]
    assert parser.parse_args(["--augment=flip"]).augment == "flip"


def test_grade_preserving_keeps_the_embryo_whole_and_shows_no_black_corner():
    transform = Transform(GRADE_PRESERVING, 0, 1)
    side = 96
    rows, columns = torch.meshgrid(*[torch.arange(side) - (side - 1) / 2] * 2, indexing="ij")
    inside = (0.44 * side - (rows**2 + columns**2).sqrt()).clip(0, 3) / 3
    disc = (inside * 60 + 120).to(torch.uint8)[None]
    for position in range(60):
        shown = transform(disc, position)
        edges = [shown[0, 0], shown[0, -1], shown[0, :, 0], shown[0, :, -1]]
        rim = torch.cat(edges).float()
        background = float(rim.median())
        assert background > 90
        assert (rim - background).abs().max() <= 4, "the embryo reaches the border"
        area = (shown > background + 30).sum() / (disc > 150).sum()
        assert 0.93 < area < 1.05


def test_grade_preserving_changes_little_and_half_of_the_images_not_in_each_way():
    symmetries, transform = plan_augmentation("grade-preserving", 0, 1)
    image = picture(1, 64)
    kept = sum(torch.equal(transform(image, position), image) for position in range(200))
    assert symmetries == 8
    assert 10 < kept < 45  # an eighth of 200
