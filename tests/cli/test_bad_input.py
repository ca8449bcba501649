"""All that can be wrong on disk, at once: each fault is told with its remedy, the rest is used."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.command import blastogan
from helpers.pngs import chunk, png
from PIL import Image

from blastogan import BlastocystDataModule, PhantomDataset
from blastogan.audit.collect import audit_images
from blastogan.data.images.decoding import decode
from blastogan.data.readers import scan_graded_images
from blastogan.errors import ProblemList, UserError

SOUND = 12
SECONDS = 60
MEGABYTES = 1000
REMEDY = re.compile(
    r"take it out|take them out|convert it|crop or shrink it|save the frame|check the path"
)
PIXELS = bytes(65 * 64)
NAMES = {
    "ansi": "\x1b[31mred\x1b[0m\r\x07.png",
    "newline": "two\nlines.png",
    "turned": "\u202egnp.png",
    "long": "n" * 251 + ".png",
    "markup": "[bold]a[red].png",
    "bytes": os.fsdecode(b"\xff\xfe.png"),
}


class Tree(NamedTuple):
    """A clinic's folder with all that can be broken.

    Attributes:
        root: The folder.
        files: A word of the reason by the name of each file that cannot be decoded, listed or not.
        rows: Words of the fault by the number of each faulty line.
    """

    root: Path
    files: dict[str, str]
    rows: dict[int, str]


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(PhantomDataset(1, seed=9, resolution=64).picture(0))


@pytest.fixture(scope="module")
def tree(tmp_path_factory, picture):
    home = tmp_path_factory.mktemp("bad")
    root = home / "set"
    root.mkdir()
    picture.save(home / "outside.png")
    phantoms = PhantomDataset(SOUND, "balanced", seed=4, resolution=64)
    for n, image in enumerate(phantoms.pictures()):
        Image.fromarray(image).save(root / f"sound{n:02}.png")
    files = write_broken_files(root, picture)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["folder", "filename", "embryo_guid", "grade"])
    for n in range(SOUND):
        writer.writerow(["", f"sound{n:02}.png", f"e{n // 2}", "AA" if n < 6 else "BB"])
    for n in range(3):
        picture.save(root / f"disputed{n}.png")
        writer.writerow(["", f"disputed{n}.png", "e0", "AA"])
    rows = {}
    for cells, words in broken_rows(root):
        writer.writerow(cells)
        # of a cell with a line break, the last line counts
        rows[table.getvalue().count("\n")] = words
    for n, name in enumerate(files):
        writer.writerow(["", name, f"e{n % 3}", "AA"])
    for name in ("spare.png", NAMES["bytes"]):
        (root / name).write_bytes(b"no image")
        files[name] = "no image"
    (root / "metadata.csv").write_text(table.getvalue(), encoding="utf-8")
    yield Tree(root, files, rows)
    (root / "locked.png").unlink(missing_ok=True)


def write_broken_files(root, picture):
    """Files that are no images to be decoded; a word of the reason by name."""
    grey = encoded(picture, "PNG")
    noise = zlib.compress(bytes(80_000_000))
    second = {"save_all": True, "append_images": [picture.rotate(90)]}
    contents = {
        "cut.png": (grey[: len(grey) // 2], "truncated"),
        "cut.jpg": (halved(encoded(picture, "JPEG")), "truncated"),
        "cut.tif": (halved(encoded(picture, "TIFF")), "truncated"),
        "cut-head.jpg": (encoded(picture, "JPEG")[:20], "no image"),
        "nothing.png": (b"", "no image"),
        "signature.png": (b"\x89PNG\r\n\x1a\n", "no image"),
        "text.png": (b"no image", "no image"),
        "gif.png": (encoded(picture, "GIF"), "no image"),
        "zip.jpg": (archive(), "no image"),
        "rar.jpg": (b"Rar!\x1a\x07\x01\x00" + bytes(99), "no image"),
        "huge.png": (png(60_000, 60_000, b""), "At most 64 megapixels"),
        "flat.png": (png(0, 64, b""), "no image"),
        "header-crc.png": (flipped(grey, 29), "no image"),
        "pixels.png": (flipped(grey, grey.find(b"IDAT") + 200), "data stream"),
        "bomb.png": (png(64, 64, PIXELS, before=chunk(b"zTXt", b"a\0\0" + noise)), "too large"),
        "cmyk.jpg": (encoded(picture.convert("CMYK"), "JPEG"), "CMYK colours"),
        "animated.png": (encoded(picture, "PNG", **second), "several frames"),
        "pages.tif": (encoded(picture, "TIFF", **second), "several frames"),
        "float.tif": (encoded(picture.convert("F"), "TIFF"), "32 bits per value"),
        **{NAMES[key]: (b"no image", "no image") for key in NAMES if key != "bytes"},
    }
    for name, (content, _) in contents.items():
        (root / name).write_bytes(content)
    files = {name: word for name, (_, word) in contents.items()}
    os.mkfifo(root / "pipe.png")
    files["pipe.png"] = "no file|no such file"
    if os.geteuid():
        (root / "locked.png").write_bytes(grey)
        (root / "locked.png").chmod(0)
        files["locked.png"] = "Permission denied"
    return files


def broken_rows(root):
    """Cells of rows that cannot be used, and words of what is told of each."""
    (root / "folder.png").mkdir()
    for name, target in (
        ("away.png", "../outside.png"),
        ("dangling.png", "gone.png"),
        ("circle.png", "circle.png"),
        ("twin.png", "disputed2.png"),
    ):
        (root / name).symlink_to(target)
    return [
        (["", "../outside.png", "x", "AA"], "outside the folder"),
        (["..", "outside.png", "x", "AA"], "outside the folder"),
        (["", str(root.parent / "outside.png"), "x", "AA"], "outside the folder"),
        (["C:\\images", "outside.png", "x", "AA"], "outside the folder"),
        (["", "away.png", "x", "AA"], "outside the folder"),
        (["", "dangling.png", "x", "AA"], "not a file"),
        (["", "circle.png", "x", "AA"], "not a file"),
        (["", "folder.png", "x", "AA"], "not a file"),
        (["", "gone.png", "x", "AA"], "not a file"),
        (["", "\x1b[2Jgone\n.png", "x", "AA"], "not a file"),
        (["", "g" * 5000 + ".png", "x", "AA"], "not a file"),
        (["", "", "x", "AA"], "no file name"),
        (["", "disputed0.png", "e0", "BB"], "grade BB.*grade AA.*line 14: keep one"),
        (["", "disputed1.png", "e5", "AA"], "embryo e5.*embryo e0.*line 15: keep one"),
        (["", "twin.png", "e0", "CC"], "grade CC.*grade AA.*line 16: keep one"),
        (["", "sound02.png", "e1", "AX"], "unknown grade"),
        (["", "sound02.png", "e1", "7AA"], "unknown grade"),
        (["", "sound02.png", "e1", "\x1b]0;title\x07"], "unknown grade"),
        (["", "sound03.png"], "2 cells under 4 columns"),
        (["", "sound03.png", "e1", "AA", "AB"], "5 cells under 4 columns"),
    ]


def encoded(image, kind, **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def halved(content):
    return content[: len(content) // 2]


def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("image.png", "inside")
    return buffer.getvalue()


# of the program alone: getrusage would count what the process was forked from
PROGRAM = """
import sys
from blastogan.__main__ import main
code = main(sys.argv[1:])
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM")))
sys.exit(code)
"""


def measured(*args):
    """Exit code, output and peak memory in MB of a command, which is killed if it hangs."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
        timeout=SECONDS,
    )
    shown, _, peak = done.stdout.decode().rstrip().rpartition("\n")
    return done.returncode, shown, int(peak) / 1024


def assert_all_told(tree, rows, files):
    """Each faulty line and each broken file is in the lists, with what is wrong with it."""
    assert len(rows) == len(tree.rows)
    for row, (line, words) in zip(rows, tree.rows.items(), strict=True):
        assert re.match(rf"metadata\.csv line {line}: .*({words})", row, re.DOTALL), row
    assert sorted(name for name, _ in files) == sorted(tree.files)
    for name, why in files:
        assert re.search(tree.files[name], why), (name, why)
        assert REMEDY.search(why), (name, why)


def test_there_are_enough_kinds_of_faults(tree):
    assert len(tree.files) + len(tree.rows) + len(TABLES) >= 45


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_an_audit_tells_every_fault_in_little_time_and_memory(tree, tmp_path):
    code, shown, memory = measured(
        "audit", tree.root, "--json", tmp_path / "a.json", "--workers", 0
    )
    assert code == 1, shown
    assert memory < MEGABYTES
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["images"] == SOUND
    assert (found["classes"]["AA"], found["classes"]["BB"]) == (6, 6)
    findings = {each["kind"]: each for each in found["findings"]}
    listed = [(each["file"], each["why"]) for each in found["unreadable"]]
    unused = {"dangling.png", "circle.png"}
    assert {name for name, _ in listed} == {*tree.files, *unused}
    assert_all_told(
        tree, findings["rows"]["examples"], [each for each in listed if each[0] in tree.files]
    )
    assert findings["unreadable"]["count"] == len(tree.files)
    for kind in ("rows", "unreadable"):
        assert "--data.faults skip" in findings[kind]["message"]
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "Traceback" not in shown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_the_largest_image_that_is_allowed_takes_little_memory(tmp_path):
    (tmp_path / "AA").mkdir()
    side, upright = 8000, Image.Exif()
    upright[0x0112] = 6
    packer = zlib.compressobj(1)
    row = bytes(1) + bytes([40, 90, 200, 128]) * side
    pixels = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    lying = chunk(b"eXIf", upright.tobytes()[6:])
    content = b"\x89PNG\r\n\x1a\n" + head + lying + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "AA" / "large.png").write_bytes(content)
    code, shown, memory = measured("audit", tmp_path, "--json", tmp_path / "a.json", "--workers", 0)
    assert code == 0, shown
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["sizes"], found["modes"]) == ({"8000x8000": 1}, {"RGBA": 1})
    assert memory < MEGABYTES


@pytest.mark.parametrize("num_workers", [0, 2])
def test_odd_names_are_shown_without_what_a_terminal_would_obey(tmp_path, capfd, num_workers):
    for n, name in enumerate(NAMES.values()):
        (tmp_path / "AA").mkdir(exist_ok=True)
        content = encoded(Image.new("L", (9, 9), 20 * n), "PNG") if n % 2 else b"no image"
        (tmp_path / "AA" / name).write_bytes(content)
    target = tmp_path / "a.json"
    assert blastogan("audit", tmp_path, "--json", target, "--workers", num_workers) == 1
    shown = capfd.readouterr().out
    assert all(line.isprintable() for line in shown.split("\n")), shown
    assert len([line for line in shown.split("\n") if "no image in one of" in line]) == 3
    found = json.loads(target.read_text())
    assert {each["file"] for each in found["unreadable"]} == {
        f"AA/{name}" for name in list(NAMES.values())[::2]
    }


def test_training_refuses_the_set_with_one_list_of_all_faults(tree, schedule):
    with pytest.raises(ProblemList) as caught:
        BlastocystDataModule(schedule, root=str(tree.root)).setup("fit")
    rows, files = caught.value.problems[: len(tree.rows)], caught.value.problems[len(tree.rows) :]
    told = [file.removeprefix(f"{tree.root}/").split(": ", 1) for file in files]
    assert_all_told(tree, rows, told)
    assert "blastogan audit" in str(caught.value)


def test_no_message_of_training_is_obeyed_by_a_terminal(tree, capfd):
    assert blastogan("fit", "--config", "demo", "--data.root", tree.root) == 2
    shown = capfd.readouterr().err
    assert r"\x1b[2Jgone\n.png" in shown
    assert all(line.isprintable() for line in shown.split("\n")), shown


def test_training_without_the_faulty_uses_every_sound_image(tree, schedule, caplog):
    data = BlastocystDataModule(schedule, root=str(tree.root), faults="skip", val_fraction=0.2)
    with caplog.at_level(logging.WARNING, "blastogan"):
        data.setup("fit")
    counts = Counter()
    for part in ("train", "val", "test"):
        counts.update(data.class_counts(part))
    assert +counts == Counter(AA=6, BB=6)
    names = {data.records[n].path.name for part in data.split.values() for n in part}
    assert names == {f"sound{n:02}.png" for n in range(SOUND)}
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape[2:] == (8, 8)
    number = len(tree.files) + len(tree.rows)
    assert f"skipped, {number} faulty images or rows: metadata.csv line 17" in caplog.text


def test_odd_files_that_are_sound_are_decoded(tmp_path, picture):
    grey, upright = encoded(picture, "PNG"), picture.getexif()
    upright[0x0112] = 6
    photo = encoded(picture, "JPEG", exif=upright.tobytes())
    begin = photo.find(b"Exif\0\0")
    loop = bytearray(encoded(picture, "TIFF"))
    directory = int.from_bytes(loop[4:8], "little")
    entries = int.from_bytes(loop[directory : directory + 2], "little")
    following = directory + 2 + 12 * entries
    loop[following : following + 4] = loop[4:8]
    for name, content, size in (
        # the checksum of the pixels' stream is right
        ("crc.png", flipped(grey, len(grey) - 14), (64, 64)),
        ("exif.jpg", photo[: begin + 6] + b"\xff" * 12 + photo[begin + 18 :], (64, 64)),
        ("loop.tif", bytes(loop), (64, 64)),
        ("dot.png", encoded(picture.resize((1, 1)), "PNG"), (1, 1)),
        ("line.png", encoded(picture.resize((1, 20_000)), "PNG"), (1, 20_000)),
    ):
        (tmp_path / name).write_bytes(content)
        assert decode(tmp_path / name, 1).size == size, name


HEAD = "filename,grade,embryo_guid\n"
LINES = "".join(f"{n}.png,{grade},e{n}\n" for n, grade in enumerate(["AA", "BB"] * 2))
WHOLE = HEAD + LINES
# what lies there: a text, bytes, or what makes it; and what is told of it
TABLES = {
    "column missing": ("filename,mark,x\n" + LINES, "missing grade"),
    "columns twice": ("filename,grade,Grade\n" + LINES, "column grade more than once"),
    "no header": (LINES, "missing filename, grade"),
    "spaces": (WHOLE.replace(",", " "), "Columns are separated by a comma"),
    "slashes": (WHOLE.replace(",", "/"), "Columns are separated by a comma"),
    "UTF-16 without a mark": (WHOLE.encode("utf-16-le"), "save it as CSV UTF-8"),
    "UTF-16 cut": (WHOLE.encode("utf-16")[:-1], "save it as CSV UTF-8"),
    "UTF-32": (WHOLE.encode("utf-32"), "save it as CSV UTF-8"),
    "binary": (bytes(range(256)) * 64, "save it as CSV UTF-8"),
    "workbook": (archive(), "save it as CSV UTF-8"),
    "empty": ("", "is empty: expected a header and a row"),
    "blank": (" \n,,\n\n", "is empty: expected a header and a row"),
    "header alone": (HEAD, "is empty: expected a header and a row"),
    "quote": (HEAD + LINES + '0.png,"AA,e0\n' + LINES, "line 6: .*close every opening quote"),
    "quote within": (HEAD + '0.png,"AA"x,e0\n' + LINES, "line 2: .*close every opening quote"),
    "long field": (HEAD + LINES + "A" * 200_000, "line 6: field larger"),
    "long header": ("a" * 200_000 + "\n" + WHOLE, "line 1: field larger"),
    "wide header": ("ab" * 60_000 + "\n" + WHOLE, "missing filename, grade"),
    "page": ("<html>\n<body>not found</body>\n", "missing filename, grade"),
    "large": (lambda path: os.truncate(touched(path), 300_000_000), "300 MB, expected at most 200"),
    "folder": (Path.mkdir, "is not a file"),
    "pipe": (os.mkfifo, "is not a file"),
    "link to nothing": (lambda path: path.symlink_to("gone"), "is not a file"),
    "link to itself": (lambda path: path.symlink_to(path), "is not a file"),
    "locked": (lambda path: touched(path).chmod(0), "cannot be read .*make it readable"),
}


def touched(path):
    path.touch()
    return path


def lay(path, content):
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_broken_as_a_whole_is_told(tmp_path, name):
    if name == "locked" and not os.geteuid():
        pytest.skip("root may read everything")
    content, told = TABLES[name]
    for n in range(4):
        Image.new("L", (9, 9), 60 * n).save(tmp_path / f"{n}.png")
    lay(tmp_path / "metadata.csv", content)
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"metadata\.csv.*{told}") as caught:
        scan_graded_images(tmp_path)
    assert len(str(caught.value)) < 1000
    found = audit_images(tmp_path, pixels=False)
    assert [(fault.kind, fault.message) for fault in found.faults] == [
        ("layout", str(caught.value))
    ]
    assert not found.sound
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", ["pipe", "folder", "binary"])
def test_another_table_that_is_broken_stops_no_search_for_the_layout(tmp_path, name):
    for grade in ("AA", "BB"):
        (tmp_path / grade).mkdir()
        Image.new("L", (9, 9)).save(tmp_path / grade / "0.png")
    lay(tmp_path / "other.csv", TABLES[name][0])
    assert scan_graded_images(tmp_path).format == "folders"


@pytest.mark.parametrize("name", ["pipe", "folder", "link to nothing"])
def test_a_named_table_that_is_no_file_is_told(tmp_path, name):
    Image.new("L", (9, 9)).save(tmp_path / "0.png")
    lay(tmp_path / "marks.csv", TABLES[name][0])
    assert blastogan("audit", tmp_path, "--table", "marks.csv", "--labels-only") == 2
