"""Version and commit of the package, in all that it writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import blastogan
from blastogan.__main__ import main
from blastogan.utils import version
from blastogan.utils.files import write_json


def test_version_and_commit_are_printed_and_written_into_json(capsys, tmp_path):
    assert main(["--version"]) == 0
    found = version.provenance()
    assert found["version"] == blastogan.__version__
    shown = capsys.readouterr().out
    assert all(str(value) in shown for value in found.values() if value)
    write_json({"a": 1}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1, "blastogan": found}


def git(folder: Path, *args: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *args], check=True, capture_output=True)


def test_the_commit_is_that_of_the_checkout_alone(tmp_path, monkeypatch):
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "m")
    monkeypatch.setattr(version, "_CHECKOUT", tmp_path)
    assert len(version._commit()) == 12
    # an environment within a repository of the user's
    inside = tmp_path / "site-packages"
    inside.mkdir()
    monkeypatch.setattr(version, "_CHECKOUT", inside)
    assert version._commit() is None


@pytest.mark.parametrize("error", [FileNotFoundError, subprocess.TimeoutExpired("git", 5)])
def test_without_git_there_is_no_commit(error, tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(version, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(subprocess, "run", fail)
    assert version._commit() is None
