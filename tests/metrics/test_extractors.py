from __future__ import annotations

import dataclasses
import hashlib
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from cleanfid.fid import frechet_distance
from cleanfid.resize import build_resizer
from helpers.inception import example_images
from PIL import Image
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_clip import CLIPVisual
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from blastogan.errors import UserError
from blastogan.metrics import extractors
from blastogan.metrics.extractors import (
    EXTRACTORS,
    INCEPTION,
    load_extractor,
    register_extractor,
)
from blastogan.metrics.feature_networks import CleanInception, resize_clean
from blastogan.metrics.frechet import FrechetReference, Moments
from blastogan.metrics.weights import WeightsNotFound

REGISTERED_BY_THE_IMPORT = set(FEATURE_EXTRACTORS_REGISTRY)
SIZES = [(32, 32), (64, 64), (128, 128), (256, 256), (500, 400)]


@pytest.fixture(scope="module")
def clean(inception_weights):
    return load_extractor(weights=inception_weights)


pytestmark = pytest.mark.usefixtures("cache")


def file_with(path, content):
    path.write_bytes(content)
    return path


def pillow_bicubic(channel):
    image = Image.fromarray(channel.astype(np.float32))
    resized = image.resize((299, 299), Image.Resampling.BICUBIC)
    return np.asarray(resized).clip(0, 255)


def by_pillow(image):
    return torch.from_numpy(np.stack([pillow_bicubic(channel) for channel in image.numpy()]))


class Images(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def random_states():
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002
    return random.getstate(), numpy_state, torch.get_rng_state().tolist()


@pytest.mark.parametrize("size", SIZES)
def test_clean_resize_is_that_of_pillow_and_of_clean_fid(size):
    rng = torch.Generator().manual_seed(0)
    # black and white pixels overshoot most
    image = 255 * torch.randint(2, (3, *size), dtype=torch.uint8, generator=rng)
    resized = resize_clean(image[None])[0]
    assert (resized - by_pillow(image)).abs().max() < 0.01
    theirs = build_resizer("clean")(image.permute(1, 2, 0).numpy())
    assert np.abs(resized.permute(1, 2, 0).numpy() - theirs).max() < 0.01
    assert resized.min() == 0
    assert resized.max() == 255


def test_frechet_distance_is_that_of_clean_fid():
    rng = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 60, 12, generator=rng, dtype=torch.float64)
    second = second * 1.5 + 0.3
    moments = Moments.of(first), Moments.of(second)
    theirs = [(m.mean.numpy(), m.covariance.numpy()) for m in moments]
    ours = FrechetReference(moments[0]).distance(moments[1])
    with pytest.warns(DeprecationWarning, match="disp"):
        assert ours == pytest.approx(frechet_distance(*theirs[0], *theirs[1]), rel=1e-6)


def test_clean_features_are_torch_fidelitys_behind_the_resize_of_pillow(clean, inception_weights):
    images = example_images(6, size=96)
    theirs = torch_fidelity.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(inception_weights)
    )
    resized = torch.stack([by_pillow(image) for image in images])
    # whatever its own resize gives is put aside for Pillow's
    theirs.Conv2d_1a_3x3.register_forward_pre_hook(lambda *_: (resized - 128) / 128)
    expected = theirs(images)[0]
    features = clean(images)
    assert features.shape == (6, clean.dim)
    assert (features - expected).norm() < 1e-3 * expected.norm()
    spread = features.std(dim=0) / features.mean(dim=0).abs().clamp_min(1e-3)
    assert spread.median() > 0.1


def test_legacy_features_are_torch_fidelitys_own(inception_weights):
    images = example_images(4, size=80)
    theirs = torch_fidelity.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(inception_weights)
    )
    legacy = load_extractor("inception-legacy", inception_weights)
    assert torch.equal(legacy(images), theirs(images)[0])


def test_torch_fidelity_knows_the_clean_extractor(clean, inception_weights):
    assert "inception-clean" in REGISTERED_BY_THE_IMPORT
    first, second = example_images(4, seed=1), example_images(4, seed=2)
    found = torch_fidelity.calculate_metrics(
        input1=Images(first),
        input2=Images(second),
        feature_extractor="inception-clean",
        feature_extractor_weights_path=str(inception_weights),
        kid=True,
        kid_subsets=1,
        kid_subset_size=4,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )["kernel_inception_distance_mean"]
    a, b = clean(first).double(), clean(second).double()
    same = [((x @ x.T / clean.dim + 1) ** 3) for x in (a, b)]
    other = (a @ b.T / clean.dim + 1) ** 3
    # unbiased: no image is compared with itself
    within = sum((k.sum() - k.trace()) / (4 * 3) for k in same)
    assert found == pytest.approx(float(within - 2 * other.mean()), rel=1e-3)


def test_every_network_of_torch_fidelity_is_there_with_its_layer():
    names = list(EXTRACTORS)
    assert names[:2] == ["inception-clean", "inception-legacy"]
    assert set(FEATURE_EXTRACTORS_REGISTRY) <= {*names, "inception-v3-compat"}
    for spec in EXTRACTORS.values():
        assert spec.layer in spec.network.get_provided_features_list()
    by_variable = [s.name for s in EXTRACTORS.values() if s.weights and s.weights.variable]
    assert by_variable == ["inception-clean", "inception-legacy"]
    with pytest.raises(UserError, match="unknown extractor 'inception'"):
        load_extractor("inception")


def test_grey_images_count_as_three_equal_channels_and_each_for_itself(clean):
    grey = example_images(2, channels=1)
    features = clean(grey)
    assert torch.equal(features, clean(grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(features[1:], clean(grey[1:]), rtol=1e-4, atol=1e-4)
    # usable outside of inference mode, in place too
    assert features.mul_(2).dtype == torch.float32


def test_autocast_does_not_reach_the_features(clean):
    images = example_images(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = clean(images)
    assert torch.equal(inside, clean(images))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 32, 32), "to_uint8"),
        (torch.zeros(2, 4, 32, 32, dtype=torch.uint8), r"\(2, 4, 32, 32\)"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"\(3, 32, 32\)"),
        (torch.zeros(0, 3, 32, 32, dtype=torch.uint8), "no images"),
    ],
)
def test_images_of_another_kind_are_refused(clean, images, message):
    with pytest.raises(UserError, match=message):
        clean(images)


def test_label_and_key_tell_the_weights(clean, inception_weights, monkeypatch):
    digits = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    assert clean.label == f"inception-clean (weights {digits[:8]})"
    spec = EXTRACTORS["inception-clean"]
    source = dataclasses.replace(INCEPTION, sha256=digits)
    monkeypatch.setitem(EXTRACTORS, spec.name, dataclasses.replace(spec, weights=source))
    same = load_extractor(weights=inception_weights)
    assert same.label == "inception-clean"
    assert same.key == clean.key == f"inception-clean-2048-clean-{digits[:16]}-v1"


def test_loading_moves_no_random_state(inception_weights, monkeypatch):
    class Drawing(CleanInception):
        def __init__(self, *args, **settings):
            random.random(), np.random.rand(700)  # noqa: NPY002
            super().__init__(*args, **settings)

    spec = dataclasses.replace(EXTRACTORS["inception-clean"], network=Drawing)
    monkeypatch.setitem(EXTRACTORS, spec.name, spec)
    before = random_states()
    load_extractor(weights=inception_weights)
    assert random_states() == before


class Intruder:
    def __reduce__(self):
        return Path.touch, (Path("intruded"),)


@pytest.mark.parametrize("name", ["inception-clean", "clip-rn50"])
def test_code_in_a_weights_file_is_not_run(here, name):
    for path, content in (
        ("a.pth", pickle.dumps(Intruder(), protocol=2)),
        ("b.pth", b"PK\3\4 cut off"),
    ):
        file_with(Path(path), content)
        with pytest.raises(UserError, match=hashlib.sha256(content).hexdigest()) as error:
            load_extractor(name, path)
        assert EXTRACTORS[name].weights.sha256 in str(error.value)
    torch.save({"weight": Intruder()}, "archive.pth")
    with pytest.raises(UserError, match="sha256"):
        load_extractor(name, "archive.pth")
    assert not Path("intruded").exists()


def test_weights_of_another_network_are_refused(here):
    torch.save({"fc.weight": torch.zeros(3, 3)}, "other.pth")
    with pytest.raises(UserError, match="Conv2d_1a") as error:
        load_extractor(weights="other.pth")
    assert hashlib.sha256(Path("other.pth").read_bytes()).hexdigest() in str(error.value)
    torch.save([torch.zeros(3)], "list.pth")
    with pytest.raises(UserError, match="dictionary"):
        load_extractor(weights="list.pth")


REGISTERING = """
import sys
import pytest
from blastogan.errors import UserError
from blastogan.metrics.fidelity import FidelityEvaluator
with pytest.raises(UserError, match="blastogan.evaluation"):
    FidelityEvaluator("grader")
import blastogan
assert "blastogan.evaluation" not in sys.modules
from blastogan.metrics.weights import WeightsNotFound
with pytest.raises(WeightsNotFound):
    blastogan.FidelityEvaluator("grader")
"""


def test_the_public_evaluator_knows_the_grader():
    subprocess.run([sys.executable, "-c", REGISTERING], check=True)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="inception-clean"):
        register_extractor(EXTRACTORS["inception-clean"])


def test_grader_without_a_checkpoint_says_how_to_train_one():
    import blastogan.evaluation  # noqa: F401

    with pytest.raises(WeightsNotFound, match="blastogan grade fit"):
        load_extractor("grader")


HUB = """
from torch import nn

def dinov2_vits14(pretrained=True):
    assert not pretrained
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
"""


def test_dinov2_takes_its_code_from_the_hub_and_its_weights_from_a_file(cache, here, monkeypatch):
    monkeypatch.setenv("XFORMERS_DISABLED", "1")
    layer = torch.nn.Linear(3, 5)
    torch.save({f"2.{name}": value for name, value in layer.state_dict().items()}, "dino.pth")
    with pytest.raises(UserError, match="facebookresearch_dinov2_main"):
        load_extractor("dinov2-vit-s-14", "dino.pth")
    code = cache.parent / "facebookresearch_dinov2_main"
    code.mkdir()
    (code / "hubconf.py").write_text(HUB)
    extractor = load_extractor("dinov2-vit-s-14", "dino.pth")
    white = torch.full((1, 3, 30, 30), 255, dtype=torch.uint8)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    torch.testing.assert_close(extractor(white), layer((1 - mean) / deviation)[None].detach())
    assert extractor.dim == 5


class TinyClip(CLIPVisual):
    def __init__(self):
        super().__init__(8, 32, 1, 64, 16)
        self.text_projection = torch.nn.Parameter(torch.zeros(8, 8))

    def forward(self, images):
        return self.visual(images) @ self.text_projection


class HostileScript(torch.nn.Module):
    """Overwrites a file when TorchScript opens its archive."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images

    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.weight = state[0]
        file = torch.from_file("precious", True, 8, dtype=torch.uint8)
        self.training = bool(file.fill_(42)[0] == 42)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_code_in_a_torchscript_archive_is_not_run(here):
    torch.jit.save(torch.jit.script(HostileScript()), "hostile.pt")
    precious = file_with(Path("precious"), b"precious")
    with pytest.raises(UserError, match="safety"):
        load_extractor("clip-vit-b-32", "hostile.pt")
    assert precious.read_bytes() == b"precious"
    torch.jit.load("hostile.pt")
    assert precious.read_bytes() == b"*" * 8


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_clip_takes_the_torchscript_archive(here):
    network = TinyClip()
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 32, 32)), "clip.pt")
    extractor = load_extractor("clip-vit-b-32", "clip.pt")
    black = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    expected = network.visual((-mean / deviation)[None, :, None, None].expand(1, 3, 32, 32))
    # the archive's layers are published in half precision and loaded as such
    torch.testing.assert_close(extractor(black), expected.detach(), rtol=0.02, atol=0.02)


class LogBrightness(torch.nn.Module):
    def __init__(self, offset):
        super().__init__()
        self.offset = offset

    def forward(self, images):
        return (torch.log(images.float().mean(dim=(2, 3)) + self.offset),)


def test_weights_that_give_no_finite_features_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(extractors, "_build", lambda spec, file: LogBrightness(0))
    with pytest.raises(UserError, match="not finite"):
        load_extractor(weights=file_with(tmp_path / "any.pth", b"any"))
