"""``blastogan audit`` on small sets with planted faults."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.command import blastogan
from PIL import Image

from blastogan import PhantomDataset
from blastogan.audit.collect import audit_images
from blastogan.audit.figure import _caption, draw_audit
from blastogan.audit.inspection import inspect_file
from blastogan.cli.audit import audit
from blastogan.data.splits import SplitPlan
from blastogan.errors import UserError
from blastogan.grades import CLASSES

KEYS = {
    "root", "format", "files", "images", "embryos", "grouped", "classes", "embryos_by_class",
    "icm", "te", "expansion", "labels_only", "sizes", "modes", "parts", "dropped", "unlisted",
    "unreadable", "duplicates", "leaks", "findings", "sound", "split", "published",
    "published_leaks", "incomplete", "embryos_by", "split_by",
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures():
    phantoms = PhantomDataset(30, "balanced", seed=2, resolution=64)
    return list(map(Image.fromarray, phantoms.pictures()))


@pytest.fixture
def make_set(tmp_path, monkeypatch, pictures):
    """Function that writes a set of 24 images of 12 embryos with a table, changed by a callback."""
    monkeypatch.chdir(tmp_path)

    def make(change=lambda images, rows: None, parts=False):
        images = {f"{n:02}.png": pictures[n] for n in range(24)}
        grades = ("4AA", "3AB", "BB")
        rows = {
            name: [f"e{n // 2}", grades[n // 2 % 3], ("train" if n < 18 else "test") * parts]
            for n, name in enumerate(images)
        }
        change(images, rows)
        Path("set").mkdir()
        for name, image in images.items():
            image.save(Path("set", name)) if image else Path("set", name).write_text("no image")
        lines = [",".join([name, *cells]) for name, cells in rows.items()]
        Path("set/table.csv").write_text("\n".join(["image,embryo,grade,part", *lines]) + "\n")
        return Path("set")

    return make


def kinds(found, level="fault"):
    return {finding.kind: finding.count for finding in found.findings if finding.level == level}


def run(capfd, *args):
    """Exit code, stdout, and the JSON."""
    code = blastogan("audit", *args, "--workers", 0, "--json", "found.json")
    found = json.loads(Path("found.json").read_text()) if Path("found.json").exists() else {}
    return code, capfd.readouterr().out, found


def test_a_sound_set_is_reported_in_full(make_set, capfd):
    code, shown, found = run(capfd, make_set())
    assert code == 0
    assert set(found) == {*KEYS, "blastogan"}
    assert (found["files"], found["images"], found["embryos"]) == (24, 24, 12)
    assert (found["format"], found["sound"], found["labels_only"]) == ("csv", True, False)
    assert found["classes"] == {**dict.fromkeys(CLASSES, 0), "AA": 8, "AB": 8, "BB": 8}
    assert found["embryos_by_class"]["AB"] == 4
    assert found["icm"] == {"A": 16, "B": 8, "C": 0, "D": 0}
    assert found["te"] == {"A": 8, "B": 16, "C": 0, "D": 0}
    assert found["expansion"] == {
        **dict.fromkeys("1256", 0), "3": 8, "4": 8, "unknown": 8,
    }  # fmt: skip
    assert (found["sizes"], found["modes"]) == ({"64x64": 24}, {"L": 24})
    assert (found["split"], found["published"]) == ("by-embryo", {})
    assert [part["embryos"] for part in found["parts"]] == [10, 1, 1]
    assert "24 sound graded images of 12 embryos; 24 image files" in shown
    assert shown.splitlines()[-1].startswith("sound, but its held-out parts are too small")
    kinds_found = {finding["kind"] for finding in found["findings"]}
    assert kinds_found == {"embryos", "rare", "no-images", "weak-parts"}


def test_a_sound_audit_ends_with_the_command_that_trains_on_the_set_as_it_was_read(
    make_set, caplog, tmp_path
):
    folder = shutil.copytree(make_set(), tmp_path / "my images; rm")
    options = ["--embryo-pattern", r"(\d+)_?", "--crop", "embryo"]
    assert blastogan("audit", folder, "--labels-only", *options) == 0
    (line,) = [each for each in caplog.messages if each.startswith("next: ")]
    assert shlex.split(line)[1:] == [
        *("blastogan", "fit", "--config", "demo", "--data.root", str(folder)),
        *("--data.embryo_pattern", options[1], "--data.crop", "embryo"),
    ]


def spoil(images, rows):
    images["02.png"] = images["03.png"] = None
    images["18.png"] = images["00.png"].transpose(Image.Transpose.ROTATE_90)
    images["21.png"] = images["05.png"]
    rows["06.png"][1] = "AZ"
    rows["gone.png"] = ["e9", "AA", "train"]
    rows["07.png"][1] = "NA"
    images["extra.png"] = images["08.png"].resize((80, 60)).convert("RGB")
    images["09.png"] = images["09.png"].convert("RGB")
    images["10.png"] = Image.merge("RGB", [images["10.png"]] * 2 + [images["11.png"]])


def test_planted_faults_are_reported_and_exit_with_1(make_set, capfd):
    code, shown, found = run(capfd, make_set(spoil, parts=True), "--split", "published")
    assert code == 1
    assert not found["sound"]
    assert (found["files"], found["images"]) == (25, 22)
    assert found["incomplete"] == {"ungraded": 2}
    faults = {
        each["kind"]: (each["count"], each["examples"])
        for each in found["findings"]
        if each["level"] == "fault"
    }
    assert {kind: count for kind, (count, _) in faults.items()} == {
        "rows": 2,
        "unreadable": 2,
        "duplicates-grades": 1,
        "duplicates-embryos": 3,
        "leak-duplicates": 2,
    }
    assert "table.csv line 8" in faults["rows"][1][0]
    assert [each["file"] for each in found["unreadable"]] == ["02.png", "03.png"]
    assert "convert it" in found["unreadable"][0]["why"]
    assert [(each["images"], each["kind"], each["spans"]) for each in found["duplicates"]] == [
        (["00.png", "18.png"], "near", ["embryos", "parts"]),
        (["05.png", "21.png"], "exact", ["embryos", "grades", "parts"]),
        (["08.png", "extra.png"], "near", ["embryos"]),
    ]
    assert [each["images"] for each in found["leaks"]] == [
        ["00.png", "18.png"],
        ["05.png", "21.png"],
    ]
    assert found["dropped"] == []
    assert found["unlisted"] == ["extra.png"]
    assert found["modes"] == {"L": 19, "RGB, all grey": 2, "RGB": 1}
    lines = shown.splitlines()
    assert lines[-1].startswith("5 faults that would spoil training; ")
    levels = [line.split(":")[0] for line in lines if line.startswith(("fault:", "note:"))]
    assert levels == sorted(levels)
    assert "  - 05.png = 21.png, in train and test" in lines


def test_an_embryo_in_two_parts_of_the_published_split_is_a_leak(make_set):
    def change(images, rows):
        rows["19.png"][0] = "e1"

    published = SplitPlan("published", val_fraction=0)
    found = audit_images(make_set(change, parts=True), pixels=False, plan=published)
    assert kinds(found) == {"leak-embryo": 1}
    assert "the 1 of their images" in found.faults[0].message
    (leak,) = found.leaks
    assert (leak.embryo, leak.parts) == ("e1", ("train", "test"))
    assert leak.images == ("02.png", "03.png", "19.png")
    assert [part.images for part in found.parts] == [18, 0, 6]
    unused = audit_images("set", pixels=False)
    assert unused.sound
    assert (unused.leaks, unused.published_leaks) == ((), found.leaks)
    assert unused.published == {"train": 18, "val": 0, "test": 6}
    assert kinds(unused, "note")["leak-embryo"] == kinds(unused, "note")["published-split"] == 1


def test_copies_within_a_leaking_embryo_are_not_a_leak_of_their_own(make_set):
    def change(images, rows):
        images["19.png"] = images["02.png"]
        rows["19.png"] = [*rows["02.png"][:2], "test"]
        images["20.png"] = images["05.png"]

    leaks = audit_images(make_set(change, parts=True), plan=SplitPlan("published")).leaks
    assert [(leak.kind, leak.images) for leak in leaks] == [
        ("embryo", ("02.png", "03.png", "19.png")),
        ("duplicates", ("05.png", "20.png")),
    ]


def test_a_folder_of_only_unsupported_formats_is_refused(tmp_path):
    (tmp_path / "0.webp").touch()
    with pytest.raises(UserError, match=r"no images but 1 \.webp"):
        audit_images(tmp_path)


def test_a_table_of_unknown_columns_is_named_with_a_remedy(make_set):
    root = make_set()
    text = (root / "table.csv").read_text().replace("grade", "score", 1)
    (root / "table.csv").write_text(text)
    (fault,) = audit_images(root, pixels=False).faults
    assert "table.csv has the columns image, embryo, score, part" in fault.message
    assert "image=file,grade=score" in fault.message


def test_a_given_split_replaces_the_published_one(make_set, capfd):
    root = make_set(parts=True)
    Path("own.csv").write_text("image,part\n00.png,train\n01.png,val\n02.png,train\nnone.png,val\n")
    code, shown, found = run(capfd, root, "--labels-only", "--split-file", "own.csv")
    assert code == 1
    assert [part["images"] for part in found["parts"]] == [2, 1, 0]
    faults = [each for each in found["findings"] if each["level"] == "fault"]
    assert [(each["kind"], each["examples"]) for each in faults] == [
        ("split-names", ["none.png"]),
        ("leak-embryo", ["embryo e0: 00.png, 01.png, in train and val"]),
    ]
    assert "given split" in shown
    notes = {each["kind"]: each["count"] for each in found["findings"]}
    assert notes["no-part"] == 21


def test_copies_within_an_embryo_are_a_note(make_set):
    def change(images, rows):
        images["01.png"] = images["00.png"]

    found = audit_images(make_set(change))
    assert found.sound
    assert kinds(found, "note")["duplicates-within"] == 1


def test_without_known_embryos_any_copy_is_a_fault(tmp_path, pictures):
    for name, picture in {"AA/1": 0, "AA/2": 1, "AA/5": 3, "DD/3": 2}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pictures[picture].save(tmp_path / f"{name}.png")
    found = audit_images(tmp_path)
    assert found.sound
    assert "no-groups" in kinds(found, "note")
    pictures[0].save(tmp_path / "AA/4.jpg", quality=80)
    found = audit_images(tmp_path)
    assert kinds(found)["duplicates-embryos"] == 1
    assert (
        "--embryo-pattern"
        in {each.kind: each.message for each in found.faults}["duplicates-embryos"]
    )


def test_a_set_without_a_layout_is_one_fault_and_its_files_are_opened(make_set, capfd):
    root = make_set(
        lambda images, rows: images.update({"00.png": None, "05.png": images["04.png"]})
    )
    (root / "table.csv").unlink()
    code, shown, found = run(capfd, root, "--ungraded", "drop")
    assert code == 1
    assert (found["images"], found["files"], found["format"]) == (0, 24, "")
    assert [(each["kind"], each["level"]) for each in found["findings"]] == [
        ("layout", "fault"),
        ("unreadable", "fault"),
        ("duplicates", "note"),
    ]
    assert "no known layout" in shown
    ungraded = audit_images(root, pixels=False)
    assert (ungraded.sound, ungraded.incomplete) == (True, {"ungraded": 24})
    assert draw_audit(ungraded).height > 0


def test_imbalance_sizes_and_single_embryos_are_notes(make_set, pictures):
    def change(images, rows):
        for n in range(24):
            rows[f"{n:02}.png"][1] = "AA"
        rows["00.png"][1] = "CC"
        images["23.png"] = images["23.png"].resize((40, 50)).convert("RGB")

    found = audit_images(make_set(change), resolution=50)
    notes = {finding.kind: finding for finding in found.findings}
    assert found.sound
    assert "23 to 1" in notes["imbalance"].message
    assert notes["rare"].examples == ("CC 1",)
    assert notes["one-embryo"].examples == ("CC",)
    assert notes["embryo-classes"].examples == ("e0: AA, CC",)
    assert notes["sizes"].examples == ("64x64: 23", "40x50: 1")
    assert "40 pixels, below 50" in notes["small"].message
    assert notes["grey-rgb"].count == 1


def test_low_contrast_and_unsupported_formats_are_notes(make_set):
    def change(images, rows):
        values = np.asarray(images["04.png"])
        images["04.png"] = Image.fromarray(values.astype(np.uint16) * 60)
        images["08.png"] = images["08.png"].point(lambda value: value // 17 + 150)
        images["13.png"] = images["13.png"].point(lambda value: value // 2)

    root = make_set(change)
    for name in ("a.webp", "b.WEBP", "c.heic", ".d.gif", "e.txt"):
        (root / name).touch()
    found = audit_images(root)
    notes = {finding.kind: finding for finding in found.findings}
    assert found.sound
    names, ranges = zip(*(each.split(": ") for each in notes["levels"].examples), strict=True)
    assert names == ("04.png", "08.png")
    assert re.fullmatch(r"\d to [56]\d of 255", ranges[0])
    assert ranges[1].startswith("150 to 16")
    assert notes["other-formats"].count == 3
    assert notes["other-formats"].examples == (".heic: 1", ".webp: 2")


def test_levels_ignore_a_thousandth_of_the_pixels(tmp_path):
    values = np.full((100, 100), 90, np.uint8)
    values[:2, :10] = [[10] * 10, [250] * 10]
    values[2, :11], values[3, :11] = 80, 200
    Image.fromarray(values).save(tmp_path / "a.png")
    assert inspect_file(tmp_path / "a.png").levels == (80, 200)


def test_labels_only_opens_no_file_and_imports_no_torch(make_set):
    root = make_set(lambda images, rows: images.update(dict.fromkeys(images)))
    code = (
        "import sys; from blastogan.__main__ import main; "
        f"assert main(['audit', {str(root)!r}, '--labels-only']) == 0; "
        "sys.exit(bool({'torch', 'pytorch_lightning', 'imagehash'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("sound as far as labels")


def test_workers_do_not_change_the_audit(make_set):
    root = make_set(spoil, parts=True)
    assert audit_images(root, num_workers=2).to_dict() == audit_images(root).to_dict()


def test_the_figure_has_a_row_for_each_class_with_an_image(make_set, capfd):
    root = make_set(spoil, parts=True)
    assert run(capfd, root, "--figure", "classes.png")[0] == 1
    figure = Image.open("classes.png")
    labels = audit_images(root, pixels=False)
    drawn = draw_audit(labels)
    assert figure.width > 2 * drawn.width
    # one of the planted images has colours that no light has, which is a row of its own
    assert figure.height > drawn.height
    plain = replace(audit_images(root), measures={})
    assert draw_audit(plain).height == drawn.height
    two = replace(labels, records=labels.records[:2], names=labels.names[:2])
    assert draw_audit(two).height < drawn.height


@pytest.mark.parametrize("name", ["a$^{$b", "\x1b[31m\udcff\n", "n" * 200, "\u80da"])
def test_a_figure_accepts_any_folder_name(make_set, name):
    root = make_set().rename(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = audit_images(root, pixels=False)
        assert draw_audit(found).height > 0
    assert max(map(len, _caption(found).split("\n"))) < 100


def test_findings_are_printed_even_if_the_figure_fails(make_set, capfd, monkeypatch):
    def fail(audit, crop):
        raise RuntimeError("no font")

    monkeypatch.setattr("blastogan.audit.figure.draw_audit", fail)
    with pytest.raises(RuntimeError, match="no font"):
        audit([str(make_set()), "--labels-only", "--figure", "a.png"])
    assert "sound as far as labels" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none"], "does not exist"),
        (["empty"], "has no images"),
        (["set", "--format", "nonsense"], "unknown format"),
        (["set", "--columns", "image=nope"], "missing"),
        (["set", "--embryo-pattern", "("], "not a regular expression"),
        (["set", "--split-file", "none.csv"], "does not exist"),
        (["set", "--json", "set/table.csv"], "nothing is overwritten"),
        (["set", "--json", "no/x.json"], "no folder no"),
        (["set", "--figure", "figure.pdf"], "expected a name ending in .png"),
        (["set", "--figure", "x.png", "--json", "x.png"], "same file"),
        (["set", "--json", "x.json", "--crop", "embryo", "--crop-margin", "9"], "margin around"),
    ],
)
def test_wrong_use_exits_with_2_and_writes_nothing(make_set, capfd, args, message):
    make_set()
    Path("empty").mkdir()
    before = sorted(Path().rglob("*"))
    assert blastogan("audit", *args) == 2
    assert sorted(Path().rglob("*")) == before
    assert message in capfd.readouterr().err


def test_a_root_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no images"):
        audit_images(tmp_path)
