"""Notes on how images were taken, on drawings of textured discs, and the table of noted images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from blastogan.audit.collect import audit_images
from blastogan.audit.figure import draw_audit
from blastogan.audit.inspection import inspect_file
from blastogan.audit.measures import ColourSample, measure_image
from blastogan.audit.quality import find_looks, noted_images, reasons
from blastogan.cli.audit import audit
from blastogan.data.readers import ReaderOptions
from blastogan.errors import ProblemList, UserError

CENTRE = (80, 60, 42)


def micrograph(*embryos, tint=(150, 150, 150), seed=0, size=(160, 120)):
    """Even medium with textured discs, each at x, y and of a radius."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[1], : size[0]]
    tone = random.normal(0, 1.5, (size[1], size[0]))
    grain = np.asarray(
        Image.fromarray(random.integers(0, 256, tone.shape, dtype=np.uint8)).filter(
            ImageFilter.GaussianBlur(1.2)
        ),
        float,
    )
    for x, y, radius in embryos:
        inside = np.hypot(columns - x, rows - y) < radius
        tone[inside] += 1.5 * (grain[inside] - 128)
    values = np.clip(np.array(tint) * (1 + tone[..., None] / 150), 0, 255)
    return Image.fromarray(values.astype(np.uint8))


def blurred():
    return micrograph(CENTRE).filter(ImageFilter.GaussianBlur(5))


def crosshair(tint):
    image = micrograph(CENTRE, tint=tint)
    draw = ImageDraw.Draw(image)
    draw.line((110, 90, 140, 90), (220, 20, 30), 2)
    draw.line((125, 75, 125, 105), (220, 20, 30), 2)
    return image


def blue_with_shadows():
    image = micrograph(CENTRE, tint=(80, 160, 195))
    image.paste((0, 90, 170), (70, 50, 78, 58))
    return image


def photograph():
    values = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((160, 120))


def document():
    image = Image.new("L", (160, 120), 255)
    ImageDraw.Draw(image).text((20, 20), "Report\nof 3 May", 0)
    return image


def measured(image):
    sample = ColourSample()
    for band in image.getbands():
        sample.add(band, image.getchannel(band))
    return measure_image(image.convert("L"), sample)


def kinds(image):
    others = {f"{n}": measured(micrograph(CENTRE, seed=n)) for n in range(2)}
    return {kind for kind, names in noted_images({**others, "it": measured(image)}).items()}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (micrograph(CENTRE), set()),
        (micrograph(CENTRE, tint=(80, 160, 195)), set()),
        (blue_with_shadows(), set()),
        (micrograph((60, 50, 25)), set()),
        (blurred(), {"blurred"}),
        (micrograph(), {"no-embryo"}),
        (micrograph((80, 5, 50)), {"cropped"}),
        (micrograph((40, 60, 26), (110, 60, 28)), {"two-embryos"}),
        (crosshair((150, 150, 150)), {"overlay"}),
        (crosshair((80, 160, 195)), {"overlay"}),
    ],
    ids=[
        "sound",
        "blue",
        "shadows",
        "small",
        "blurred",
        "empty",
        "cropped",
        "two",
        "cross",
        "blue-cross",
    ],
)
def test_each_fault_of_a_picture_has_its_note(image, expected):
    assert kinds(image) == expected


@pytest.mark.parametrize("image", [photograph(), document()], ids=["photograph", "document"])
def test_what_is_no_micrograph_is_noted_unless_most_images_are_so(image):
    assert "off-topic" in kinds(image)
    assert "overlay" not in kinds(image)
    assert "off-topic" not in noted_images({"it": measured(image)})


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (7, 7), (200, 9)])
def test_tiny_and_narrow_images_are_measured(shape, tmp_path):
    Image.fromarray(np.full(shape, 90, np.uint8)).save(tmp_path / "a.png")
    assert inspect_file(tmp_path / "a.png").measures.tint == (90, 90, 90)


def looks(*tints, each=8):
    images = [
        micrograph(CENTRE, tint=np.array(tint) + n % 5, seed=n)
        for tint in tints
        for n in range(each)
    ]
    return find_looks({f"{n:02}": measured(image) for n, image in enumerate(images)})


def test_looks_are_told_apart_by_colour_and_light_and_named():
    found = looks((80, 160, 195), (150, 160, 165), (80, 80, 82))
    assert {(look.colour, look.images[0], len(look.images)) for look in found} == {
        ("blue", "00", 8),
        ("grey", "08", 8),
        ("grey", "16", 8),
    }


def test_one_look_and_few_images_are_not_divided():
    assert looks((150, 160, 165), each=20) == []
    assert looks((80, 160, 195), (150, 160, 165), each=4) == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set of twelve images, of which one has a crosshair, and one two embryos in a subfolder."""
    monkeypatch.chdir(tmp_path)
    images = {f"AA/{n}.png": micrograph(CENTRE, seed=n) for n in range(10)}
    images["BB/cross.png"] = crosshair((150, 150, 150))
    images["BB/two.png"] = micrograph((40, 60, 26), (110, 60, 28))
    for name, image in images.items():
        Path("set", name).parent.mkdir(parents=True, exist_ok=True)
        image.save(Path("set", name))
    return Path("set")


def test_noted_images_are_written_to_a_table_that_leaves_them_out(folder):
    arguments = [str(folder), "--workers", "0", "--split-file", "split.csv"]
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    Path("split.csv").write_text("\n".join(["image,part", *(f"{name},train" for name in names)]))
    assert audit([*arguments, "--write-exclude", "out.csv"]) == 0
    with Path("out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["image", "why"], ["BB/cross.png", "drawn on"], ["BB/two.png", "two embryos"]]
    with pytest.raises(UserError, match="exists"):
        audit([*arguments, "--write-exclude", "out.csv"])
    assert audit([*arguments, "--exclude", "out.csv", "--json", "found.json"]) == 0
    found = audit_images(folder, exclude_options("out.csv"))
    assert len(found.records) == found.files == 10
    assert not reasons(found.measures)
    dropped = next(each for each in found.findings if each.kind == "dropped")
    assert dropped.examples == ("excluded by hand: 2",)


def exclude_options(file):
    return ReaderOptions(exclude=file)


def test_images_to_leave_out_that_are_not_in_the_set_are_all_named(folder):
    Path("out.csv").write_text("image\nBB/two.png\nBB/gone.png\n../set/AA/1.png\n")
    with pytest.raises(ProblemList) as caught:
        audit_images(folder, exclude_options("out.csv"))
    assert len(caught.value.problems) == 2
    assert "gone.png" in str(caught.value)


def test_noted_images_are_drawn_below_the_classes(folder):
    found = audit_images(folder)
    assert {each.kind for each in found.findings} >= {"overlay", "two-embryos"}
    Path("out.csv").write_text("image\nBB/two.png\n")
    fewer = audit_images(folder, exclude_options("out.csv"))
    assert draw_audit(found).height - draw_audit(fewer).height == pytest.approx(0.95 * 110, abs=1)


def test_images_whose_grade_is_faulty_are_measured_too(folder):
    rows = [f"AA/{n}.png,AA" for n in range(10)] + ["BB/cross.png,AZ"]
    (folder / "table.csv").write_text("\n".join(["image,grade", *rows]))
    found = audit_images(folder)
    assert found.table.format == "csv"
    assert "BB/cross.png" not in found.names
    assert "BB/cross.png" in reasons(found.measures)
