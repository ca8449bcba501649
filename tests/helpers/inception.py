"""Inception with random weights, in the format of the trained one: no download for the tests."""

from __future__ import annotations

import io

import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


class UntrainedInception(FeatureExtractorInceptionV3):
    def __init__(self):
        empty = io.BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        super().__init__("untrained", ["2048"], feature_extractor_weights_path=empty)

    def load_state_dict(self, state_dict, *args, **kwargs):
        # its constructor cannot do without a file
        assert not state_dict


def example_images(count, size=64, seed=0, channels=3):
    """uint8 images that differ in brightness, contrast, scale of the structures and colour."""
    rng = torch.Generator().manual_seed(seed)
    images = []
    for n in range(count):
        cells = 2 ** (2 + n % 4)
        coarse = torch.randn(1, channels, cells, cells, generator=rng)
        image = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")[0]
        brightness, contrast = torch.rand(2, channels, 1, 1, generator=rng)
        noise = 8 * torch.randn(image.shape, generator=rng)
        images.append(48 + 160 * brightness + (16 + 64 * contrast) * image + noise)
    return torch.stack(images).clamp(0, 255).to(torch.uint8)


def write_random_inception(path, seed=0):
    """Write a state dict whose features are of order one and differ between images.

    He initialisation, then the statistics of each normalisation are taken from a few images: with
    neither, the features of 94 layers vanish or are the same for all images.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = UntrainedInception()
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, generator=rng)
            if isinstance(layer, nn.BatchNorm2d):
                # running statistics become those of the next batch
                layer.train().momentum = 1.0
        x = nn.functional.interpolate(example_images(16, seed=seed).float(), size=(139, 139))
        x = (x - 128) / 128
        for name, layer in network.named_children():
            if name != "fc":
                x = layer(x)
        torch.save(network.state_dict(), path)
    return path
