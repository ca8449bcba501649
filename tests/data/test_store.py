"""The image store: what it holds, when it is built, and what happens when that goes wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from blastogan.data import store as data_store
from blastogan.data import store_build, store_files
from blastogan.data.images.decoding import load_framed, pyramid
from blastogan.data.images.framing import Crop
from blastogan.data.store import open_store
from blastogan.errors import ProblemList, UserError

COUNT = 6


@pytest.fixture
def paths(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    rng = np.random.default_rng(0)
    found = []
    for n in range(COUNT):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        found.append(folder / f"{n}.png")
        Image.fromarray(pixels).save(found[-1])
    return found


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


class Decodings:
    """Counts decoded images, in whichever process, and can slow them down or act on one."""

    def __init__(self, file):
        self.file = file
        self.seconds = 0.0
        self.act = lambda path: True
        file.touch()

    def __call__(self, path, *args):
        with self.file.open("a") as file:
            file.write("x")
        time.sleep(self.seconds)
        found = self.act(path)
        return load_framed(path, *args)[0], found

    @property
    def count(self):
        return self.file.stat().st_size

    def wait(self):
        while not self.count:
            time.sleep(0.01)


@pytest.fixture
def decodings(tmp_path, monkeypatch):
    counter = Decodings(tmp_path / "decodings")
    monkeypatch.setattr(store_build, "load_framed", counter)
    return counter


def the_folder(cache):
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


def in_another_process(paths, cache):
    process = multiprocessing.get_context("fork").Process(
        target=open_store, args=(paths, 16, 1), kwargs={"cache_dir": cache}
    )
    process.start()
    return process


def assert_right(store, paths, resolution=16, channels=1):
    for n, path in enumerate(paths):
        image, _ = load_framed(path, resolution, channels, Crop())
        expected = pyramid(torch.from_numpy(image)[None], min(4, resolution))
        assert list(store.levels) == list(expected)
        for side, level in expected.items():
            assert torch.equal(store.images([n], side), level)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(("resolution", "channels"), [(16, 3), (16, 1), (2, 1)])
def test_levels_are_the_framed_images_and_their_pyramid(paths, cache, stored, resolution, channels):
    cache_dir = cache if stored else None
    store = open_store(paths, resolution, channels, cache_dir=cache_dir)
    assert_right(store, paths, resolution, channels)
    assert store.nbytes == sum(level.numel() for level in store.levels.values())
    assert not store.faults
    assert store.not_found == 0


@pytest.mark.parametrize("stored", [False, True])
def test_workers_change_nothing_and_leave_the_random_states_alone(paths, cache, stored):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    for workers in (0, 2):
        folder = cache / str(workers) if stored else None
        assert_right(open_store(paths, 16, 1, cache_dir=folder, num_workers=workers), paths)
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_nothing_is_written_without_a_cache_dir(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    open_store(paths, 16, 1, num_workers=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_open_decodes_nothing(paths, cache, decodings):
    first = open_store(paths, 16, 1, cache_dir=cache)
    second = open_store(paths, 16, 1, cache_dir=cache)
    assert decodings.count == COUNT
    assert torch.equal(first.rows, second.rows)
    assert_right(second, paths)


def test_renamed_reordered_and_doubled_files_are_found_again(paths, cache, decodings):
    open_store(paths, 16, 1, cache_dir=cache)
    paths[0] = paths[0].rename(paths[0].with_name("renamed.png"))
    paths.append(Path(shutil.copy(paths[1], paths[1].with_name("copy.png"))))
    store = open_store(paths[::-1], 16, 1, cache_dir=cache)
    assert decodings.count == COUNT
    assert_right(store, paths[::-1])


@pytest.mark.parametrize("stored", [False, True])
def test_files_of_the_same_content_share_a_row(paths, cache, stored):
    shutil.copy(paths[0], paths[3])
    store = open_store(paths, 16, 1, cache_dir=cache if stored else None)
    assert store.rows[0] == store.rows[3]
    assert len(store.levels[16]) == len(set(store.rows.tolist())) == COUNT - 1


def test_a_changed_file_another_shape_and_another_crop_are_other_stores(paths, cache, decodings):
    open_store(paths, 16, 1, cache_dir=cache)
    paths[2].write_bytes(paths[2].read_bytes() + b"\0")
    for n, asked in enumerate([(16, 1), (8, 1), (16, 3), (16, 1, Crop("embryo", 0.1))]):
        open_store(paths, *asked, cache_dir=cache)
        assert decodings.count == COUNT * (n + 2)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 5


def truncate(folder, cache):
    os.truncate(folder / "16.npy", (folder / "16.npy").stat().st_size - 1)


def alter_the_last_byte(folder, cache):
    content = bytearray((folder / "4.npy").read_bytes())
    content[-1] ^= 1
    (folder / "4.npy").write_bytes(content)


def alter_the_header(folder, cache):
    content = (folder / "8.npy").read_bytes()
    (folder / "8.npy").write_bytes(content.replace(b"|u1", b"|i1"))


def lose_a_level(folder, cache):
    (folder / "8.npy").unlink()


def lose_the_manifest(folder, cache):
    (folder / "manifest.json").unlink()


def swap_two_digests(folder, cache):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["contents"]["digests"].reverse()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def become_another_store(folder, cache):
    paths = sorted(cache.with_name("set").iterdir())
    other = cache.with_name("other")
    open_store(paths[1:], 16, 1, cache_dir=other)
    shutil.copytree(the_folder(other), folder, dirs_exist_ok=True)


def write_an_alien_manifest(folder, cache):
    (folder / "manifest.json").write_text("[1, 2]")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        alter_the_last_byte,
        alter_the_header,
        lose_a_level,
        lose_the_manifest,
        swap_two_digests,
        become_another_store,
        write_an_alien_manifest,
    ],
)
def test_a_damaged_store_is_built_anew_with_a_message(paths, cache, damage, caplog, monkeypatch):
    monkeypatch.setattr(store_files, "_CHUNK", 100)
    in_use = open_store(paths, 16, 1, cache_dir=cache)
    damage(the_folder(cache), cache)
    assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)
    (message,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert str(the_folder(cache)) in message
    assert "built anew" in message
    assert in_use.images([0], 8).shape == (1, 1, 8, 8)
    caplog.clear()
    assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)
    assert not caplog.records
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".lock"]


def test_writing_to_the_levels_changes_no_file(paths, cache, caplog):
    for level in open_store(paths, 16, 1, cache_dir=cache).levels.values():
        level.zero_()
    caplog.clear()
    assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)
    assert not caplog.records


@pytest.mark.parametrize("stored", [False, True])
def test_faults_stop_nothing_and_are_kept_without_names(paths, cache, decodings, stored):
    paths[1].write_bytes(b"no image")
    paths[4].unlink()
    os.mkfifo(paths[5].with_name("pipe"))
    asked = [*paths, paths[5].with_name("pipe")]
    for _ in range(2):
        store = open_store(asked, 16, 1, cache_dir=cache if stored else None)
        assert list(store.faults) == [1, 4, 6]
        assert [n for n, row in enumerate(store.rows) if row < 0] == [1, 4, 6]
        assert store.faults[1].startswith(f"{paths[1]}: no image in one of the formats")
        assert store.faults[4] == f"{paths[4]}: no such file: check the path"
        assert_right(store, paths[:1])
        with pytest.raises(UserError, match=r"1\.png: no image"):
            store.images([0, 1], 16)
    if stored:
        # once more, as what was wrong may have passed
        assert decodings.count == 5 + 1
        moved = paths[1].rename(paths[1].with_name("moved.png"))
        asked[1] = moved
        assert open_store(asked, 16, 1, cache_dir=cache).faults[1].startswith(f"{moved}: ")
        assert "1.png" not in (the_folder(cache) / "manifest.json").read_text()


def test_a_fault_that_passes_is_not_kept(paths, cache, decodings, caplog):
    def fail(path):
        if path == paths[1]:
            raise UserError(f"{path}: out of memory just now")
        return True

    decodings.act = fail
    assert list(open_store(paths, 16, 1, cache_dir=cache).faults) == [1]
    decodings.act = lambda path: True
    assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)
    assert f"{paths[1]} is left out, but can be decoded now, so it is built anew" in caplog.text
    before = decodings.count
    assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)
    assert decodings.count == before


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("broken", [1, 4])
def test_a_set_that_is_refused_is_not_stored(paths, cache, stored, broken):
    if broken == 1:
        paths[1].write_bytes(b"no image")
    else:
        paths[4].unlink()
    for _ in range(2):
        with pytest.raises(ProblemList) as caught:
            open_store(
                paths, 16, 1, cache_dir=cache if stored else None, num_workers=0, skip_faulty=False
            )
        assert [problem.split(": ")[0] for problem in caught.value.problems] == [str(paths[broken])]
    assert not list(cache.glob("images-*[0-9a-f]"))
    # of the same content, where that may be skipped
    assert len(open_store(paths, 16, 1, cache_dir=cache).faults) == 1
    with pytest.raises(ProblemList):
        open_store(paths, 16, 1, cache_dir=cache, skip_faulty=False)


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_what_it_was(paths, cache, decodings):
    content, changed = paths[2].read_bytes(), paths[3].read_bytes()

    def change(path):
        if path == paths[2]:
            path.write_bytes(changed)
        return True

    decodings.act = change
    store = open_store(paths, 16, 1, cache_dir=cache)
    assert store.faults == {2: f"{paths[2]}: changed while it was read: start again"}
    decodings.act = lambda path: True
    paths[2].write_bytes(content)
    assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)


def test_a_file_too_large_to_be_decoded_is_not_read(paths, monkeypatch):
    monkeypatch.setattr(data_store, "MAX_BYTES", paths[0].stat().st_size - 1)
    # the limit of the decoder is as it was
    assert "expected at most 0: save the image anew" in open_store(paths[:1], 16, 1).faults[0]


def test_embryos_that_were_not_found_are_counted_by_image(paths, cache, decodings):
    shutil.copy(paths[1], paths[2])
    decodings.act = lambda path: path not in paths[1:4]
    for cache_dir in (None, cache, cache):
        assert open_store(paths, 16, 1, Crop("embryo", 0.1), cache_dir=cache_dir).not_found == 3


@pytest.mark.parametrize("stored", [False, True])
def test_no_image_at_all_is_an_empty_store(paths, cache, stored):
    paths[0].write_bytes(b"no image")
    for asked in ([], paths[:1], paths[:1]):
        store = open_store(asked, 16, 1, cache_dir=cache if stored else None)
        assert store.levels[8].shape == (0, 1, 8, 8)
        assert store.rows.tolist() == [-1] * len(asked)


def test_the_size_is_told_before_anything_is_decoded(paths, cache, decodings, caplog):
    caplog.set_level("INFO")

    def stop(path):
        raise KeyboardInterrupt

    decodings.act = stop
    with pytest.raises(KeyboardInterrupt):
        open_store(paths, 128, 3, cache_dir=cache)
    assert "storing 6 images at 128 to 4 pixels: 0.4 MB, in " in caplog.text


def test_a_second_process_waits_and_opens_what_the_first_built(paths, cache, decodings, caplog):
    caplog.set_level("INFO")
    decodings.seconds = 0.05
    first = in_another_process(paths, cache)
    decodings.wait()
    store = open_store(paths, 16, 1, cache_dir=cache)
    first.join()
    assert first.exitcode == 0
    assert decodings.count == COUNT
    assert caplog.text.count("waiting for it") == 1
    assert_right(store, paths)


def test_a_sound_store_is_opened_while_another_process_holds_the_lock(paths, cache):
    open_store(paths, 16, 1, cache_dir=cache)
    with FileLock(f"{the_folder(cache)}.lock"):
        assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)


@pytest.mark.parametrize("same", [True, False])
def test_a_killed_build_is_never_opened_and_is_swept_away(paths, cache, decodings, same):
    decodings.seconds = 0.1
    killed = in_another_process(paths, cache)
    decodings.wait()
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert the_folder(cache).suffix == ".part"
    decodings.seconds = 0.0
    asked = paths if same else paths[1:]
    assert_right(open_store(asked, 16, 1, cache_dir=cache), asked)
    assert the_folder(cache).suffix == ""


def test_a_build_in_progress_is_not_swept_away(paths, cache, decodings):
    decodings.seconds = 0.05
    first = in_another_process(paths, cache)
    decodings.wait()
    open_store(paths[1:3], 16, 1, cache_dir=cache)
    first.join()
    assert first.exitcode == 0
    decodings.file.write_text("")
    assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)
    assert decodings.count == 0


def test_ctrl_c_leaves_nothing(paths, cache, decodings):
    decodings.act = lambda path: decodings.count < 3 or os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        open_store(paths, 16, 1, cache_dir=cache)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    decodings.act = lambda path: True
    assert_right(open_store(paths, 16, 1, cache_dir=cache), paths)


def test_a_full_disk_is_told_beforehand(paths, cache, decodings, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 10**6)
    monkeypatch.setattr(store_files.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"1 MB free.* takes 0 MB.*--data\.cache_dir"):
        open_store(paths, 16, 1, cache_dir=cache)
    assert decodings.count == 0


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(paths, cache):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be stored in .*File too large"):
            open_store(paths, 128, 3, cache_dir=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_cache_dir_that_is_a_file_or_below_one_is_refused(paths, cache):
    cache.write_text("")
    for folder in (cache, cache / "below"):
        with pytest.raises(UserError, match=r"cannot be stored in .*--data\.cache_dir"):
            open_store(paths, 16, 1, cache_dir=folder)
    assert cache.read_text() == ""


@pytest.mark.parametrize(("resolution", "channels"), [(12, 1), (0, 1), (16, 2)])
def test_levels_that_cannot_be_are_refused(paths, resolution, channels):
    with pytest.raises(UserError, match="power of two"):
        open_store(paths, resolution, channels)


def test_images_are_copies_and_of_a_level_that_is_there(paths):
    store = open_store(paths, 16, 1)
    store.images(torch.tensor([0, 1]), 16).zero_()
    assert_right(store, paths)
    with pytest.raises(UserError, match=r"at 32 pixels: expected one of 16, 8, 4"):
        store.images([0], 32)
