"""Grades in the names of files and folders, and where sources of grades disagree."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tables import embryos, grades, names, problems, write_images

from blastogan.data.readers import has_known_layout, read_graded_images, scan_graded_images
from blastogan.data.readers.options import ReaderOptions
from blastogan.errors import ProblemList, UserError

DATA = Path(__file__).parents[3] / "shared/data"
CLASSES = "AA 57, AB 8, BA 8, BB 10, BC 4, CA 3, CB 2, CC 14"


def read(root, *paths, **options):
    """Grade and embryo by path; the embryo is empty if the image is one of its own."""
    table = read_graded_images(write_images(root, *paths), ReaderOptions(**options))
    found = zip(names(table), grades(table), embryos(table), strict=True)
    return {name: (grade, "" if embryo == name else embryo) for name, grade, embryo in found}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["3AA (10).bmp", "4 bb (2).bmp", "5CC.bmp"], [("3AA", ""), ("4BB", ""), ("5CC", "")]),
        (["4AB_0012.png", "4AB_0012_f3.png", "CC_7.png"],
         [("4AB", "0012")] * 2 + [("CC", "7")]),
        (["4AB_1.png", "4BB_1.png", "4BB_2.png"], [("4AB", ""), ("4BB", ""), ("4BB", "")]),
        (["0012-4ab.png", "0013-3a-b+.png"], [("4AB", "0012"), ("3A-B+", "0013")]),
        (["EMB12_5BA_f3.png", "EMB12_5BA_f4.png"], [("5BA", "EMB12")] * 2),
        (["P1_110.5h_4AA.png", "P1_111.5h_4AA.png", "P2_9h_CC.png"],
         [("4AA", "P1")] * 2 + [("CC", "P2")]),
        (["E1_z-15_4AA.png", "E1_plane3_4AA.png"], [("4AA", "E1")] * 2),
        # the only number that tells these apart is no focal plane
        (["embryo_1_4AA.png", "embryo_2_4AA.png"], [("4AA", "embryo_1"), ("4AA", "embryo_2")]),
    ],
)  # fmt: skip
def test_common_forms_of_names(tmp_path, paths, expected):
    assert read(tmp_path, *paths) == dict(zip(paths, expected, strict=True))


def test_words_and_initials_are_no_grades(tmp_path):
    paths = ["bad_1.png", "cab_2.png", "AB12.png", "dad.png", "AB_7.png", "KM_3.png", "LS_4.png"]
    assert set(read(tmp_path, *paths).values()) == {("xx", "")}
    assert not has_known_layout(tmp_path)
    table = read_graded_images(tmp_path)
    assert (table.format, table.unlisted) == ("ungraded", tuple(sorted(paths, key=str)))
    assert "7 images have no grade" in table.notes[0]


def test_names_of_one_form_count_among_others(tmp_path):
    clear = [f"a/4AB ({n}).png" for n in range(6)]
    other = [f"b/D5_{n:03}.jpg" for n in range(30)]
    found = read(tmp_path, *clear, *other, "b/4AB rest.png")
    assert [name for name, (grade, _) in found.items() if grade == "4AB"] == clear


def test_ungraded_images_and_stages(tmp_path):
    paths = ["AA/1.png", "4 BB/2.png", "new/3.png", "Morula/4.png", "EB/5.png", "masks/a/6.png"]
    table = read_graded_images(write_images(tmp_path, *paths[:-1]))
    assert dict(zip(names(table), grades(table), strict=True)) == {
        "4 BB/2.png": "4BB", "AA/1.png": "AA", "new/3.png": "xx",
    }  # fmt: skip
    assert [why for _, why in table.dropped] == ["grade EB", "grade MORULA"]
    rest = tmp_path / "rest"
    write_images(rest, "1.png", "p7_2.png", "masks/a/6.png", "M/3.png")
    assert read(rest, embryo_pattern="(.)[.]png") == {
        "1.png": ("xx", "1"), "M/3.png": ("xx", "3"), "p7_2.png": ("xx", "2"),
    }  # fmt: skip
    with pytest.raises(UserError, match="ungraded"):
        read_graded_images(rest, ReaderOptions(ungraded="drop"))
    with pytest.raises(UserError, match="no graded image is left"):
        read_graded_images(rest, ReaderOptions("ungraded", ungraded="drop"))


@pytest.mark.parametrize("name", ["grades.xlsx", "grades.ods", "grades.csv"])
def test_a_file_that_may_hold_grades_is_not_passed_over(tmp_path, name):
    write_images(tmp_path, "1.png")
    (tmp_path / name).write_text("picture,score\n1.png,AA\n")
    with pytest.raises(UserError, match=name):
        read_graded_images(tmp_path)
    assert grades(read_graded_images(tmp_path, "ungraded")) == ["xx"]


class TestPattern:
    PATHS = ("p1/day5 AB.png", "p1/day6 AB.png", "p2/day5 CC.png", "p2/other.png")

    def test_grade_and_embryo_by_groups(self, tmp_path):
        pattern = r"(?P<embryo>[^/]+)/day(?P<expansion>\d) (?P<icm>.)(?P<te>.)"
        assert read(tmp_path, *self.PATHS, grade_pattern=pattern) == {
            "p1/day5 AB.png": ("5AB", "p1"),
            "p1/day6 AB.png": ("6AB", "p1"),
            "p2/day5 CC.png": ("5CC", "p2"),
            "p2/other.png": ("xx", ""),
        }
        notes = read_graded_images(tmp_path, ReaderOptions(grade_pattern=pattern)).notes
        assert "in 1 of 4 images, such as p2/other.png" in " ".join(notes)

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("(", "not a regular expression"),
            ("(..)", "groups"),
            ("(?P<icm>.)", "groups"),
            ("(?P<grade>.)(?P<patient>.)", "groups"),
            ("(?P<grade>9AA)", "matches none of the 4"),
        ],
    )
    def test_bad_ones(self, tmp_path, pattern, message):
        with pytest.raises(UserError, match=message):
            read(tmp_path, *self.PATHS, grade_pattern=pattern)


class TestDisputes:
    def test_folder_and_name(self, tmp_path):
        paths = ["AA/4AA (1).png", "AA/4BC (2).png", "CC/3CC.png", "Cleavage/3AB.png"]
        (problem,) = problems(write_images(tmp_path, *paths))
        for text in ("2 of 4 images", "AA/4BC (2).png (name 4BC, folder AA)", "--trust"):
            assert text in problem
        table = scan_graded_images(tmp_path)
        assert (len(table.records), len(table.disputes)) == (2, 3)
        by_name = read_graded_images(tmp_path, ReaderOptions(trust="name"))
        assert grades(by_name) == ["4AA", "4BC", "3CC", "3AB"]
        by_folder = read_graded_images(tmp_path, ReaderOptions(trust="folder"))
        assert grades(by_folder) == ["AA", "AA", "CC"]
        assert "folder is trusted" in " ".join(by_folder.notes)

    def test_table_and_name(self, tmp_path):
        write_images(tmp_path, *(f"x/e{n}_4AA.png" for n in range(4)))
        rows = [f"e{n}_4AA.png,{'AB' if n == 3 else '3AA'}" for n in range(4)]
        (tmp_path / "t.csv").write_text("\n".join(["file,grade", *rows]))
        assert "x/e3_4AA.png (table AB, name 4AA)" in problems(tmp_path)[0]
        by_name = read_graded_images(tmp_path, ReaderOptions(trust="name"))
        assert grades(by_name) == ["4AA"] * 4
        by_table = read_graded_images(tmp_path, ReaderOptions(trust="table"))
        assert grades(by_table) == ["3AA", "3AA", "3AA", "AB"]

    def test_initials_in_names_do_not_dispute_a_table(self, tmp_path):
        write_images(tmp_path, *(f"AB_{n}.png" for n in range(4)))
        rows = [f"AB_{n}.png,{grade}" for n, grade in enumerate(("AA", "CC", "AB", "BB"))]
        (tmp_path / "t.csv").write_text("\n".join(["file,grade", *rows]))
        assert grades(read_graded_images(tmp_path)) == ["AA", "CC", "AB", "BB"]


def test_prefixes_mark_a_split_only_beside_other_embryos(tmp_path):
    write_images(tmp_path, "good_1_0_AA.png", "poor_2_0_BB.png")
    table = read_graded_images(tmp_path)
    assert ({record.part for record in table.records}, table.split_by) == ({""}, "")
    write_images(tmp_path, "3_0_AA.png")
    table = read_graded_images(tmp_path)
    assert [record.part for record in table.records] == ["train", "test", "test"]
    assert "good_" in table.split_by


def test_shared_beginnings_of_names_are_noted(tmp_path):
    write_images(tmp_path, *(f"AA/P{n // 4}_left{n}.png" for n in range(12)))
    notes = " ".join(read_graded_images(tmp_path).notes)
    assert "3 beginnings, such as P0" in notes
    pattern = notes.rpartition("embryo_pattern to '")[2].partition("'")[0]
    table = read_graded_images(tmp_path, ReaderOptions(embryo_pattern=pattern))
    assert set(embryos(table)) == {"P0", "P1", "P2"}


@pytest.mark.skipif(not DATA.is_dir(), reason="the trial images are not here")
def test_real_sets():
    mixed = ReaderOptions(trust="name")
    assert f"by name {CLASSES}" in problems(DATA / "clinic-graded")[0]
    table = read_graded_images(DATA, mixed)
    assert {name: count for name, count in table.counts().items() if count} == {
        "AA": 92, "AB": 15, "BA": 8, "BB": 52, "BC": 4, "CA": 3, "CB": 2, "CC": 14,
    }  # fmt: skip
    assert (table.incomplete(), len(table.dropped)) == ({"ungraded": 240}, 22)
    with pytest.raises(ProblemList):
        read_graded_images(DATA)
