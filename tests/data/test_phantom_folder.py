"""Phantoms as a data set and as a folder of files."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command import blastogan, read_table, start
from PIL import Image
from torch.utils.data import DataLoader

from blastogan import PhantomDataset
from blastogan.data import phantom_folder as folder
from blastogan.data import read_graded_images, scan_graded_images
from blastogan.data.phantom_folder import Written, write_phantoms
from blastogan.data.sources import phantom_records
from blastogan.errors import ProblemList, UserError
from blastogan.phantoms import phantom_truth, render_phantom
from blastogan.phantoms.dataset import render_phantoms
from blastogan.phantoms.truth import MASKS

SMALL = {"count": 12, "resolution": 16, "seed": 3, "planes": 2, "style": "mixed", "masks": True}
ARGS = ["--count=12", "--resolution=16", "--seed=3", "--planes=2", "--style=mixed", "--masks"]


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A whole set, to be compared with and not changed."""
    root = tmp_path_factory.mktemp("drawn") / "set"
    assert write_phantoms(root, PhantomDataset(**SMALL), 0) == Written(0, 12)
    return root


class TestDataset:
    def test_items_are_what_the_views_show(self):
        phantoms = PhantomDataset(**SMALL)
        item, view = phantoms[5], phantoms.views[5]
        picture = render_phantom(3, view, 16)
        assert torch.equal(item["image"], torch.tensor(picture)[None])
        assert item["labels"].dtype == torch.int64
        assert item["labels"].tolist() == list(phantoms.grade(5).labels)
        assert (item["embryo"], item["plane"], item["clinic"]) == (
            view.embryo,
            view.plane,
            view.clinic,
        )
        masks = phantom_truth(3, view, 16, "embryo").masks
        assert item["masks"].shape == (4, 16, 16)
        for name, mask in zip(MASKS, item["masks"], strict=True):
            assert np.array_equal(mask, masks[name])
        assert "masks" not in PhantomDataset(2, resolution=16)[0]

    def test_framing_and_resolution_are_used(self):
        well = PhantomDataset(2, resolution=32, framing="well")
        assert np.array_equal(well.picture(1), render_phantom(0, well.views[1], 32, "well"))
        assert not np.array_equal(well.picture(1), PhantomDataset(2, resolution=32).picture(1))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_pictures_are_equal_alone_and_in_batches_of_any_loader(self, workers):
        phantoms = PhantomDataset(**SMALL)
        alone = torch.stack([PhantomDataset(**SMALL)[n]["image"] for n in reversed(range(12))])
        loader = DataLoader(phantoms, batch_size=5, num_workers=workers)
        batches = list(loader)
        assert torch.equal(torch.cat([batch["image"] for batch in batches]), alone.flip(0))
        assert batches[0]["labels"].shape == (5, 2)
        assert batches[0]["embryo"].tolist() == [view.embryo for view in phantoms.views[:5]]
        assert batches[0]["clinic"] == [view.clinic for view in phantoms.views[:5]]
        assert batches[0]["masks"].shape == (5, 4, 16, 16)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_pictures_are_rendered_alike_by_any_number_of_processes(self, workers, monkeypatch):
        monkeypatch.setattr("blastogan.phantoms.dataset.FEW", 5)
        phantoms = PhantomDataset(12, resolution=16)
        state = torch.get_rng_state()
        images = render_phantoms(phantoms, 3, workers)
        assert torch.equal(torch.get_rng_state(), state)
        assert images.shape == (12, 3, 16, 16)
        for n in (0, 11):
            assert all(np.array_equal(channel, phantoms.picture(n)) for channel in images[n])

    def test_it_is_a_sequence_with_records(self):
        phantoms = PhantomDataset(**SMALL)
        assert len(phantoms) == len(list(phantoms)) == 12
        assert torch.equal(phantoms[-1]["image"], phantoms[11]["image"])
        with pytest.raises(IndexError, match="picture 12 of 12"):
            phantoms[12]
        record = phantom_records(phantoms)[7]
        assert record.path == Path("phantom-000007")
        assert record.embryo == f"phantom-embryo-{phantoms.views[7].embryo:05d}"
        assert record.grade == phantoms.grade(7)

    def test_all_that_is_wrong_is_listed(self):
        with pytest.raises(ProblemList) as caught:
            PhantomDataset(-1, resolution=8, framing="dish", planes=0)
        assert len(caught.value.problems) == 4
        assert "16 to 512" in str(caught.value)
        assert "'dish'" in str(caught.value)


class TestFolder:
    def test_a_set_is_read_as_it_was_drawn(self, drawn):
        table = read_graded_images(drawn)
        known = {record.path.name: record for record in phantom_records(PhantomDataset(**SMALL))}
        assert table.format == "clinic"
        assert len(table.records) == 12
        assert (table.dropped, table.notes, table.unlisted) == ((), (), ())
        for record in table.records:
            wanted = known[record.path.stem]
            # the expansion too
            assert (record.grade, record.embryo) == (wanted.grade, wanted.embryo)

    def test_files_hold_pictures_masks_and_facts(self, drawn):
        phantoms = PhantomDataset(**SMALL)
        rows, truth = read_table(drawn / "metadata.csv"), read_table(drawn / "truth.csv")
        for n, (row, facts) in enumerate(zip(rows, truth, strict=True)):
            view = phantoms.views[n]
            name = Path(row["folder"]) / row["filename"]
            assert str(name) == f"{view.grade.name}/phantom-{n:06d}.png"
            assert np.array_equal(Image.open(drawn / name), phantoms.picture(n))
            known = phantom_truth(3, view, 16, "embryo")
            for mask in MASKS:
                file = drawn / "masks" / mask / row["filename"]
                assert np.array_equal(Image.open(file), known.masks[mask])
            assert [row[key] for key in ("shot", "plane", "clinic", "expansion")] == [
                str(view.shot),
                str(view.plane),
                view.clinic,
                str(view.grade.expansion),
            ]
            assert float(row["focus_um"]) == view.focus
            assert (facts.pop("folder"), facts.pop("filename")) == (row["folder"], row["filename"])
            numbers = {key: float(value) for key, value in facts.items()}
            assert numbers == pytest.approx(known.numbers, rel=1e-6, nan_ok=True)
        assert json.loads((drawn / "phantoms.json").read_text())["count"] == 12
        assert not list(drawn.rglob(".*"))

    def test_several_processes_write_the_same(self, drawn, tmp_path):
        assert write_phantoms(tmp_path, PhantomDataset(**SMALL), 2) == Written(0, 12)
        assert contents(tmp_path) == contents(drawn)

    def test_only_what_is_not_there_is_drawn(self, drawn, tmp_path):
        root = shutil.copytree(drawn, tmp_path / "set")
        (picture,) = root.glob("*/phantom-000004.png")
        lost = [picture, root / "masks/te/phantom-000009.png"]
        for path in (*lost, root / "truth.csv", root / "metadata.csv"):
            path.unlink()
        stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
        assert write_phantoms(root, PhantomDataset(**SMALL), 0) == Written(10, 2)
        assert contents(root) == contents(drawn)
        changed = {p.name for p, stamp in stamps.items() if p.stat().st_mtime_ns != stamp}
        assert changed == {"phantom-000004.png", "phantom-000009.png"}

    def test_a_whole_set_is_left_alone(self, drawn, monkeypatch):
        before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*") if path.is_file()}
        monkeypatch.setattr(folder, "_draw", None)
        assert write_phantoms(drawn, PhantomDataset(**SMALL), 0) == Written(12, 0)
        assert {p: p.stat().st_mtime_ns for p in drawn.rglob("*") if p.is_file()} == before

    @pytest.mark.parametrize("rows", [0, 8])
    def test_tables_of_a_set_without_its_last_rows_are_written_anew(self, rows, drawn, tmp_path):
        root = shutil.copytree(drawn, tmp_path / "set")
        table = root / "metadata.csv"
        table.write_text("".join(table.read_text().splitlines(keepends=True)[: rows + 1]))
        if not rows:
            table.unlink()
        assert write_phantoms(root, PhantomDataset(**SMALL), 0) == Written(12, 0)
        assert contents(root) == contents(drawn)

    def test_a_set_is_extended_and_not_shortened(self, drawn, tmp_path):
        root = shutil.copytree(drawn, tmp_path / "set")
        longer = {**SMALL, "count": 15}
        assert write_phantoms(root, PhantomDataset(**longer), 0) == Written(12, 3)
        write_phantoms(tmp_path / "anew", PhantomDataset(**longer), 0)
        assert contents(root) == contents(tmp_path / "anew")
        with pytest.raises(UserError, match="a set of 15 phantoms, more than the 12 asked for"):
            write_phantoms(root, PhantomDataset(**SMALL), 0)

    def test_a_process_that_is_killed_costs_the_picture_it_was_writing(
        self, drawn, tmp_path, monkeypatch
    ):
        root = tmp_path / "set"
        save, saved = Image.Image.save, []

        def killed(self, file, **settings):
            save(self, file, **settings)
            saved.extend([file] if isinstance(file, Path) else [])
            if len(saved) == 33:
                os.truncate(file, 20)
                os.kill(os.getpid(), signal.SIGKILL)

        def draw():
            monkeypatch.setattr(Image.Image, "save", killed)
            write_phantoms(root, PhantomDataset(**SMALL), 0)

        process = multiprocessing.get_context("fork").Process(target=draw)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(list(root.rglob("*.png"))) == 32
        assert len(list(root.rglob("*.part"))) == 2
        # the pictures that are not there yet are listed, so that nobody takes the set for whole
        assert [path.name for path in root.glob("*.csv")] == ["metadata.csv"]
        with pytest.raises(UserError, match="not a file"):
            read_graded_images(root)
        other = root / "AA/mine.part"
        other.write_text("of somebody else")
        assert write_phantoms(root, PhantomDataset(**SMALL), 0) == Written(6, 6)
        other.unlink()
        assert contents(root) == contents(drawn)

    def test_a_second_process_waits_for_the_first(self, drawn, tmp_path, caplog):
        caplog.set_level("INFO", "blastogan")
        root, done = tmp_path / "set", []
        phantoms = PhantomDataset(**SMALL)
        with folder._locked(root):
            shutil.copy(drawn / "phantoms.json", root)
            second = threading.Thread(target=lambda: done.append(write_phantoms(root, phantoms, 0)))
            second.start()
            second.join(0.2)
            assert not done
            shutil.copytree(drawn, root, dirs_exist_ok=True)
        second.join(20)
        assert done == [Written(12, 0)]
        assert "another process draws into" in caplog.text
        assert contents(root) == contents(drawn)

    def test_other_settings_are_refused_by_name(self, drawn):
        before = contents(drawn)
        with pytest.raises(UserError, match="other settings") as caught:
            write_phantoms(drawn, PhantomDataset(14, seed=4, resolution=16, planes=2), 0)
        assert "seed is 3 there and 4 here" in str(caught.value)
        assert "style is 'mixed' there and 'hoffman' here" in str(caught.value)
        assert "masks is True there and False here" in str(caught.value)
        assert "planes" not in str(caught.value)
        assert "count" not in str(caught.value)
        assert contents(drawn) == before

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"count": "12"}', "\xff", "[" * 100_000])
    def test_settings_that_are_none_are_refused(self, text, tmp_path):
        (tmp_path / "phantoms.json").write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=r"phantoms\.json.*choose another folder"):
            write_phantoms(tmp_path, PhantomDataset(**SMALL), 0)
        assert len(list(tmp_path.iterdir())) == 1

    def test_nothing_is_mixed_with_other_files(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match="exists and is not empty"):
            write_phantoms(tmp_path, PhantomDataset(**SMALL), 0)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    def test_masks_are_no_images_of_a_set_but_those_that_it_lists_are(self, drawn, tmp_path):
        root = shutil.copytree(drawn, tmp_path / "set")
        with (root / "metadata.csv").open("a") as file:
            file.write("masks/te,phantom-000000.png,,x,,,,AB,,,,,\n")
        table = scan_graded_images(root)
        assert len(table.records) == 13
        # without the table, it is a folder like any other, so that a set half drawn is refused
        (root / "metadata.csv").unlink()
        assert scan_graded_images(root).problems == ("folder masks/: unknown grade 'masks'",)


class TestCommand:
    def test_it_draws_goes_on_and_says_so(self, here, drawn, caplog):
        caplog.set_level("INFO", "blastogan")
        assert blastogan("phantom", "set", *ARGS) == 0
        assert contents("set") == contents(drawn)
        for path in list(Path("set/masks").rglob("*.png"))[:3]:
            path.unlink()
        assert blastogan("phantom", "set", *ARGS, "--workers", 0) == 0
        assert contents("set") == contents(drawn)
        assert "of 12 phantoms are there already" in caplog.text
        caplog.clear()
        assert blastogan("phantom", "set", *ARGS) == 0
        assert caplog.messages == ["all 12 phantoms are in set already"]

    def test_the_audit_finds_it_sound(self, drawn, here, capsys):
        everything = ("--val-fraction", 0, "--test-fraction", 0)
        assert blastogan("audit", drawn, "--json", "audit.json", "--workers", 0, *everything) == 0
        found = json.loads(Path("audit.json").read_text())
        assert (found["images"], found["files"], found["unlisted"]) == (12, 12, [])
        assert not [finding for finding in found["findings"] if "mask" in str(finding)]
        assert found["expansion"]["unknown"] == 0

    def test_ctrl_c_leaves_no_part_and_says_how_to_go_on(self, here, drawn, monkeypatch, capfd):
        write, written = folder.export.write_image, []

        def interrupted(*args):
            written.append(args)
            if len(written) == 5:
                raise KeyboardInterrupt
            return write(*args)

        monkeypatch.setattr(folder.export, "write_image", interrupted)
        assert blastogan("phantom", "set", *ARGS, "--workers", 0) == 130
        assert "interrupted" in capfd.readouterr().err
        assert not list(Path("set").rglob("*.part"))
        assert not Path("set/truth.csv").exists()
        monkeypatch.undo()
        assert blastogan("phantom", here / "set", *ARGS, "--workers", 0) == 0
        assert contents(here / "set") == contents(drawn)

    @pytest.mark.slow
    def test_ctrl_c_stops_the_workers_too(self, here):
        args = ["--count", 20_000, "--resolution", 32, "--counts", "balanced", "--workers", 2]
        process = start("phantom", "set", *args)
        end = time.monotonic() + 60
        while len(list(Path("set").glob("*/*.png"))) < 20:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130, output
        assert "to continue set, give the same command again" in output
        assert "Traceback" not in output
        files = contents("set")
        time.sleep(0.5)
        assert contents("set") == files
        assert {path.suffix for path in files} == {".png", ".json", ".csv"}
        # as the same command would
        assert 20 <= len(files) < 20_000

    @pytest.mark.parametrize("workers", [0, 2])
    def test_what_cannot_be_written_is_told_in_a_line(self, workers, here, capfd):
        assert blastogan("phantom", "set", *ARGS, "--workers", 0) == 0
        shutil.rmtree("set/AA")
        Path("set/AA").write_text("a file where a folder is to be")
        capfd.readouterr()
        assert blastogan("phantom", "set", *ARGS, "--workers", workers) == 1
        error = capfd.readouterr().err
        assert "set/AA" in error
        assert "Traceback" not in error

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--planes", 9, "--resolution", 8], "16 to 512"),
            (["--planes", 9, "--resolution", 8], "planes is 9"),
            (["--counts", "AA:5,ZZ:3"], "unknown grade 'ZZ'"),
            (["--counts", "AA:5", "--count", 6], "sum to 5, but the count is 6"),
            (["--style", "phase"], "invalid choice: 'phase'"),
            (["--count", 0], "expected 1 or more"),
        ],
    )
    def test_wrong_use_is_told_and_nothing_is_written(self, args, message, here, capfd):
        before = sorted(here.rglob("*"))
        assert blastogan("phantom", "set", *args) == 2
        assert message in capfd.readouterr().err
        assert sorted(here.rglob("*")) == before
