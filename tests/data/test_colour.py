"""Colours of images: kept, taken out, or balanced, and what follows from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from blastogan.data.cache import decode_images
from blastogan.data.image_sets import ImageSet
from blastogan.data.images.decoding import load_image
from blastogan.data.provenance import state_differences
from blastogan.errors import UserError
from blastogan.evaluation.comparison import trained_colour


@pytest.fixture
def paths(tmp_path):
    """Two blue images of one scene, and it in grey."""
    scene = np.random.default_rng(0).integers(60, 200, (32, 40))
    for n, gains in enumerate([(0.5, 1.0, 1.25), (0.5, 1.0, 1.25), (1, 1, 1)]):
        values = np.round(scene[..., None] * gains).astype(np.uint8)
        Image.fromarray(values).save(tmp_path / f"{n}.png")
    return sorted(tmp_path.glob("*.png"))


def test_a_balanced_image_has_one_mean_and_keeps_its_brightness(paths):
    blue, kept = load_image(paths[0], 32, 3, colour="balance"), load_image(paths[0], 32, 3)
    means = blue.mean(axis=(1, 2))
    assert np.ptp(means) < 1
    assert means.mean() == pytest.approx(kept.mean(), abs=1)
    scene = load_image(paths[2], 32, 3).astype(float)
    assert np.abs(blue / blue.mean() - scene / scene.mean()).max() < 0.05


def test_grey_has_equal_channels_and_keep_changes_nothing(paths):
    grey, luma = load_image(paths[0], 32, 3, colour="grey"), load_image(paths[0], 32, 1)
    assert np.array_equal(grey[0], grey[2])
    assert np.abs(grey[:1].astype(int) - luma).max() <= 1
    assert np.array_equal(load_image(paths[0], 32, 3, colour="keep"), load_image(paths[0], 32, 3))
    assert np.array_equal(load_image(paths[0], 32, 1, colour="grey"), luma)


def test_an_image_without_red_is_not_amplified_without_bound(tmp_path):
    values = np.full((16, 16, 3), (0, 120, 240), np.uint8)
    values[:2, :2, 0] = 1
    Image.fromarray(values).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", 16, 3, colour="balance")[0].max() <= 4


def test_each_colour_has_its_cache(paths, tmp_path):
    levels = {}
    for colour in ("keep", "grey", "balance", "keep"):
        levels[colour] = decode_images(paths, 16, 3, colour=colour, cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert not torch.equal(levels["keep"].levels[16], levels["balance"].levels[16])


def test_an_image_set_shows_and_identifies_its_colours(paths):
    root = paths[0].parent
    kept, grey = ImageSet(root, 16, 3), ImageSet(root, 16, 3, colour="grey")
    assert kept.fingerprint() != grey.fingerprint()
    image = next(grey.batches(3))["image"]
    assert torch.equal(image[:, 0], image[:, 2])
    with pytest.raises(UserError, match="resolution"):
        ImageSet(root, colour="grey")


def test_the_colour_reaches_the_images_and_the_state_of_a_run(make_data, paths):
    for n, path in enumerate(paths):
        (path.parent / "AA").mkdir(exist_ok=True)
        path.rename(path.parent / "AA" / f"{n}.png")
    settings = {"root": str(paths[0].parent), "img_channels": 3, "val_fraction": 0.0}
    made = {
        colour: make_data(colour=colour, test_fraction=0.0, **settings)
        for colour in ("keep", "balance")
    }
    for data in made.values():
        data.setup("fit")
    kept, balanced = (data.images("train") for data in made.values())
    assert not torch.equal(kept, balanced)
    states = {colour: data.state_dict() for colour, data in made.items()}
    older = {name: value for name, value in states["keep"].items() if name != "colour"}
    assert state_differences(states["keep"], older) == []
    assert "colour" in state_differences(states["balance"], older)[0]
    assert trained_colour({"BlastocystDataModule": states["balance"], "epoch": 1}) == "balance"
    assert trained_colour({"BlastocystDataModule": older}) == trained_colour({}) == "keep"
    with pytest.raises(UserError, match="colour"):
        trained_colour({"any": {**older, "colour": "sepia"}})


def test_a_balance_of_grey_images_is_refused(make_data):
    with pytest.raises(UserError, match="img_channels"):
        make_data(colour="balance", img_channels=1)
    with pytest.raises(UserError, match="colour"):
        make_data(colour="sepia", img_channels=3)
