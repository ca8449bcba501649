"""Readers of a clinic's table, graded names and class folders, and the choice among readers."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from helpers.tables import embryos, grades, names, problems, write_images

from blastogan.data.readers import READERS, read_graded_images, scan_graded_images
from blastogan.data.readers.options import ReaderOptions
from blastogan.errors import UserError

STORK = Path(__file__).parents[3] / "shared/data/stork"
DROP = ReaderOptions(ungraded="drop")
HEADER = "folder,filename,embryo_ivf_id,embryo_guid,stage,guid,thawed,grade"


def write_table(root: Path, *lines: str) -> Path:
    (root / "metadata.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return root


class TestClinicTable:
    def test_reads_grades_embryos_and_order(self, tmp_path):
        write_images(tmp_path, "b/2.png", "a/1.png", "a/3.png")
        write_table(
            tmp_path, "b,2.png,7,g2,5,x,0,4AB", "a,3.png,8,g1,5,y,0,3A-B+", "a,1.png,8,g1,5,z,1,cb"
        )
        table = read_graded_images(tmp_path)
        assert table.format == "clinic"
        assert names(table) == ["a/1.png", "a/3.png", "b/2.png"]
        assert grades(table) == ["CB", "3A-B+", "4AB"]
        assert embryos(table) == ["g1", "g1", "g2"]
        assert table.records[1].grade.name == "AB"

    @pytest.mark.parametrize("separator", [",", ";"])
    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_dialects(self, tmp_path, separator, bom, newline):
        write_images(tmp_path, "p, q; 1/a.png")
        lines = [
            ["folder", "filename", "grade", ""],
            ['"p, q; 1"', " a.png ", '"AB"', ""],
            [""],
            [],
        ]
        text = newline.join(separator.join(cells) for cells in lines)
        (tmp_path / "metadata.csv").write_bytes(bom + text.encode())
        table = read_graded_images(tmp_path)
        assert names(table) == ["p, q; 1/a.png"]
        assert grades(table) == ["AB"]

    def test_only_filename_and_grade_are_required(self, tmp_path):
        write_images(tmp_path, "a.png", "b.png")
        (tmp_path / "metadata.csv").write_text("Grade,Filename\nAA,a.png\nBB,b.png\n")
        table = read_graded_images(tmp_path)
        assert (grades(table), embryos(table)) == (["AA", "BB"], ["a.png", "b.png"])

    def test_embryo_falls_back(self, tmp_path):
        write_images(tmp_path, *(f"{letter}.png" for letter in "abcde"))
        write_table(
            tmp_path,
            ",a.png,7,,,,,AA",
            ",b.png,7,g1,,,,AA",
            ",c.png,8,NA,,,,AA",
            ",d.png,,,,,,AA",
            ",e.png,9,g2,,,,AA",
        )
        # a shares the embryo_ivf_id of b, and so its embryo
        assert embryos(read_graded_images(tmp_path)) == ["g1", "g1", "8", "d.png", "g2"]

    @pytest.mark.parametrize(
        "word", ["na", "N/A", "nan", "None", "NULL", "unknown", "unk", "ND", "-", "--", "?", ""]
    )
    def test_placeholders_name_no_embryo(self, tmp_path, word):
        write_images(tmp_path, "a.png", "b.png", "c.png")
        write_table(
            tmp_path, f",a.png,{word},g,,,,AA", f",b.png,{word},,,,,AA", f",c.png,0,{word},,,,AA"
        )
        table = read_graded_images(tmp_path)
        assert embryos(table) == ["g", "b.png", "0"]
        assert table.notes[0].startswith("1 of 3 images")

    def test_a_file_name_alone_is_found_in_a_subfolder(self, tmp_path):
        root = write_images(tmp_path / "root", "x/1.png", "2.png", "x/2.png", "x/3.png", "y/3.PNG")
        (write_images(tmp_path, "out.png") / "root/x/4.png").symlink_to(tmp_path / "out.png")
        write_table(root, *(f",{name},,,,,,AA" for name in ("1.PNG", "2.PNG", "3.png", "4.png")))
        table = scan_graded_images(root, DROP)
        assert names(table) == ["2.png", "x/1.png"]
        (note,) = table.notes
        assert note.startswith("1 images")
        ambiguous, outside = table.problems
        assert ambiguous.startswith("metadata.csv line 4: '3.png' may be x/3.png or y/3.PNG")
        assert outside.startswith("metadata.csv line 5: 'x/4.png' points outside")
        assert table.unlisted == ("x/2.png",)

    def test_images_that_are_not_used_still_count_as_listed(self, tmp_path):
        root = write_images(tmp_path / "root", "x/Img.PNG", "A.png", "b.png", "C.png")
        (write_images(tmp_path, "out.png") / "root/link.png").symlink_to(tmp_path / "out.png")
        write_table(
            root, "X,img.png,,,,,,NA", ",a.png,,,,,,ND", ",b.png,,,,,,AA,x", ",./LINK.png,,,,,,AA"
        )
        table = scan_graded_images(root, DROP)
        assert (len(table.dropped), len(table.problems)) == (2, 2)
        assert table.unlisted == ("C.png",)

    def test_not_gradable_rows_are_dropped(self, tmp_path):
        write_images(tmp_path, "a.png", "b.png", "c.png", "d.png")
        write_table(
            tmp_path,
            ",a.png,,,,,,AA",
            ",b.png,,,,,,NA",
            ",c.png,,,,,,nd",
            ",d.png,,,,,,",
            ",x,,,,,,NA",
        )
        table = read_graded_images(tmp_path, DROP)
        assert names(table) == ["a.png"]
        assert table.dropped == (
            ("b.png", "grade NA"),
            ("c.png", "grade ND"),
            ("d.png", "grade empty"),
            ("x", "grade NA"),
        )
        assert table.summary().endswith(
            "1 images. Images by class: AA 1. Dropped: 4 (grade NA 2, grade ND 1, grade empty 1)."
        )
        assert "1 images, 4 dropped, 0 problems" in repr(table)

    def test_listed_twice(self, tmp_path):
        write_images(tmp_path, "a/1.png")
        write_table(tmp_path, "a,1.png,,g,,,,AB", "./a,1.png,,g,,,,AB", ",a/1.png,,g,,,,AB")
        table = read_graded_images(tmp_path)
        assert names(table) == ["a/1.png"]
        assert table.dropped == (("a/1.png", "listed twice"),) * 2

    @pytest.mark.parametrize("other", ["g,,,,AC", "h,,,,AB"])
    def test_listed_twice_with_two_grades_or_embryos(self, tmp_path, other):
        write_images(tmp_path, "1.png")
        write_table(tmp_path, ",1.png,,g,,,,AB", f",1.png,,{other}")
        (problem,) = problems(tmp_path)
        assert problem.startswith("metadata.csv line 3: 1.png has grade A")
        assert "grade AB, embryo g at metadata.csv line 2" in problem
        assert scan_graded_images(tmp_path).records == ()

    def test_every_problem_is_listed_with_its_line(self, tmp_path):
        root = write_images(tmp_path / "root", "1.png", "2.png")
        write_images(tmp_path, "out.png", "outside/in.png")
        (root / "link.png").symlink_to(tmp_path / "out.png")
        (root / "linked").symlink_to(tmp_path / "outside")
        (root / "loop.png").symlink_to(root / "loop.png")
        cells = [
            ("", "1.png", "AX"),
            ("", "2.png", "AD"),
            ("", "missing.png", "AA"),
            ("..", "out.png", "AA"),
            ("", str(tmp_path / "out.png"), "AA"),
            ("/", "out.png", "AA"),
            ("C:", "out.png", "AA"),
            ("", "..\\out.png", "AA"),
            ("", "\\\\host\\share\\out.png", "AA"),
            ("", "link.png", "AA"),
            ("linked", "in.png", "AA"),
            ("", "loop.png", "AA"),
            ("", "n" * 5000, "AA"),
            ("", "nul\0.png", "AA"),
            ("", "", "AA"),
            ("x", "../1.png", "1"),
        ]
        write_table(
            root,
            *(f"{folder},{name},,,,,,{grade}" for folder, name, grade in cells),
            "a,b",
            ",1.png,,,,,,AA,x",
        )
        found = problems(root)
        lines = [int(problem.split("line ")[1].split(":")[0]) for problem in found]
        assert lines == [*range(2, 17), 17, 17, 18, 19]
        kinds = [
            next(kind for kind in ("grade", "outside", "file", "cells") if kind in problem)
            for problem in found
        ]
        assert kinds == (
            ["grade"] * 2
            + ["file"]
            + ["outside"] * 8
            + ["file"] * 4
            + ["grade", "outside", "cells", "cells"]
        )
        assert "'AX'" in found[0]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"folder,filename\n,a.png\n", "missing grade"),
            (b"", "is empty"),
            (b"filename,grade\n", "is empty"),
            (b"filename,grade,grade\na.png,AA,AB\n", "column grade more than"),
            (b"filename,grade\n\x00\xff.png,AA\n", "UTF-8"),
            (b'filename,grade\na.png,AA\n"a.png,AA\n', "line 3: .*quote"),
        ],
    )
    def test_no_table(self, tmp_path, content, message):
        write_images(tmp_path, "a.png")
        (tmp_path / "metadata.csv").write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_graded_images(tmp_path)


class TestGradedNames:
    def test_planes_prefixes_and_modifiers(self, tmp_path):
        write_images(
            tmp_path,
            "34107362_-15_3AA-.jpg",
            "test/good_34107362_0_3AA-.jpg",
            "test/poor_41019399_-45_1B-B-.jpg",
            "clinic_2_77_+15_ab.tiff",
            "99_CC.BMP",
            "98_0_ND.png",
            "notes.txt",
            ".hidden/1_0_AA.png",
            "test/.1_0_AA.png",
        )
        table = read_graded_images(tmp_path)
        assert table.format == "names"
        found = dict(
            zip(names(table), zip(grades(table), embryos(table), strict=True), strict=True)
        )
        assert found == {
            "34107362_-15_3AA-.jpg": ("3AA-", "34107362"),
            "99_CC.BMP": ("CC", "99"),
            "clinic_2_77_+15_ab.tiff": ("AB", "clinic_2_77"),
            "test/good_34107362_0_3AA-.jpg": ("3AA-", "34107362"),
            "test/poor_41019399_-45_1B-B-.jpg": ("1B-B-", "41019399"),
        }
        assert list(found) == sorted(found)
        assert table.dropped == (("98_0_ND.png", "grade ND"),)

    def test_parts_are_folders_or_prefixes(self, tmp_path):
        write_images(tmp_path, "train/1_0_AA.png", "val/x/2_0_AA.png", "test_set/3_0_AA.png")
        parts = {r.embryo: r.part for r in read_graded_images(tmp_path, "names").records}
        assert parts == {"1": "train", "2": "val", "3": "test"}
        write_images(tmp_path, "val/good_4_0_AA.png", "new/poor_5_0_CC.png", "new/6_0_AA.png")
        more = {r.embryo: r.part for r in read_graded_images(tmp_path, "names").records}
        assert more == {**parts, "4": "val", "5": "test", "6": "train"}

    def test_problems(self, tmp_path):
        write_images(tmp_path / "root", "1_0_AA.png", "2_0_AA.png", "3_0_AX.png", "x.png")
        write_images(tmp_path, "out.png")
        (tmp_path / "root" / "4_0_BB.png").symlink_to(tmp_path / "out.png")
        found = problems(tmp_path / "root")
        assert [problem.split(":")[0] for problem in found] == ["3_0_AX.png", "4_0_BB.png"]
        assert scan_graded_images(tmp_path / "root").unlisted == ("x.png",)

    @pytest.mark.skipif(not STORK.is_dir(), reason="the STORK sample is not here")
    def test_stork(self):
        table = read_graded_images(STORK)
        assert table.format == "names"
        assert len(table.records) == 84
        assert len(set(embryos(table))) == 12
        by_name = {record.path.name: record for record in table.records}
        grade = by_name["34107362_-15_3AA-.jpg"].grade
        assert (grade.name, grade.expansion) == ("AA", 3)
        assert by_name["41019399_-45_1B-B-.jpg"].grade.name == "BB"
        assert by_name["41019399_-45_1B-B-.jpg"].embryo == "41019399"


class TestClassFolders:
    def test_case_digits_and_depth(self, tmp_path):
        write_images(tmp_path, "AA/1.png", "ab/deep/2.jpg", "4bb/3.tif", "ND/4.png", "CC/notes.txt")
        table = read_graded_images(tmp_path)
        assert table.format == "folders"
        assert names(table) == ["4bb/3.tif", "AA/1.png", "ab/deep/2.jpg"]
        assert grades(table) == ["4BB", "AA", "AB"]
        assert embryos(table) == names(table)
        assert table.dropped == (("ND/4.png", "grade ND"),)
        assert table.counts() == {
            **dict.fromkeys(["AA", "AB", "AC", "BA", "BB", "BC", "CA", "CB", "CC", "DD"], 0),
            **{"AA": 1, "AB": 1, "BB": 1},
        }

    def test_problems(self, tmp_path):
        write_images(tmp_path, "AA/1.png", "AX/2.png", "AX/3.png", "misc/4.png", "5.png")
        assert problems(tmp_path) == ["folder AX/: unknown grade 'AX'"]
        table = scan_graded_images(tmp_path)
        assert table.unlisted == ("5.png", "misc/4.png")
        assert dict(zip(names(table), grades(table), strict=True)) == {
            "5.png": "xx", "AA/1.png": "AA", "misc/4.png": "xx",
        }  # fmt: skip
        table = scan_graded_images(tmp_path, DROP)
        assert names(table) == ["AA/1.png"]
        assert [name for name, _ in table.dropped] == ["5.png", "misc/4.png"]

    @pytest.mark.parametrize(
        ("folder", "part"),
        [
            *[(name, "train") for name in ("train_set", "Training", "training_set", "trainset")],
            *[(name, "val") for name in ("val_set", "validation-set", "dev", "Validation set")],
            *[(name, "test") for name in ("test_set", "Test set", "testset", "testing")],
        ],
    )
    def test_names_of_parts(self, tmp_path, folder, part):
        write_images(tmp_path, f"{folder}/AA/1.png")
        assert [record.part for record in read_graded_images(tmp_path).records] == [part]

    def test_same_file_in_two_classes(self, tmp_path):
        write_images(tmp_path, "AA/1.png", "BB/2.png")
        (tmp_path / "BB" / "1.png").symlink_to(tmp_path / "AA" / "1.png")
        assert "BB/1.png has grade BB" in problems(tmp_path)[0]

    def test_links_to_folders_are_reported(self, tmp_path):
        write_images(tmp_path, "root/AA/1.png", "other/2.png")
        (tmp_path / "root" / "BB").symlink_to(tmp_path / "other")
        table = read_graded_images(tmp_path / "root")
        assert names(table) == ["AA/1.png"]
        assert table.dropped == (("BB", "link to a folder"),)


@pytest.mark.parametrize("pattern", [r"(\d+)?_", r"(/)(?P<embryo>\d+)?_", r"(\d*)_", r"\d*"])
def test_an_embryo_pattern_whose_group_is_empty_is_a_fault(tmp_path, pattern):
    write_images(tmp_path, "AA/17_1.png", "AA/_0.png")
    problems = scan_graded_images(tmp_path, ReaderOptions(embryo_pattern=pattern)).problems
    assert problems[-1].startswith(f"folder AA/: the embryo_pattern {pattern!r}")
    assert problems[-1].endswith("AA/_0.png")


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    created = [f"{folder}/{n}.png" for folder in ("BB", "AA", "AA/x", "AA-") for n in (10, 9, 2)]
    write_images(tmp_path, *created)
    walk = os.walk

    def shuffled(*args, **kwargs):
        for parent, folders, files in walk(*args, **kwargs):
            random.Random(1).shuffle(folders)
            random.Random(2).shuffle(files)
            yield parent, folders, files

    monkeypatch.setattr(os, "walk", shuffled)
    assert names(read_graded_images(tmp_path)) == sorted(created)


def test_a_forced_format_wins(tmp_path):
    write_images(tmp_path, "BB/1_0_AA.png", "BB/1_15_AA.png")
    assert grades(read_graded_images(tmp_path, "names")) == ["AA", "AA"]
    assert grades(read_graded_images(str(tmp_path), "folders")) == ["BB", "BB"]
    assert "BB/1_0_AA.png" in problems(tmp_path)[0]
    with pytest.raises(UserError, match=r"metadata\.csv is missing"):
        read_graded_images(tmp_path, "clinic")
    with pytest.raises(UserError, match="'stork': expected auto, kromp, nantes,"):
        read_graded_images(tmp_path, "stork")


def test_invalid_roots(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_graded_images(tmp_path / "none")
    write_images(tmp_path, "file.png", "empty/notes.txt", "ND/1.png", "plain/a.png", "plain/b.png")
    with pytest.raises(UserError, match="is a file"):
        read_graded_images(tmp_path / "file.png")
    with pytest.raises(UserError, match="has no images"):
        read_graded_images(tmp_path / "empty")
    with pytest.raises(UserError, match="no known layout") as caught:
        read_graded_images(tmp_path / "plain", DROP)
    assert "2 images, such as a.png, b.png" in str(caught.value)
    assert all(f"{reader.format}: {reader.layout}" in str(caught.value) for reader in READERS)
    (tmp_path / "file.png").unlink()
    write_images(tmp_path / "only", "1_0_ND.png", "2_0_AA.png")
    (tmp_path / "only" / "2_0_AA.png").rename(tmp_path / "only" / "2_0_NA.png")
    with pytest.raises(UserError, match="no graded image"):
        read_graded_images(tmp_path / "only", ReaderOptions("names", ungraded="drop"))
