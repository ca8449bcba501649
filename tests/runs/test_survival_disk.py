"""Runs whose disk is full or cannot be written, and where runs may go."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest
from helpers.command import assert_same_run, blastogan, weights
from helpers.processes import run

from blastogan.callbacks import GrowthCheckpoint
from blastogan.errors import UserError
from blastogan.runs.folder import LOCK, fresh_folder, unused_folder
from blastogan.utils import files

FIT = ("fit", "--config", "tiny.yaml")


def leftovers(folder):
    return list(Path(folder).rglob("*.part*"))


# -- a full disk -----------------------------------------------------------------------------------


class TestFullDisk:
    pytestmark = pytest.mark.slow

    def test_the_run_stops_says_what_is_left_and_resumes(self, trained):
        kept = trained / "runs/tiny/checkpoints"
        sizes = [(kept / name).stat().st_size for name in ("phase-00-hold-0008.ckpt", "last.ckpt")]
        # the states of a larger network do not fit any more
        command = *FIT, "--resume", "--run_dir", "full"
        code, output = run(*command, largest_file=sum(sizes) // 2)
        assert code == 1, output
        found = "full/checkpoints/last.ckpt, at 0.064 kimg. To resume, make room and add --resume"
        assert output.count("blastogan: ") == 1
        assert f"blastogan: full/checkpoints/last.ckpt: {os.strerror(errno.EFBIG)}. " in output
        assert f"its latest valid checkpoint is {found}" in output
        assert "Traceback" not in output
        assert leftovers("full") == []
        assert weights("full/checkpoints/last.ckpt")["blastogan"]["images_shown"] == 64
        assert blastogan(*command) == 0
        assert_same_run("full/checkpoints/last.ckpt", kept / "last.ckpt")

    def test_a_table_that_cannot_be_written_is_reported_too(self, trained):
        for largest, file in ((700, "config.yaml"), (100_000, "last.ckpt")):
            code, output = run(*FIT, "--run_dir", file, largest_file=largest)
            assert code == 1, output
            assert f"{file}: {os.strerror(errno.EFBIG)}" in output
            assert "Traceback" not in output
            assert leftovers(file) == []
        assert "it has no checkpoint yet" in output

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
    def test_a_small_file_system_fills_up(self, trained):
        Path("small").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", "small"]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not permitted")
        try:
            code, output = run(*FIT, "--run_dir", "small/run")
            assert code == 1, output
            assert os.strerror(errno.ENOSPC) in output
            assert re.search(r"latest valid checkpoint is small/run/checkpoints/last\.ckpt", output)
            assert "Traceback" not in output
            assert leftovers("small") == []
        finally:
            subprocess.run(["umount", "small"], check=True)


@pytest.mark.parametrize("where", ["write", "torch", "fsync", "best", "link"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_old_ones(
    where, make_module, make_data, make_trainer, schedule, tmp_path, monkeypatch
):
    trainer = make_trainer(max_epochs=1)
    trainer.fit(make_module(), make_data())
    folder = tmp_path / "run/checkpoints"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hide(*args):
        try:
            fail()
        finally:
            raise RuntimeError("unexpected pos 576 vs 534")

    names = {"write": "torch.save", "fsync": "os.fsync", "best": "shutil.copyfile"}
    if where == "torch":
        monkeypatch.setattr("torch.save", hide)
    elif where in names:
        monkeypatch.setattr(names[where], fail)
    else:
        monkeypatch.setattr(files.os, "link", fail)
        monkeypatch.setattr(files.shutil, "copyfile", fail)
    keeper = next(c for c in trainer.checkpoint_callbacks if isinstance(c, GrowthCheckpoint))
    trainer.lightning_module.images_shown += 4
    with pytest.raises(OSError, match="No space") as caught:
        keeper.save_last(trainer, is_best=where == "best")
    assert Path(caught.value.filename).parent == folder
    assert not str(caught.value.filename).endswith(".part")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# -- folders that cannot be written ----------------------------------------------------------------


def no_folder(where):
    Path("file").write_text("in the way")
    Path("locked").mkdir()
    Path("runs").write_text("in the way")
    if where == "locked/run":
        Path("locked").chmod(0o500)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("file/run", "Not a directory"),
        ("/proc/x", "No such file or directory"),
        (None, "Not a directory|File exists"),
        ("n" * 300, "name too long"),
        pytest.param(
            "locked/run",
            "Permission denied",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere"),
        ),
    ],
)
def test_a_folder_that_cannot_be_written_is_reported_before_the_data_are_read(
    where, reason, here, capfd
):
    no_folder(where)
    before = sorted(here.rglob("*"))
    asked = ["--run_dir", where] if where else []
    # which would be reported, too
    assert blastogan(*FIT, *asked, "--data.root", "absent") == 2
    found = capfd.readouterr().err
    name = where or "runs/tiny"
    assert re.search(
        rf"blastogan: cannot (write the run|use the) folder {name}: .*({reason})", found
    )
    assert "absent" not in found
    assert sorted(here.rglob("*")) == before


def test_a_file_and_a_full_folder_are_not_fresh(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file"):
        fresh_folder(tmp_path / "file")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / LOCK).touch()
    assert fresh_folder(folder) == folder
    (folder / "thesis.tex").touch()
    with pytest.raises(UserError, match="folder exists and is not empty"):
        fresh_folder(folder)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("demo", "demo"), ("..", "run"), (".", "run"), ("", "run"), ("../../etc", "etc"),
        ("a/b", "a-b"), ("/tmp/x", "tmp-x"), ("a\\b", "a-b"), (".hidden", "hidden"),
        ("..-generated", "generated"), ("a\nb", "a-b"), ("Grad 3.5", "Grad 3.5"),
    ],
)  # fmt: skip
def test_runs_stay_in_their_folder(name, plain, here):
    assert unused_folder(name) == Path("runs") / plain


def test_a_config_of_a_strange_name_runs_in_its_folder(here, capfd):
    Path("tiny.yaml").rename("...yaml")
    assert blastogan("fit", "--config", "...yaml", "--data.root", "absent") == 2
    assert "absent" in capfd.readouterr().err
    assert [path.name for path in here.iterdir()] == ["...yaml"]


def test_links_and_runs_are_not_run_into(here):
    Path("runs").mkdir()
    Path("elsewhere").mkdir()
    Path("runs/demo").symlink_to("../elsewhere")
    Path("runs/demo-2").symlink_to("../absent")
    Path("runs/demo-3").write_text("a file")
    Path("runs/demo-4").mkdir()
    Path("runs/demo-4/config.yaml").touch()
    Path("runs/demo-5").mkdir()
    Path("runs/demo-5/.lock").touch()
    assert unused_folder("demo") == Path("runs/demo-5")
