"""Folders of images of any origin: what is delivered, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blastogan import PhantomDataset
from blastogan.data.image_sets import ImageSet
from blastogan.data.images import decoding
from blastogan.data.images.decoding import load_image
from blastogan.data.images.framing import Crop
from blastogan.errors import ProblemList, UserError

RNG = np.random.default_rng(0)


def grey(width=12, height=10):
    return RNG.integers(0, 256, (height, width), dtype=np.uint8)


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(path, **options)
    return path


def fill(root, count=5, **size):
    """Grey images by name, in another order than that of their names."""
    arrays = {f"{n}.png": grey(**size) for n in range(count)}
    for name in reversed(arrays):
        save(root / name, arrays[name])
    return arrays


def decoded(images, batch_size=2, **settings):
    batches = list(images.batches(batch_size, **settings))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def lying(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("workers", [0, 2])
def test_images_come_as_they_are_in_the_order_of_their_names(tmp_path, workers):
    arrays = fill(tmp_path)
    images = ImageSet(tmp_path)
    before = torch.get_rng_state()
    batches = list(images.batches(2, num_workers=workers))
    assert [len(batch["image"]) for batch in batches] == [2, 2, 1]
    found = torch.cat([batch["image"] for batch in batches])
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, np.stack(list(arrays.values()))[:, None])
    assert torch.cat([batch["index"] for batch in batches]).tolist() == [0, 1, 2, 3, 4]
    assert "labels" not in batches[0]
    assert (len(images), images.size, images.channels) == (5, (12, 10), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_with_a_resolution_images_are_those_of_training(tmp_path):
    fill(tmp_path, 2)
    save(tmp_path / "other-size.png", grey(40, 30))
    images = ImageSet(tmp_path, resolution=8, channels=3)
    expected = np.stack([load_image(tmp_path / name, 8, 3) for name in images.names])
    np.testing.assert_array_equal(decoded(images)["image"], expected)


@pytest.fixture
def wells(tmp_path):
    """Two phantoms in their wells, and two even images without an embryo."""
    phantoms = PhantomDataset(counts="AA:2", resolution=96, framing="well")
    for n, pixels in enumerate(phantoms.pictures()):
        save(tmp_path / f"well-{n}.png", pixels)
        save(tmp_path / f"none-{n}.png", np.full((96, 96), 90 + n, np.uint8))
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_images_are_cropped_as_asked_and_those_without_an_embryo_counted(wells, workers):
    centre = decoded(ImageSet(wells, 32))["image"]
    for crop in (Crop("embryo"), Crop("embryo", 0.4)):
        images = ImageSet(wells, 32, crop=crop)
        assert images.not_found is None
        found = decoded(images, num_workers=workers)["image"]
        expected = [load_image(wells / name, 32, 1, crop) for name in images.names]
        np.testing.assert_array_equal(found, np.stack(expected))
        same = [torch.equal(one, other) for one, other in zip(found, centre, strict=True)]
        assert same == [True, True, False, False]
        assert images.not_found == 2
    # looked at once more, they are not counted twice
    decoded(images)
    assert images.not_found == 2


def test_at_the_centre_no_embryo_is_missed(wells):
    for images in (ImageSet(wells), ImageSet(wells, 32)):
        assert images.not_found == 0
        decoded(images)
        assert images.not_found == 0


def test_a_crop_needs_a_resolution(wells):
    with pytest.raises(UserError, match="add a resolution"):
        ImageSet(wells, crop=Crop("embryo"))


def test_fingerprint_changes_with_the_crop(wells):
    crops = (None, Crop("embryo"), Crop("embryo", 0.4))
    assert len({ImageSet(wells, 32, crop=crop).fingerprint() for crop in crops}) == 3


def test_one_colour_image_makes_all_of_them_rgb(tmp_path):
    fill(tmp_path, 2)
    save(tmp_path / "deep.png", np.full((10, 12), 1000 * 257 // 10, dtype=np.uint16))
    images = decoded(ImageSet(tmp_path))["image"]
    assert images.shape == (3, 1, 10, 12)
    assert images[-1].unique().tolist() == [100]
    save(tmp_path / "z.png", np.dstack([grey()] * 3))
    images = ImageSet(tmp_path)
    assert images.channels == 3
    assert decoded(images)["image"].shape == (4, 3, 10, 12)
    assert ImageSet(tmp_path, channels=1).channels == 1


@pytest.mark.parametrize(
    ("suffix", "options"), [("png", {}), ("jpg", {}), ("tif", {"compression": "tiff_lzw"})]
)
def test_sizes_are_those_of_upright_images(tmp_path, suffix, options):
    turned = grey(10, 12)
    save(tmp_path / f"turned.{suffix}", turned, exif=lying(6), **options)
    save(tmp_path / "upright.png", grey(12, 10))
    found = decoded(ImageSet(tmp_path))["image"]
    assert found.shape == (2, 1, 10, 12)
    if suffix != "jpg":
        np.testing.assert_array_equal(found[0, 0], np.rot90(turned, -1))


def test_mixed_sizes_are_counted_and_the_way_out_is_told(tmp_path):
    for side, count in ((4, 1), (5, 3), (6, 2), (7, 1), (8, 1), (9, 1)):
        for n in range(count):
            save(tmp_path / f"{side}-{n}.png", grey(side, side + 1))
    with pytest.raises(UserError) as caught:
        ImageSet(tmp_path)
    assert "6 sizes, in pixels: 5x6 (3), 6x7 (2), 4x5 (1)" in str(caught.value)
    assert "8x9 (1) and 1 more." in str(caught.value)
    assert "--resolution R" in str(caught.value)
    assert ImageSet(tmp_path, resolution=4).size == (4, 4)


def test_sets_of_fewer_than_two_images_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"absent does not exist: expected a folder"):
        ImageSet(tmp_path / "absent")
    with pytest.raises(UserError, match="has no images: expected files ending in"):
        ImageSet(tmp_path)
    path = save(tmp_path / "a.png", grey())
    save(tmp_path / ".hidden.png", grey())
    with pytest.raises(UserError, match=r"is a file: expected a folder"):
        ImageSet(path)
    with pytest.raises(UserError, match=r"one image, a\.png: a distance between sets needs two"):
        ImageSet(tmp_path)
    with pytest.raises(UserError, match="got resolution 8 and 2 channels"):
        ImageSet(tmp_path, 8, 2)


def test_every_bad_header_is_listed_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 400)
    fill(tmp_path, 2)
    (tmp_path / "text.png").write_text("no image")
    whole = save(tmp_path / "cut.png", grey()).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:20])
    frames = [Image.fromarray(grey()) for _ in range(2)]
    save(tmp_path / "film.tif", frames[0], save_all=True, append_images=frames[1:])
    save(tmp_path / "floats.tif", grey().astype(np.float32))
    save(tmp_path / "large.png", grey(21, 20))
    with pytest.raises(ProblemList) as caught:
        ImageSet(tmp_path)
    bad = ["cut.png", "film.tif", "floats.tif", "large.png", "text.png"]
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        str(tmp_path / name) for name in bad
    ]


@pytest.mark.parametrize("resolution", [None, 8])
def test_files_cut_in_their_pixels_are_named_all_together(tmp_path, resolution):
    fill(tmp_path, 6, width=60, height=60)
    for name in ("1.png", "5.png"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    images = ImageSet(tmp_path, resolution)
    delivered = []
    with pytest.raises(ProblemList) as caught:
        delivered.extend(images.batches(1))
    assert len(delivered) <= 1
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        str(tmp_path / "1.png"),
        str(tmp_path / "5.png"),
    ]


def test_a_file_whose_size_has_changed_meanwhile_is_refused(tmp_path):
    fill(tmp_path, 3)
    images = ImageSet(tmp_path)
    save(tmp_path / "1.png", grey(11, 10))
    with pytest.raises(ProblemList, match=r"1\.png: 11x10 pixels, expected 12x10"):
        list(images.batches(2))


def test_fingerprint_changes_with_every_file_and_with_how_it_is_read(tmp_path):
    root = tmp_path / "set"
    for n, grade in enumerate(("AA", "AA", "AB")):
        save(root / grade / f"{n}.png", grey())
    first = ImageSet(root).fingerprint()
    assert ImageSet(root).fingerprint() == first
    found = {first, ImageSet(root, 8).fingerprint(), ImageSet(root, None, 3).fingerprint()}
    other = root / "BB/3.png"
    save(other, grey())
    found.add(ImageSet(root).fingerprint())
    other.rename(root / "BB/4.png")
    found.add(ImageSet(root).fingerprint())
    content = bytearray((root / "BB/4.png").read_bytes())
    content[-1] ^= 1
    (root / "BB/4.png").write_bytes(content)
    found.add(ImageSet(root).fingerprint())
    assert len(found) == 6
    (root / "BB/4.png").unlink()
    assert ImageSet(root).fingerprint() == first


def test_fingerprint_changes_with_a_name_alone(tmp_path):
    fill(tmp_path, 2)
    first = ImageSet(tmp_path).fingerprint()
    (tmp_path / "1.png").rename(tmp_path / "2.png")
    assert ImageSet(tmp_path).fingerprint() != first


def test_fingerprint_changes_with_a_grade_or_an_embryo_alone(tmp_path):
    fill(tmp_path, 2)
    found = set()
    for row in ("AA,x", "AB,x", "AA,y"):
        table = f"filename,grade,embryo_guid\n0.png,{row}\n1.png,AA,x\n"
        Path(tmp_path, "metadata.csv").write_text(table)
        found.add(ImageSet(tmp_path).fingerprint())
    assert len(found) == 3


def test_a_graded_set_has_labels_and_embryos(tmp_path):
    fill(tmp_path, 3)
    rows = "2.png,4CA,two\n0.png,AB,one\n1.png,DD,two\n"
    (tmp_path / "metadata.csv").write_text("filename,grade,embryo_guid\n" + rows)
    images = ImageSet(tmp_path)
    expected = torch.tensor([[0, 1], [3, 3], [2, 0]])
    assert torch.equal(images.labels, expected)
    assert torch.equal(decoded(images)["labels"], expected)
    assert (images.groups, images.note) == (["one", "two", "two"], "")


def test_a_set_without_all_grades_is_ungraded_and_says_so_if_it_has_any(tmp_path):
    fill(tmp_path, 3)
    images = ImageSet(tmp_path)
    assert (images.labels, images.groups, images.note) == (None, None, "")
    table = tmp_path / "metadata.csv"
    for rows, note in (
        ("0.png,AB\n1.png,ND\n", "2 of 3 images have no grade: no metrics by class"),
        ("0.png,ND\n", "no metrics by class, the grades cannot be read: no graded image is left"),
        (
            "0.png,AB\n1.png,XY\n2.png,AA\n",
            "no metrics by class, faults of the grades: 1, metadata.csv line 3",
        ),
    ):
        table.write_text("filename,grade\n" + rows)
        images = ImageSet(tmp_path)
        assert images.note.startswith(note)
        assert (images.labels, images.groups) == (None, None)
