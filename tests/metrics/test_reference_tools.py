"""The numbers of the tools that people quote, from one file of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.inception import example_images
from torch.utils.data import Dataset

from blastogan.metrics.fidelity import FidelityEvaluator
from blastogan.metrics.frechet import FrechetReference, Moments

pytestmark = pytest.mark.slow(seconds=9)

COUNT, SUBSET = 10, 5


class Images(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, n):
        return self.images[n]


@pytest.fixture(scope="module")
def sides():
    """Reals, and fakes that are darker and less sharp: far enough that no share is 0 or 1."""
    real, fake = example_images(COUNT, seed=1), example_images(COUNT, seed=2)
    return real, (torch.nn.functional.avg_pool2d(fake.float(), 3, 1, 1) * 0.45).to(torch.uint8)


@pytest.fixture(scope="module")
def legacy(sides, inception_weights):
    evaluator = FidelityEvaluator(
        "inception-legacy",
        weights=inception_weights,
        metrics=("fid", "kid", "precision", "recall"),
        kid_subset_size=SUBSET,
        seed=2020,
    )
    gathered = [evaluator.gather([side]) for side in sides]
    return evaluator, gathered


@pytest.mark.filterwarnings("ignore:.*worker processes.*:UserWarning")
def test_legacy_numbers_are_those_of_torch_fidelity(sides, legacy, inception_weights):
    import torch_fidelity

    real, fake = sides
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(fake),
        input2=Images(real),
        fid=True,
        kid=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception_weights),
        kid_subset_size=SUBSET,
        cuda=False,
        cache=False,
        batch_size=4,
        verbose=False,
    )
    evaluator, gathered = legacy
    ours = evaluator.compare(*gathered).values
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert ours["kid_std"] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)
    assert ours["precision"] == theirs["precision"]
    assert ours["recall"] == theirs["recall"]
    assert 0 < ours["precision"] < ours["recall"] < 1


def test_legacy_distance_is_that_of_torchmetrics(sides, legacy, inception_weights):
    from torchmetrics.image.fid import FrechetInceptionDistance

    # by default it resizes in a third way, neither TensorFlow's nor the clean one
    metric = FrechetInceptionDistance(
        feature_extractor_weights_path=str(inception_weights), antialias=False
    )
    for side, is_real in zip(sides, (True, False), strict=True):
        for part in side.split(4):
            metric.update(part, real=is_real)
    evaluator, gathered = legacy
    ours = evaluator.compare(*gathered).values["fid"]
    assert ours == pytest.approx(float(metric.compute()), rel=1e-3)


@pytest.mark.filterwarnings("ignore:.*disp.*:DeprecationWarning")
def test_clean_distance_is_that_of_clean_fids_pipeline(sides, inception_weights):
    from cleanfid.fid import frechet_distance
    from cleanfid.resize import build_resizer

    from blastogan.metrics.extractors import load_extractor

    resize = build_resizer("clean")
    clean = load_extractor("inception-clean", inception_weights)
    theirs, ours = [], []
    for side in sides:
        resized = [resize(image.permute(1, 2, 0).numpy()) for image in side]
        x = (torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) - 128) / 128
        with torch.no_grad():
            for name, layer in clean._network.named_children():
                x = x if name == "fc" else layer(x)
        # its matrix root takes a minute in 2048 dimensions, and is inexact where it is singular
        theirs.append(x.flatten(1)[:, ::256].numpy())
        ours.append(Moments.of(clean(side)[:, ::256]))
    moments = [(each.mean(axis=0), np.cov(each, rowvar=False)) for each in theirs]
    expected = float(frechet_distance(*moments[0], *moments[1]))
    assert expected > 1
    assert FrechetReference(ours[0]).distance(ours[1]) == pytest.approx(expected, rel=1e-3)
