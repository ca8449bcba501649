from __future__ import annotations

import hashlib
import logging
import socket

import pytest

from blastogan.errors import UserError
from blastogan.metrics import weights
from blastogan.metrics.weights import PublishedWeights, WeightsNotFound, find_weights


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("TEST_WEIGHTS", raising=False)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def file_with(path, content):
    path.write_bytes(content)
    return path


def published(content=b"published", url="http://127.0.0.1:9/weights.pth"):
    digits = hashlib.sha256(content).hexdigest()[:8]
    return PublishedWeights(url, digits, ("first.pth", "second.pth"), 95, "TEST_WEIGHTS")


def test_given_file_goes_before_variable_before_cache_before_download(
    tmp_path, cache, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "blastogan")
    fetched = file_with(tmp_path / "remote.pth", b"published")
    source = published(url=fetched.as_uri())
    assert find_weights("net", source).path == cache / "first.pth"
    assert "fetching file:///" in caplog.text
    (cache / "first.pth").rename(cache / "second.pth")
    fetched.unlink()
    file = find_weights("net", source)
    assert file.path == cache / "second.pth"
    assert file.published
    caplog.clear()
    named = file_with(tmp_path / "named.pth", b"own")
    monkeypatch.setenv("TEST_WEIGHTS", str(named))
    file = find_weights("net", source)
    assert (file.path, file.published) == (named, False)
    assert f"{file.sha256}, not the published {source.sha256}" in caplog.text
    given = file_with(tmp_path / "given.pth", b"published")
    caplog.clear()
    assert find_weights("net", source, given).published
    assert not caplog.text
    with pytest.raises(WeightsNotFound, match="gone"):
        find_weights("net", source, tmp_path / "gone.pth")
    named.unlink()
    with pytest.raises(WeightsNotFound, match="TEST_WEIGHTS"):
        find_weights("net", source)


def test_download_with_another_checksum_is_not_kept(tmp_path, cache):
    source = published(url=file_with(tmp_path / "remote.pth", b"publ").as_uri())
    with pytest.raises(WeightsNotFound, match=hashlib.sha256(b"publ").hexdigest()):
        find_weights("net", source)
    assert not list(cache.iterdir())


def test_failed_download_says_all_ways_to_bring_the_file(cache):
    source = published()
    with pytest.raises(WeightsNotFound) as error:
        find_weights("net", source)
    for part in (source.url, source.sha256, "95 MB", "--weights PATH", "TEST_WEIGHTS=PATH"):
        assert part in str(error.value)
    assert str(cache / "first.pth") in str(error.value)
    assert not list(cache.iterdir())


def test_download_from_a_silent_server_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth"
        with pytest.raises(WeightsNotFound, match="timed out"):
            find_weights("net", published(url=url))
    assert not list(cache.iterdir())


def test_damaged_file_in_the_cache_is_named_with_both_checksums(cache):
    file_with(cache / "first.pth", b"publ")
    with pytest.raises(UserError) as error:
        find_weights("net", published())
    for part in (hashlib.sha256(b"publ").hexdigest(), published().sha256, "delete", "first.pth"):
        assert part in str(error.value)
