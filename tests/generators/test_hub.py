"""The hub, played by a folder: what is uploaded can be loaded again, and says what it is."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers.sources import make, saved
from huggingface_hub import HfApi, ModelCard, hub_mixin

from blastogan.errors import UserError
from blastogan.generators import HubGenerator, hub


@pytest.fixture
def generator():
    content = saved(make("stylegan"))
    figures = [
        {"against": "images trained on", "extractor": "x", "n_real": 9, "n_fake": 5, "kid": 1}
    ]
    card = {
        **hub.Generator.from_content(content, "test").full_card,
        "trained_on": {"source": "phantoms", "parts": {"train": 9}, "classes": {"AB": 9}},
        "figures": figures,
    }
    return HubGenerator.from_content({**content, "card": card}, "test")


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """A hub without a network, in a folder."""
    home = tmp_path / "hub"

    def upload(self, *, repo_id, folder_path, **options):
        shutil.copytree(folder_path, home / repo_id)
        return f"https://hub/{repo_id}"

    def download(repo_id, filename=None, **options):
        return str(home / repo_id / (filename or ""))

    def create(self, repo_id, **options):
        return SimpleNamespace(repo_id=repo_id)

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    monkeypatch.setattr(hub_mixin, "hf_hub_download", download)
    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setattr(hub, "get_token", lambda: "token")
    return home


def test_what_is_pushed_can_be_loaded_and_has_a_card(generator, fake_hub):
    assert generator.push_to_hub("me/blastocysts").endswith("me/blastocysts")
    for source in ("me/blastocysts", fake_hub / "me/blastocysts"):
        loaded = HubGenerator.from_pretrained(source)
        assert torch.equal(loaded.generate(3, "AB"), generator.generate(3, "AB"))
    card = ModelCard.load(fake_hub / "me/blastocysts/README.md")
    (result,) = card.data.eval_results
    assert result.metric_value == 1
    assert "KID" in result.metric_name
    assert "x, N = 5" in result.metric_name
    assert "N = 9" in result.dataset_name
    for text in ("phantoms, N = 9", "AB 9", "unaudited", "none stated", "not for clinical use"):
        assert text in card.text


def test_without_a_token_there_is_one_message(generator, fake_hub, monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(UserError, match="token"):
        generator.push_to_hub("me/blastocysts")
    assert not fake_hub.exists()


def test_what_the_hub_refuses_is_one_message(generator, fake_hub, monkeypatch):
    response = SimpleNamespace(status_code=403, headers={}, request=None)
    refusal = hub.HfHubHTTPError("no", response=response)

    def refuse(self, **options):
        raise refusal

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(UserError, match="right to write"):
        generator.push_to_hub("me/blastocysts")
    with pytest.raises(UserError, match="USER/NAME"):
        generator.push_to_hub("me/too/many")
