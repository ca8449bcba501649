"""One process at a time writes a run folder."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from filelock import FileLock
from helpers.command import blastogan
from helpers.processes import CONTEXT

from blastogan.errors import UserError
from blastogan.runs.folder import LOCK
from blastogan.runs.lock import RunInUse, claim, claimed_folder, release

FIT = ("fit", "--config", "tiny.yaml")


@pytest.fixture
def _released():
    yield
    release()


def _hold(folder, ready):
    claim(Path(folder))
    ready.set()
    time.sleep(60)


@pytest.fixture
def holder(here):
    """A process that holds the lock of ``held``."""
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=_hold, args=(str(here / "held"), ready), daemon=True)
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


@pytest.mark.usefixtures("_released")
def test_a_folder_is_held_until_its_process_dies(here, holder):
    message = rf"held is in use by another process \(pid {holder.pid} on {socket.gethostname()}\)"
    for _ in range(2):
        with pytest.raises(RunInUse, match=message):
            claim(Path("held"))
    # a folder is the same by another name
    Path("alias").symlink_to("held")
    with pytest.raises(RunInUse):
        claim(Path("alias"))
    holder.kill()
    holder.join()
    claim(Path("held"))
    claim(Path("alias"))
    assert (here / "held" / LOCK).read_text().split()[0] == str(os.getpid())


@pytest.mark.slow
def test_a_fit_in_a_folder_in_use_is_refused(trained, holder, capfd, caplog):
    Path("runs/tiny").rename("mine")
    for path in Path("mine").iterdir():
        if path.name != LOCK:
            path.rename(Path("held") / path.name)
    before = sorted(trained.rglob("*"))
    last = "held/checkpoints/last.ckpt"
    for args in (["--resume", "--run_dir", "held"], ["--ckpt_path", last]):
        assert blastogan(*FIT, *args) == 2
        assert f"held is in use by another process (pid {holder.pid}" in capfd.readouterr().err
    assert sorted(trained.rglob("*")) == before
    # which checkpoint is the newest, the other process may still change
    assert "resuming from" not in caplog.text
    # others may look at it
    assert blastogan("validate", "--ckpt_path", last) == 0


@pytest.mark.usefixtures("_released")
def test_workers_do_not_hold_what_a_dead_process_held(here):
    claim(Path("held"))
    started, starts = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(starts, b"!")
        signal.pause()
        os._exit(0)
    os.read(started, 1)
    (here / "held" / "config.yaml").touch()
    release()
    try:
        claim(Path("held"))
        assert claimed_folder() == Path("held")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_folder_in_which_nothing_was_written_is_as_before(here):
    claim(Path("new/of/them"))
    assert claimed_folder() == Path("new/of/them")
    release()
    assert not Path("new").exists()
    assert claimed_folder() is None
    assert "BLASTOGAN_RUN_FOLDER" not in os.environ
    with pytest.raises(UserError, match="File name too long"):
        claim(Path("new", "n" * 300))
    assert not Path("new").exists()
    Path("old").mkdir()
    claim(Path("old"))
    (Path("old") / "config.yaml").touch()
    release()
    assert sorted(path.name for path in Path("old").iterdir()) == [LOCK, "config.yaml"]
    # the lock stays where it was
    claim(Path("old"))
    release()
    assert (Path("old") / LOCK).exists()


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({"LOCAL_RANK": "1"}, False), ({"LOCAL_RANK": "0"}, True), ({"NODE_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "3"}, True), ({"RANK": "4"}, False),
        ({"SLURM_PROCID": "2"}, False),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_released")
def test_the_first_process_alone_locks_and_tells_the_others_where(given, first, here, monkeypatch):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BLASTOGAN_RUN_FOLDER", "given")
    assert claimed_folder() == (None if first else Path("given"))
    claim(Path("run"))
    assert (here / "run" / LOCK).exists() == first
    assert os.environ["BLASTOGAN_RUN_FOLDER"] == ("run" if first else "given")


@pytest.mark.usefixtures("_released")
def test_without_locks_a_run_starts_with_a_warning(here, monkeypatch, caplog):
    def unsupported(*args, **kwargs):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(FileLock, "acquire", unsupported)
    claim(Path("run"))
    assert (here / "run" / LOCK).exists()
    assert "cannot be locked" in caplog.text


def test_a_lock_that_is_a_link_is_refused_and_its_target_kept(here):
    Path("precious").write_text("mine")
    Path("run").mkdir()
    Path("run", LOCK).symlink_to(here / "precious")
    with pytest.raises(UserError, match="link"):
        claim(Path("run"))
    assert Path("precious").read_text() == "mine"
