"""Tables and folders as clinics have them: spellings, paths, embryos, files of other programs."""

from __future__ import annotations

import pytest
from helpers.tables import embryos, grades, names, write_images

from blastogan.data.datamodule import BlastocystDataModule
from blastogan.data.readers import READERS, read_graded_images, scan_graded_images
from blastogan.data.readers.options import ReaderOptions
from blastogan.errors import UserError


def read(root, header, *rows, images=None, name="t.csv", **options):
    """Table of a folder with images named by the first cells of the rows, or by `images`."""
    write_images(root, *(images or [row.split(",")[0] for row in rows]))
    (root / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return scan_graded_images(root, ReaderOptions(**options))


@pytest.mark.parametrize(
    ("cell", "grade"),
    [
        ("4 AB", "4AB"), ("3 bb", "3BB"), ("5 A/B", "5AB"), ("4A/B-", "4AB-"), ("4-AB", "4AB"),
        ("AB 4", "4AB"), ("Grade 4AB", "4AB"), ("4AB (good)", "4AB"), ("D5 4AB", "4AB"),
        ("4A?", "4Ax"), ("nan", "xx"), ("None", "xx"), ("-", "xx"), ("unknown", "xx"),
    ],
)  # fmt: skip
def test_grades_as_people_write_them(tmp_path, cell, grade):
    table = read(tmp_path, "file,grade", f"1.png,{cell}")
    assert (grades(table), table.problems) == ([grade], ())


@pytest.mark.parametrize("cell", ["EB", "M", "HB", "arrested", "morula", "Cleavage", "8-cell"])
def test_stages_are_not_gradable(tmp_path, cell):
    table = read(tmp_path, "file,grade", f"1.png,{cell}", "2.png,AA")
    assert (grades(table), table.problems) == (["AA"], ())
    assert table.dropped == (("1.png", f"grade {cell.upper()}"),)


@pytest.mark.parametrize("cell", ["4AB (3BB)", "4AB (morula)", "4AB 5", "AD", "bad", "4"])
def test_what_is_not_clear_is_not_read(tmp_path, cell):
    (problem,) = read(tmp_path, "file,grade", f"1.png,{cell}").problems
    assert repr(cell) in problem


def test_values_are_listed_once_and_given_a_meaning(tmp_path):
    rows = [*(f"{n}.png,top" for n in range(5)), "5.png,poor", "6.png,АВ", "7.png,later"]
    table = read(tmp_path, "file,grade", *rows)
    top, poor, foreign, _ = table.problems
    assert (top.split(":")[0], "4 more" in top, "more" in poor) == ("t.csv line 2", True, False)
    assert "cyrillic" in foreign
    table = read(tmp_path, "file,grade", *rows, grade_map="Top=4AA, poor=CC, АВ=AB, later=NA")
    assert grades(table) == ["4AA"] * 5 + ["CC", "AB", "xx"]
    for bad in ("top", "top=Q", "top=AA,top=BB"):
        with pytest.raises(UserError, match="grade_map"):
            ReaderOptions(grade_map=bad)
    letters = read(tmp_path / "l", "file,icm,te", "1.png,1,2", grade_map={"1": "A", "2": "B"})
    assert grades(letters) == ["AB"]


def test_a_column_is_given_back(tmp_path):
    rows = ["1.png,AA,7", "2.png,AB,8"]
    assert embryos(read(tmp_path, "file,grade,embryo", *rows, columns="embryo=")) == [
        "1.png",
        "2.png",
    ]
    table = read(tmp_path, "file,icm,te,exp", "1.png,A,A,3", columns="expansion=")
    assert grades(table)[0] == "AA"


class TestEmbryos:
    @pytest.mark.parametrize("column", ["Embryo ID", "Embryo No.", "EMBRYO_ID", "patient id"])
    def test_spellings_of_the_column(self, tmp_path, column):
        table = read(tmp_path, f"file,grade,{column}", "1.png,AA,e1", "2.png,AA,e1")
        assert embryos(table) == ["e1", "e1"]
        assert column.lower() in table.embryos_by

    def test_numbers_within_patients(self, tmp_path):
        rows = [f"{n}.png,AA,P{n // 4},{n % 2}" for n in range(8)]
        table = read(tmp_path, "file,grade,patient,embryo", *rows)
        assert sorted(set(embryos(table))) == ["P0/0", "P0/1", "P1/0", "P1/1"]
        assert "patient and embryo" in table.embryos_by
        told = read(tmp_path, "file,grade,patient,embryo", *rows, columns="embryo=embryo")
        assert set(embryos(told)) == {"0", "1"}
        assert "embryo=patient+embryo" in told.notes[0]
        both = read(tmp_path, "file,grade,patient,embryo", *rows, columns="embryo=patient+embryo")
        assert embryos(both) == embryos(table)

    def test_embryos_that_no_patient_shares_keep_their_names(self, tmp_path):
        rows = ["1.png,AA,P1,e1", "2.png,AA,P1,e2", "3.png,AA,P2,e3"]
        assert embryos(read(tmp_path, "file,grade,patient,embryo", *rows)) == ["e1", "e2", "e3"]

    def test_a_clinics_table_with_another_column(self, tmp_path):
        table = read(tmp_path, "filename,grade,Embryo ID", "1.png,AA,e1", name="metadata.csv")
        assert (table.format, embryos(table)) == ("clinic", ["e1"])

    def test_numbers_that_a_spreadsheet_has_shortened(self, tmp_path):
        (problem,) = read(tmp_path, "file,grade,embryo", "1.png,AA,3.4E+07", "2.png,AB,3.4E+07"
                          ).problems  # fmt: skip
        assert ("spreadsheet" in problem, "1 more" in problem) == (True, True)


class TestPaths:
    def test_paths_of_another_machine(self, tmp_path):
        rows = [
            r"C:\Users\x\AA\1.png,AA", r"D:\new\2.png,BB", f"{tmp_path}/3.png,CC", "/x/AA/1.png,AA"
        ]  # fmt: skip
        images = ["AA/1.png", "BB/1.png", "sub/2.png", "3.png"]
        table = read(tmp_path, "file,grade", *rows, images=images, ungraded="drop")
        assert (names(table), table.problems) == (["3.png", "AA/1.png", "sub/2.png"], ())
        assert any(note.startswith("4 images are listed with a path") for note in table.notes)

    @pytest.mark.parametrize("path", ["C:/x/1.png", "/etc/gone.png", "//host/share/gone.png"])
    def test_what_is_not_clear_is_a_fault(self, tmp_path, path):
        table = read(tmp_path, "file,grade", f"{path},AA", images=["AA/1.png", "BB/1.png"])
        assert len(table.problems) == 1

    def test_missing_suffixes(self, tmp_path):
        images = ["000.png", "a/001.jpg", "2.png", "2.tif"]
        table = read(tmp_path, "file,grade", "000,AA", "a/001,BB", "2,CC", images=images)
        assert grades(table)[:1] + grades(table)[-1:] == ["AA", "BB"]
        assert "2.png or 2.tif" in table.problems[0]
        assert any("suffix" in note for note in table.notes)

    def test_a_row_without_a_grade_needs_no_image(self, tmp_path):
        table = read(tmp_path, "file,grade", "1.png,AA", "gone.png,NA", images=["1.png"])
        assert (table.problems, table.dropped) == ((), (("gone.png", "grade NA"),))


def test_a_table_separated_by_tabs(tmp_path):
    table = read(tmp_path, "file\tgrade", "1.png\tAA", images=["1.png"], name="t.tsv")
    assert (table.format, grades(table)) == ("csv", ["AA"])


def test_system_folders_are_skipped_and_counted(tmp_path):
    junk = ["AA/@eaDir/1.png/THUMB.jpg", "AA/$RECYCLE.BIN/$R7.png", "__MACOSX/AA/1.png"]
    junk += ["AA/@Recycle/2.png", "AA/.Trash-1000/3.png", "AA/._1.png", "Thumbs/AA/1.png"]
    table = read_graded_images(write_images(tmp_path, "AA/1.png", *junk))
    assert names(table) == ["AA/1.png"]
    assert table.notes[-1].startswith("7 images")


def test_every_reader_is_named_in_the_help_of_training():
    assert BlastocystDataModule.__doc__
    assert all(f"``{reader.format}``" in BlastocystDataModule.__doc__ for reader in READERS)
