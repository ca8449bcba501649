"""Copies are found, and similar embryos are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from blastogan import PhantomDataset
from blastogan.audit import duplicates
from blastogan.audit.duplicates import find_duplicates, hash_plane, image_fingerprint, symmetries

STORK = Path(__file__).parents[3] / "shared/data/stork"
COUNT = 24


@pytest.fixture(scope="module")
def phantoms():
    phantoms = PhantomDataset(COUNT, "balanced", seed=3, resolution=128)
    return list(map(Image.fromarray, phantoms.pictures()))


def fingerprint(image):
    return image_fingerprint([hash_plane(plane) for plane in image.split()], image.convert("L"))


def groups(*images):
    return [group.members for group in find_duplicates([fingerprint(image) for image in images])]


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cropped(image, share):
    edge = round(image.width * share / 2)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


COPIES = {
    "jpeg": lambda image: as_jpeg(image, 40),
    "small": lambda image: image.resize((64, 64), Image.Resampling.BICUBIC),
    "large": lambda image: image.resize((300, 300), Image.Resampling.BILINEAR),
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "crop": lambda image: cropped(image, 0.02),
    **{turn.name: lambda image, turn=turn: image.transpose(turn) for turn in Image.Transpose},
    "all": lambda image: as_jpeg(ImageOps.mirror(cropped(image, 0.02)).rotate(90), 70),
}


@pytest.mark.parametrize("change", COPIES)
def test_exactly_the_changed_copies_are_found(phantoms, change):
    copies = [COPIES[change](image) for image in phantoms]
    assert groups(*phantoms, *copies) == [(n, n + COUNT) for n in range(COUNT)]


@pytest.mark.parametrize(("framing", "count"), [("embryo", 150), ("well", 60)])
def test_phantoms_are_not_copies(framing, count):
    phantoms = PhantomDataset(count, "balanced", seed=1, resolution=64, framing=framing)
    assert groups(*map(Image.fromarray, phantoms.pictures())) == []


@pytest.mark.skipif(not STORK.is_dir(), reason="the micrographs are not here")
def test_micrographs_are_not_copies_but_their_copies_are():
    planes = sorted(STORK.glob("*_0_*.jpg"))
    images = [Image.open(path).convert("RGB") for path in planes]
    copies = [as_jpeg(cropped(image, 0.02).rotate(90).reduce(2), 75) for image in images]
    assert groups(*images, *copies) == [(n, n + 12) for n in range(12)]


def test_exact_copies_have_equal_pixels_in_any_mode(phantoms):
    grey, other = phantoms[:2]
    found = find_duplicates([fingerprint(each) for each in (grey, other, grey.convert("RGB"))])
    assert [(group.members, group.exact) for group in found] == [((0, 2), True)]
    turned = ImageOps.mirror(grey)
    found = find_duplicates([fingerprint(each) for each in (grey, turned, grey)])
    assert [(group.members, group.exact) for group in found] == [((0, 1, 2), False)]


def test_a_copy_of_a_copy_belongs_to_the_group(phantoms):
    chain = [cropped(phantoms[0], share) for share in (0, 0.015, 0.03, 0.045, 0.06)]
    assert groups(chain[0], chain[4]) == []
    assert groups(*chain) == [(0, 1, 2, 3, 4)]


def test_negatives_and_flat_images_are_not_copies(phantoms):
    image = phantoms[0]
    flat = [Image.new("L", (64, 64), level) for level in (100, 101, 180)]
    assert groups(image, ImageOps.invert(image), *flat) == []
    assert groups(flat[0], flat[1], flat[0]) == [(0, 2)]
    edge = np.repeat([[0, 1]], 32, axis=1).repeat(64, axis=0)
    faint = [Image.fromarray((level + edge).astype(np.uint8)) for level in (100, 140)]
    assert groups(*faint) == []


def test_flat_images_are_compared_only_by_their_digest(phantoms, monkeypatch):
    compared = []

    def likeness(basis, details):
        compared.extend(details)
        return np.ones(len(details))

    monkeypatch.setattr(duplicates, "likeness", likeness)
    flat = [Image.new("L", (64, 64 + n), n % 5) for n in range(100)]
    assert groups(*flat, flat[7]) == [(7, 100)]
    assert compared == []
    copy = phantoms[0].resize((64, 64))
    assert groups(flat[0], phantoms[0], flat[1], phantoms[1], copy) == [(1, 4)]


def test_hash_plane_depends_on_every_value_and_the_size_but_not_on_pieces(monkeypatch):
    plane = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10))
    other = plane.copy()
    other.putpixel((9, 5), 0)
    assert len({hash_plane(each) for each in (plane, other, plane.copy())}) == 2
    blank = [Image.new("L", size) for size in ((6, 10), (10, 6), (60, 1))]
    assert len({hash_plane(each) for each in blank}) == 3
    before = hash_plane(plane)
    monkeypatch.setattr(duplicates, "_PIECE", 25)
    assert hash_plane(plane) == before


def test_a_narrow_image_is_shortened_before_it_is_widened(monkeypatch):
    sizes = []

    def resize(image, size, *args, **options):
        sizes.append(size)
        return original(image, size, *args, **options)

    original = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", resize)
    fingerprint(Image.new("L", (1, 5000)))
    assert [size for size in sizes if size[0] == 1] == [(1, 64), (1, 32)]


def test_symmetries_are_the_eight_of_the_square():
    square = np.arange(16).reshape(4, 4)
    found = {each.tobytes() for each in symmetries(square)}
    turns = [np.rot90(each, n) for n in range(4) for each in (square, square[::-1])]
    assert found == {each.tobytes() for each in turns}


def test_no_image_and_one_image_have_no_copies(phantoms):
    assert groups() == []
    assert groups(phantoms[0]) == []
