"""Readers of public data sets and of any CSV, on small copies of their layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tables import embryos, grades, names, problems, write_images

from blastogan.data.readers import read_graded_images, scan_graded_images
from blastogan.data.readers.options import ReaderOptions
from blastogan.data.readers.tables import header_of, read_table
from blastogan.errors import UserError

SILVER = "Gardner_train_silver.csv"
GOLD = "Gardner_test_gold_onlyGardnerScores.csv"


def write(root: Path, name: str, *lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes((end.join(lines) + end).encode(encoding))
    return root


class TestKromp:
    @pytest.fixture
    def root(self, tmp_path):
        images = ["0001_01", "0001_02", "2_01", "838_02", "846_01", "9_01", "9_02", "9_03", "9_04"]
        write_images(tmp_path, *(f"Images/{name}.png" for name in images))
        write(
            tmp_path,
            SILVER,
            "Image;EXP_silver;ICM_silver;TE_silver",
            "0001_01.png;2;0;1",
            "0001_02.png;0;3;3",
            "2_01.png;4;2;0",
            "838_02.png;3;1;1",
            "838_02.png;4;1;1",
            end="\r\n",
        )
        return write(
            tmp_path,
            GOLD,
            "Image;EXP_gold;ICM_gold;TE_gold;",
            "9_01.png;3;1;1;",
            "9_02.png;1;ND;ND;",
            "9_03.png;4;1;NA;",
            "9_04.png;?;0;0;",
            encoding="utf-8-sig",
        )

    def test_codes_groups_and_published_split(self, root):
        table = read_graded_images(root, ReaderOptions(ungraded="drop"))
        assert table.format == "kromp"
        found = {
            record.path.name: (str(record.grade), record.embryo, record.part)
            for record in table.records
        }
        assert found == {
            "0001_01.png": ("3AB", "0001", "train"),
            "2_01.png": ("5CA", "2", "train"),
            # listed as expansion 4 and 5: only the letters are beyond doubt
            "838_02.png": ("BB", "838", "train"),
            "9_01.png": ("4BB", "9", "test"),
            "9_04.png": ("AA", "9", "test"),
        }
        assert table.dropped == (
            ("Images/0001_02.png", "grade ND"),
            ("Images/838_02.png", "listed twice, as 4BB and 5BB"),
            ("Images/9_02.png", "grade ND"),
            ("Images/9_03.png", "grade B and NA"),
        )
        assert table.unlisted == ("Images/846_01.png",)
        assert table.grouped
        used = {r.path.name: (str(r.grade), r.embryo) for r in read_graded_images(root).records}
        assert used["9_03.png"] == ("5Bx", "9")
        assert used["846_01.png"] == ("xx", "846")

    def test_codes_with_decimals(self, tmp_path):
        write_images(tmp_path, "Images/1_01.png", "Images/2_01.png")
        write(tmp_path, "complete.csv", "1_01.png, 3.0, 0.0, 1.0", "2_01.png, 0.0, 3.0, 3.0")
        table = read_graded_images(tmp_path, ReaderOptions(not_gradable="DD"))
        assert (table.format, grades(table)) == ("kromp", ["4AB", "1DD"])

    def test_not_gradable_as_class_dd(self, root):
        table = read_graded_images(root, ReaderOptions(not_gradable="DD"))
        found = dict(zip(names(table), grades(table), strict=True))
        assert found["Images/0001_02.png"] == "1DD"
        assert found["Images/9_02.png"] == "2DD"
        # no consensus is not the same as not gradable
        assert found["Images/9_03.png"] == "5Bx"

    def test_a_copy_without_a_header(self, tmp_path):
        write_images(tmp_path, "Images/Images/0001_01.png", "Images/Images/1_02.png")
        write(tmp_path, "complete.csv", "0001_01.png, 1, 3, 3", "1_02.png, 2, 0, 2")
        table = read_graded_images(tmp_path)
        assert (table.format, grades(table), embryos(table)) == ("kromp", ["3AC"], ["1"])
        assert table.dropped == (("Images/Images/0001_01.png", "grade ND"),)
        write(tmp_path, SILVER, "Image;EXP_silver;ICM_silver;TE_silver", "1_02.png;2;0;2")
        assert read_graded_images(tmp_path).notes[0].startswith("complete.csv is ignored")

    def test_shifted_codes_are_refused(self, tmp_path):
        rows = [f"{n}_01.png;{1 + n % 5};{1 + n % 3};1" for n in range(20)]
        write_images(tmp_path, *(f"Images/{n}_01.png" for n in range(20)))
        write(tmp_path, SILVER, "Image;EXP_silver;ICM_silver;TE_silver", *rows)
        with pytest.raises(UserError, match="8 of 16 rows"):
            read_graded_images(tmp_path)

    def test_single_rows_that_break_the_rule(self, tmp_path):
        rows = [f"{n}_01.png;3;0;0" for n in range(20)]
        rows[4], rows[7] = "4_01.png;1;0;0", "7_01.png;x;0;0"
        write_images(tmp_path, *(f"Images/{n}_01.png" for n in range(20)))
        write(tmp_path, SILVER, "Image;EXP_silver;ICM_silver;TE_silver", *rows)
        found = problems(tmp_path)
        assert [problem.split(":")[0] for problem in found] == [
            f"{SILVER} line 9",
            f"{SILVER} line 6",
        ]
        assert "EXP is 'x'" in found[0]
        assert "EXP 1, ICM 0, TE 0" in found[1]
        assert len(scan_graded_images(tmp_path).records) == 18


class TestBlastsOnline:
    def test_masks_and_missing_suffixes(self, tmp_path):
        write_images(
            tmp_path,
            "Images/Blast_PCRM_1201754 D5.BMP",
            "Images/Blast_PCRM_R14-0411a.BMP",
            "Images/Blast_PCRM_7.BMP",
            "GT_ICM/Blast_PCRM_1201754 D5 ICM_MASK.BMP",
            "GT_TE/Blast_PCRM_1201754 D5 TE_Mask.bmp",
            "GT_ZP/Blast_PCRM_1201754 D5.BMP",
            "Images/Blast_PCRM_7 zp_mask.png",
        )
        write(
            tmp_path,
            "grades.csv",
            "Filename,BE,ICM,TE",
            "Blast_PCRM_1201754 D5.BMP,4,A,b",
            "blast_pcrm_r14-0411A,3,B,B",
            "Blast_PCRM_7.bmp,2,ND,ND",
        )
        table = read_graded_images(tmp_path)
        assert table.format == "blasts-online"
        assert grades(table) == ["4AB", "3BB"]
        assert names(table)[1] == "Images/Blast_PCRM_R14-0411a.BMP"
        assert table.dropped == (("Images/Blast_PCRM_7.BMP", "grade ND"),)
        (note,) = table.notes
        assert note.startswith("4 masks")
        assert (table.unlisted, table.grouped) == ((), False)

    def test_problems(self, tmp_path):
        write_images(tmp_path, "a/1.bmp", "b/1.bmp", "2.bmp")
        write(tmp_path, "t.csv", "Filename,BE,ICM,TE", "1,4,A,A", "2.bmp,9,A,A", "3,4,A,A", "2,1")
        found = problems(tmp_path)
        assert "may be a/1.bmp or b/1.bmp" in found[0]
        assert "'3' is not a file" in found[1]
        assert "2 cells" in found[2]
        assert "'9'" in scan_graded_images(tmp_path).notes[1]


class TestNantes:
    @pytest.fixture
    def root(self, tmp_path):
        for plane in ("embryo_dataset", "embryo_dataset_F15"):
            frames = [f"D2013.01.28_S0717_I132_WELL7_RUN{n}.jpeg" for n in range(1, 13)]
            write_images(tmp_path, *(f"{plane}/AA83-7/{frame}" for frame in frames))
        write_images(tmp_path, "embryo_dataset/AB028-6/x_RUN1.jpeg", "embryo_dataset/C/x_RUN1.jpeg")
        return write(
            tmp_path,
            "embryo_dataset_grades.csv",
            "video_name,TE,ICM",
            "AA83-7,A,B",
            "AB028-6,NA,NA",
            "missing-1,A,A",
        )

    def test_one_frame_an_hour_of_the_blastocyst(self, root):
        times = [f"{n},{100 + n / 3:.3f}" for n in range(1, 13)]
        write(root, "time/AA83-7_timeElapsed.csv", "frame_index,time", *times)
        write(root, "ann/AA83-7_phases.csv", "tPB2,1,4", "tB,5,8", "tEB,9,11")
        table = read_graded_images(root, ReaderOptions(ungraded="drop"))
        assert table.format == "nantes"
        # hours 101.67 to 103.67: frames 5, 6 and 9 are the first of their hours
        numbers = [int(record.path.stem.rpartition("RUN")[2]) for record in table.records]
        assert sorted(numbers) == [5, 5, 6, 6, 9, 9]
        assert set(grades(table)) == {"BA"}
        assert set(embryos(table)) == {"AA83-7"}
        assert table.dropped == (
            ("embryo_dataset/AB028-6/x_RUN1.jpeg", "grade NA and NA"),
            ("missing-1", "no frame of this video"),
        )
        assert [note.split(" are ")[0] for note in table.notes[:2]] == [
            "10 frames of stages other than the blastocyst",
            "8 frames",
        ]
        assert table.unlisted == ("embryo_dataset/C/x_RUN1.jpeg",)
        ungraded = [r for r in read_graded_images(root).records if not r.grade.known]
        assert [record.embryo for record in ungraded] == ["AB028-6", "c"]

    def test_missing_times_and_phases_are_noted(self, root):
        table = read_graded_images(root)
        # frames 1, 4, 8 and 12 at four an hour, in two planes, and one of each ungraded video
        assert len(table.records) == 8 + 2
        assert any("phases.csv) of 3 videos" in note for note in table.notes)
        assert any("4 frames per hour" in note for note in table.notes)

    def test_broken_times(self, root):
        write(root, "AA83-7_timeElapsed.csv", "frame_index,time", "1,soon")
        write(root, "AA83-7_phases.csv", "tB,first,last")
        assert [problem.split(":")[0] for problem in problems(root)] == [
            "AA83-7_timeElapsed.csv line 2",
            "AA83-7_phases.csv line 1",
        ]


class TestCSV:
    def test_columns_found_by_their_names(self, tmp_path):
        write_images(tmp_path, "x/1.png", "x/2.png")
        write(
            tmp_path,
            "any.csv",
            "Patient\tSplit\tFile_Name\tExp\tICM\tTE",
            "p1\ttraining\tx\\1.png\t4\ta\tB",
            "p1\ttest\tX/2.PNG\t\tC\tC",
        )
        table = read_graded_images(tmp_path)
        assert table.format == "csv"
        assert grades(table) == ["4AB", "CC"]
        assert embryos(table) == ["p1", "p1"]
        assert [record.part for record in table.records] == ["train", "test"]

    def test_images_of_unknown_embryos_are_not_one_embryo(self, tmp_path):
        write_images(tmp_path, *(f"{n:02}.png" for n in range(40)))
        rows = [f"{n:02}.png,AA,{'NA' if n % 2 else f'e{n}'}" for n in range(40)]
        write(tmp_path, "t.csv", "file,grade,embryo", *rows)
        table = read_graded_images(tmp_path)
        assert len(set(embryos(table))) == 40
        (note,) = table.notes
        assert note.startswith("20 of 40 images have no known embryo")
        write(tmp_path, "t.csv", "file,grade,embryo", *(f"{n:02}.png,AA,?" for n in range(40)))
        table = read_graded_images(tmp_path)
        assert (table.grouped, table.notes) == (False, ())

    @pytest.mark.parametrize(
        "columns", [{}, {"grade": "grade"}, {"icm": "icm", "te": "te"}, {"icm": "icm"}]
    )
    def test_a_grade_and_letters_must_not_contradict(self, tmp_path, columns):
        cells = ["A,B,4AA", "a+,,3BA", "A,A,ND", "ND,ND,AA"]
        sound = ["A,B,4AB-", "a+,NA,3AC", "B,A,", "B,C,NA", ",,4CC", "ND,ND,DD"]
        rows = [f"{n}.png,2.0,{row}" for n, row in enumerate([*cells, *sound])]
        write_images(tmp_path, *(f"{n}.png" for n in range(len(rows))))
        write(tmp_path, "t.csv", "file,exp,icm,te,grade", *rows)
        table = scan_graded_images(tmp_path, ReaderOptions(columns=columns))
        assert table.problems[0].startswith(
            "t.csv line 2: grade '4AA' contradicts ICM 'A' and TE 'B'"
        )
        assert len(table.problems) == 4
        assert table.unlisted == ()
        both = ["3AC", "2BA", "2BC", "4CC"]
        assert grades(table) == (["2AB", *both] if "te" in columns else ["4AB-", *both, "DD"])

    def test_columns_without_grades_do_not_contradict(self, tmp_path):
        write_images(tmp_path, "1.png", "2.png")
        write(tmp_path, "t.csv", "file,icm,te,class", "1.png,A,B,good", "2.png,,C,poor")
        options = ReaderOptions(columns="icm=icm,te=te", ungraded="drop")
        table = read_graded_images(tmp_path, options)
        assert (grades(table), table.dropped) == (["AB"], (("2.png", "grade empty and C"),))
        assert grades(read_graded_images(tmp_path, replace(options, ungraded="use"))) == [
            "AB", "xC",
        ]  # fmt: skip
        write(tmp_path, "t.csv", "file,icm,te,grade", "1.png,0,1,4CC", "2.png,0,1,NA")
        table = read_graded_images(tmp_path, ReaderOptions(ungraded="drop"))
        assert (grades(table), table.dropped) == (["4CC"], (("2.png", "grade NA"),))

    @pytest.mark.parametrize(
        ("cell", "grade"),
        [("4.0", "4AB"), ("5.", "5AB"), ('"3,0"', "3AB"), ("4.5", "AB"), ("hatched", "AB")],
    )
    def test_expansions_with_decimals(self, tmp_path, cell, grade):
        write_images(tmp_path, "1.png")
        write(tmp_path, "t.csv", "file,exp,icm,te", f"1.png,{cell},A,B")
        table = read_graded_images(tmp_path)
        assert grades(table) == [grade]
        assert len(table.notes) == (grade == "AB")

    @pytest.mark.parametrize(
        ("start", "end"), [("", "\r"), (" \r\r", "\r"), ("sep=;\n", "\n"), ('"sep=;"\r', "\r")]
    )
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
    def test_line_ends_and_separators_of_spreadsheets(self, tmp_path, start, end, encoding):
        write_images(tmp_path, "1.png", "2.png")
        lines = [start + 'file;grade;"a, b\n, é"', "1.png;AA;é", "2.png;AX;"]
        write(tmp_path, "t.csv", *lines, encoding=encoding, end=end)
        table = scan_graded_images(tmp_path)
        assert (table.format, grades(table)) == ("csv", ["AA"])
        assert header_of(tmp_path / "t.csv") == list(read_table(tmp_path / "t.csv").columns)
        line = 4 + start.count("\r") + start.count("\n")
        assert table.problems == (f"t.csv line {line}: unknown grade 'AX'",)

    def test_a_long_table_is_not_cut_within_a_letter(self, tmp_path):
        text = "file;grade;é\r" + "a" * 65520
        (tmp_path / "t.csv").write_bytes(f"{text}€\r".encode())
        assert header_of(tmp_path / "t.csv") == ["file", "grade", "é"]

    def test_a_known_table_with_binary_rows_is_named(self, tmp_path):
        write_images(tmp_path, "1.png")
        (tmp_path / "t.csv").write_bytes(b"sep=;\rfile;grade\r1.png;AA\r\x81\xff;AA\r")
        with pytest.raises(UserError, match=r"t\.csv is not text"):
            read_graded_images(tmp_path)

    def test_columns_named(self, tmp_path):
        write_images(tmp_path, "1.png", "2.png")
        write(tmp_path, "a.csv", "picture,score,label", "1.png,4AA,x", "2.png,BB-,y")
        write(tmp_path, "b.csv", "something")
        reading = ReaderOptions(
            table="a.csv",
            columns={"image": "Picture", "grade": "score"},
            embryo_pattern=r"(\d)\.png",
        )
        table = read_graded_images(tmp_path, reading)
        assert grades(table) == ["4AA", "BB-"]
        assert embryos(table) == ["1", "2"]
        assert table.grouped

    def test_latin_1_is_read_and_noted(self, tmp_path):
        write_images(tmp_path, "blastozyste_ä.png")
        write(tmp_path, "t.csv", "file;grade", "blastozyste_ä.png;AA", encoding="latin-1")
        table = read_graded_images(tmp_path)
        assert names(table) == ["blastozyste_ä.png"]
        (note,) = table.notes
        assert "Latin-1" in note

    def test_utf_16_of_spreadsheets(self, tmp_path):
        write_images(tmp_path, "ä.png")
        write(tmp_path, "t.csv", "file\tgrade", "ä.png\tAA", encoding="utf-16")
        assert grades(read_graded_images(tmp_path)) == ["AA"]

    @pytest.mark.parametrize(
        ("reading", "message"),
        [
            (ReaderOptions(columns={"image": "nowhere"}), r"missing nowhere \(for image\)"),
            (ReaderOptions(table="absent.csv"), "absent.csv, but there is no such file"),
            (ReaderOptions(format="names", table="t.csv"), "but the format is names"),
            (ReaderOptions(format="csv", columns={"grade": "file"}), "unknown grade"),
        ],
    )
    def test_wrong_options(self, tmp_path, reading, message):
        write_images(tmp_path, "1.png")
        write(tmp_path, "t.csv", "file,grade", "1.png,AA")
        with pytest.raises(UserError, match=message):
            read_graded_images(tmp_path, reading)

    def test_two_tables_need_a_choice(self, tmp_path):
        write_images(tmp_path, "1.png")
        write(tmp_path, "t.csv", "file,grade", "1.png,AA")
        write(tmp_path, "u.csv", "file,grade", "1.png,BB")
        with pytest.raises(UserError, match=r"t\.csv, u\.csv"):
            read_graded_images(tmp_path)

    def test_a_wrong_part(self, tmp_path):
        write_images(tmp_path, "1.png")
        write(tmp_path, "t.csv", "file,grade,split", "1.png,AA,holdout")
        (problem,) = problems(tmp_path)
        assert problem.startswith("t.csv line 2: part 'holdout'")


class TestEmbryoPattern:
    def test_class_folders(self, tmp_path):
        write_images(tmp_path, "AA/17_1.png", "BB/17_2.png", "BB/x.png")
        assert not read_graded_images(tmp_path).grouped
        reading = ReaderOptions(embryo_pattern=r"(?P<embryo>\w+?)(_\d)?\.png")
        assert embryos(read_graded_images(tmp_path, reading)) == ["17", "17", "x"]

    def test_an_image_without_a_match(self, tmp_path):
        write_images(tmp_path, "AA/17_1.png", "BB/x.png")
        table = scan_graded_images(tmp_path, ReaderOptions(embryo_pattern=r"(\d+)_"))
        assert embryos(table) == ["17"]
        assert "BB/x.png" in table.problems[0]

    def test_wrong_settings(self):
        with pytest.raises(UserError, match="not a regular expression"):
            ReaderOptions(embryo_pattern="(")
        with pytest.raises(UserError, match="'picture'"):
            ReaderOptions(columns={"picture": "a"})
        assert ReaderOptions(columns="image = file,grade=score").columns == {
            "image": "file",
            "grade": "score",
        }
        for text in ("image", "image=", "image=a,image=b"):
            with pytest.raises(UserError, match="each role once"):
                ReaderOptions(columns=text)
        with pytest.raises(UserError, match="not_gradable is 'own'"):
            ReaderOptions(not_gradable="own")


def test_class_folders_within_a_published_split(tmp_path):
    write_images(tmp_path, "train/AA/1.png", "valid/ab/2.png", "test/4BB/x/3.png")
    table = read_graded_images(tmp_path)
    assert table.format == "folders"
    assert [(str(r.grade), r.part) for r in table.records] == [
        ("4BB", "test"),
        ("AA", "train"),
        ("AB", "val"),
    ]


def test_prefixes_mark_the_test_images_of_stork(tmp_path):
    write_images(tmp_path, "1_0_AA.jpg", "good_2_0_AA.jpg", "poor_3_15_BB.jpg")
    table = read_graded_images(tmp_path)
    assert [record.part for record in table.records] == ["train", "test", "test"]
