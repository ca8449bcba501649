"""Decoded images and their cache: what it holds, when it is used, and what happens to damage."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blastogan.data import batches
from blastogan.data import cache as module
from blastogan.data.cache import decode_images
from blastogan.data.images import decoding
from blastogan.data.images.decoding import load_framed, pyramid
from blastogan.data.images.framing import Crop
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
    monkeypatch.setattr(module, "load_framed", counter)
    return counter


def the_file(cache):
    (file,) = cache.iterdir()
    return file


def in_another_process(paths, cache):
    process = multiprocessing.get_context("fork").Process(
        target=decode_images, args=(paths, 16, 1), kwargs={"cache_dir": cache}
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
    store = decode_images(paths, resolution, channels, cache_dir=cache_dir)
    assert_right(store, paths, resolution, channels)
    assert not store.faults
    assert store.not_found == 0


@pytest.mark.parametrize("stored", [False, True])
def test_workers_change_nothing_and_leave_the_random_states_alone(paths, cache, stored):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    for workers in (0, 2):
        folder = cache / str(workers) if stored else None
        assert_right(decode_images(paths, 16, 1, cache_dir=folder, num_workers=workers), paths)
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_nothing_is_written_without_a_cache_dir(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    decode_images(paths, 16, 1, num_workers=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_open_decodes_nothing(paths, cache, decodings):
    first = decode_images(paths, 16, 1, cache_dir=cache)
    second = decode_images(paths, 16, 1, cache_dir=cache)
    assert decodings.count == COUNT
    assert torch.equal(first.rows, second.rows)
    assert_right(second, paths)


def test_renamed_reordered_and_doubled_files_are_found_again(paths, cache, decodings):
    decode_images(paths, 16, 1, cache_dir=cache)
    paths[0] = paths[0].rename(paths[0].with_name("renamed.png"))
    paths.append(Path(shutil.copy(paths[1], paths[1].with_name("copy.png"))))
    store = decode_images(paths[::-1], 16, 1, cache_dir=cache)
    assert decodings.count == COUNT
    assert_right(store, paths[::-1])


@pytest.mark.parametrize("stored", [False, True])
def test_files_of_the_same_content_share_a_row(paths, cache, stored):
    shutil.copy(paths[0], paths[3])
    store = decode_images(paths, 16, 1, cache_dir=cache if stored else None)
    assert store.rows[0] == store.rows[3]
    assert len(store.levels[16]) == len(set(store.rows.tolist())) == COUNT - 1


def test_a_changed_file_another_shape_and_another_crop_are_other_stores(paths, cache, decodings):
    decode_images(paths, 16, 1, cache_dir=cache)
    paths[2].write_bytes(paths[2].read_bytes() + b"\0")
    for n, asked in enumerate([(16, 1), (8, 1), (16, 3), (16, 1, Crop("embryo", 0.1))]):
        decode_images(paths, *asked, cache_dir=cache)
        assert decodings.count == COUNT * (n + 2)
    assert len(list(cache.glob("images-*.pt"))) == len(list(cache.iterdir())) == 5


def truncate(file, paths):
    os.truncate(file, file.stat().st_size - 1)


def empty(file, paths):
    file.write_bytes(b"")


def alter_one_pixel(file, paths):
    level = decode_images(paths, 16, 1).levels[16].numpy().tobytes()
    content = bytearray(file.read_bytes())
    content[content.index(level) + 100] ^= 1
    file.write_bytes(content)


def become_another_cache(file, paths):
    other = file.parent.with_name("other")
    decode_images(paths[1:], 16, 1, cache_dir=other)
    shutil.copy(the_file(other), file)


def become_an_archive(file, paths):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "foreign")


def hold_a_pickle_that_runs_code(file, paths):
    torch.save({"key": file.stem.removeprefix("images-"), "levels": Evil()}, file)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        empty,
        alter_one_pixel,
        become_another_cache,
        become_an_archive,
        hold_a_pickle_that_runs_code,
    ],
)
def test_a_damaged_cache_is_replaced_with_a_message(
    paths, cache, damage, caplog, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    decode_images(paths, 16, 1, cache_dir=cache)
    in_use = decode_images(paths, 16, 1, cache_dir=cache)
    # as a restored backup would, without touching the file in use
    other = Path(shutil.copy(the_file(cache), tmp_path / the_file(cache).name))
    damage(other, paths)
    other.replace(the_file(cache))
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)
    (message,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert str(the_file(cache)) in message
    assert not Path("evil").exists()
    assert_right(in_use, paths)
    caplog.clear()
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)
    assert not caplog.records


def test_writing_to_the_levels_changes_no_file(paths, cache, caplog):
    for level in decode_images(paths, 16, 1, cache_dir=cache).levels.values():
        level.zero_()
    caplog.clear()
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)
    assert not caplog.records


@pytest.mark.parametrize("stored", [False, True])
def test_faults_stop_nothing_and_are_kept_without_names(paths, cache, decodings, stored):
    paths[1].write_bytes(b"no image")
    paths[4].unlink()
    os.mkfifo(paths[5].with_name("pipe"))
    asked = [*paths, paths[5].with_name("pipe")]
    for _ in range(2):
        store = decode_images(asked, 16, 1, cache_dir=cache if stored else None)
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
        assert decode_images(asked, 16, 1, cache_dir=cache).faults[1].startswith(f"{moved}: ")
        assert b"1.png" not in the_file(cache).read_bytes()


def test_a_fault_that_passes_is_not_kept(paths, cache, decodings, caplog):
    def fail(path):
        if path == paths[1]:
            raise UserError(f"{path}: out of memory just now")
        return True

    decodings.act = fail
    assert list(decode_images(paths, 16, 1, cache_dir=cache).faults) == [1]
    decodings.act = lambda path: True
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)
    assert f"lacks {paths[1]}" in caplog.text
    before = decodings.count
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)
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
            decode_images(
                paths, 16, 1, cache_dir=cache if stored else None, num_workers=0, skip_faulty=False
            )
        assert [problem.split(": ")[0] for problem in caught.value.problems] == [str(paths[broken])]
    assert not cache.exists() or not list(cache.iterdir())
    # of the same content, where that may be skipped
    assert len(decode_images(paths, 16, 1, cache_dir=cache).faults) == 1
    with pytest.raises(ProblemList):
        decode_images(paths, 16, 1, cache_dir=cache, skip_faulty=False)


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_what_it_was(paths, cache, decodings):
    content, changed = paths[2].read_bytes(), paths[3].read_bytes()

    def change(path):
        if path == paths[2]:
            path.write_bytes(changed)
        return True

    decodings.act = change
    store = decode_images(paths, 16, 1, cache_dir=cache)
    assert store.faults == {2: f"{paths[2]}: changed while it was read: start again"}
    decodings.act = lambda path: True
    paths[2].write_bytes(content)
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)


def test_a_file_too_large_to_be_decoded_is_not_read(paths, monkeypatch, decodings):
    monkeypatch.setattr(decoding, "MAX_BYTES", paths[0].stat().st_size - 1)
    assert "expected at most 0" in decode_images(paths[:1], 16, 1).faults[0]
    assert decodings.count == 0


def test_embryos_that_were_not_found_are_counted_by_image(paths, cache, decodings):
    shutil.copy(paths[1], paths[2])
    decodings.act = lambda path: path not in paths[1:4]
    for cache_dir in (None, cache, cache):
        assert decode_images(paths, 16, 1, Crop("embryo", 0.1), cache_dir=cache_dir).not_found == 3


@pytest.mark.parametrize("stored", [False, True])
def test_no_image_at_all_is_an_empty_store(paths, cache, stored):
    paths[0].write_bytes(b"no image")
    for asked in ([], paths[:1], paths[:1]):
        store = decode_images(asked, 16, 1, cache_dir=cache if stored else None)
        assert store.levels[8].shape == (0, 1, 8, 8)
        assert store.rows.tolist() == [-1] * len(asked)


def test_the_size_is_logged_before_anything_is_decoded(paths, cache, decodings, caplog):
    caplog.set_level("INFO")

    def stop(path):
        raise KeyboardInterrupt

    decodings.act = stop
    with pytest.raises(KeyboardInterrupt):
        decode_images(paths, 128, 3, cache_dir=cache)
    assert "decoding 6 images at 128 pixels and less: 0.4 MB" in caplog.text


def test_two_processes_at_once_write_one_sound_cache(paths, cache, decodings):
    decodings.seconds = 0.02
    first = in_another_process(paths, cache)
    decodings.wait()
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)
    first.join()
    assert first.exitcode == 0
    decodings.file.write_text("")
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)
    assert decodings.count == 0
    assert the_file(cache).suffix == ".pt"


def test_a_process_killed_while_it_decodes_leaves_nothing(paths, cache, decodings):
    decodings.seconds = 0.1
    killed = in_another_process(paths, cache)
    decodings.wait()
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert list(cache.iterdir()) == []


def test_ctrl_c_leaves_nothing(paths, cache, decodings):
    decodings.act = lambda path: decodings.count < 3 or os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        decode_images(paths, 16, 1, cache_dir=cache)
    assert list(cache.iterdir()) == []
    decodings.act = lambda path: True
    assert_right(decode_images(paths, 16, 1, cache_dir=cache), paths)


def test_workers_ignore_ctrl_c(paths, decodings, monkeypatch):
    def forked_loader(*args, **kwargs):
        return torch.utils.data.DataLoader(*args, multiprocessing_context="fork", **kwargs)

    decodings.act = lambda path: os.kill(os.getpid(), signal.SIGINT) is None
    monkeypatch.setattr(batches, "DataLoader", forked_loader)
    assert_right(decode_images(paths, 16, 1, num_workers=1), paths)


def test_a_full_disk_is_reported_and_the_images_stay_in_memory(paths, cache, caplog):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        images = decode_images(paths, 128, 3, cache_dir=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be cached in" in caplog.text
    assert_right(images, paths, 128, 3)
    assert list(cache.iterdir()) == []


def test_progress_is_shown_by_the_caller(paths):
    shown = []

    def track(items, total, description):
        shown.append((total, description))
        return items

    decode_images(paths, 16, 1, track=track)
    assert shown == [(COUNT, "decoding images")]


def test_a_cache_dir_that_is_a_file_or_below_one_is_refused(paths, cache):
    cache.write_text("")
    for folder in (cache, cache / "below"):
        with pytest.raises(UserError, match=r"cannot be cached in .*--data\.cache_dir"):
            decode_images(paths, 16, 1, cache_dir=folder)
    assert cache.read_text() == ""


@pytest.mark.parametrize(("resolution", "channels"), [(12, 1), (0, 1), (16, 2)])
def test_levels_that_cannot_be_are_refused(paths, resolution, channels):
    with pytest.raises(UserError, match="resolution"):
        decode_images(paths, resolution, channels)


def test_images_are_copies_and_of_a_level_that_is_there(paths):
    store = decode_images(paths, 16, 1)
    store.images(torch.tensor([0, 1]), 16).zero_()
    assert_right(store, paths)
    with pytest.raises(UserError, match=r"at 32 pixels: expected one of 16, 8, 4"):
        store.images([0], 32)
