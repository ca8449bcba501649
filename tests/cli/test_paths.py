"""Paths of command lines and configurations mean one place, whoever resolves them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command import blastogan
from pytorch_lightning import Trainer

from blastogan.utils.files import user_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("~/exp", "home/exp"),
        ("exp/", "exp"),
        ("a/../exp", "exp"),
        ("link/../exp", "home/exp"),
        ("./~", "~"),
        ("~nobody-here/exp", "~nobody-here/exp"),
    ],
)
def test_a_trainer_and_a_writer_of_files_mean_the_same_folder(typed, meant, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("home/within").mkdir(parents=True)
    Path("link").symlink_to("home/within")
    path = user_path(typed)
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=str(Path(path)))
    places = path, trainer.default_root_dir, user_path(path)
    assert {Path(each).resolve() for each in places} == {tmp_path / meant}


@pytest.mark.parametrize("key", ["run_dir", "trainer: {default_root_dir"])
def test_a_run_in_the_home_is_not_torn_in_two(key, here, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(here / "home"))
    Path("home/exp").mkdir(parents=True)
    Path("home/exp/thesis.tex").write_text("no run")
    Path("my.yaml").write_text(f"{key}: ~/exp{'}' if '{' in key else ''}\n")
    assert blastogan("fit", "--config", "tiny.yaml", "--config", "~/../my.yaml") == 2
    assert "not empty" in capfd.readouterr().err
    assert not Path("~").exists()
    assert blastogan("fit", "--config", "tiny.yaml", "--run_dir", "s3://bucket/exp") == 2
    assert "URL" in capfd.readouterr().err
