"""The augmentation pipeline and its ready-made sets of operations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from blastogan.augment.colour import PHOTOMETRIC, recolour
from blastogan.augment.filters import BAND_NAMES, add_noise, cut_out, filter_bands
from blastogan.augment.gates import Draws, OperationGates
from blastogan.augment.geometry import GEOMETRIC, random_map
from blastogan.augment.warp import warp
from blastogan.errors import ProblemList
from blastogan.networks.layers import without_autocast

OPERATIONS: dict[str, str] = {
    "flip": "mirrored: 1 for on",
    "turn": "quarter turns: 1 for on",
    "shift": "shift by whole pixels, at most this share of the side",
    "scale": "zoom, standard deviation of its logarithm to base 2",
    "rotate": "rotation, at most this share of half a turn either way",
    "stretch": "width against height, standard deviation of the logarithm to base 2",
    "offset": "shift by fractions, standard deviation as a share of the side",
    "brightness": "standard deviation of what is added, where images lie in [-1, 1]",
    "contrast": "standard deviation of its logarithm to base 2",
    "luma_flip": "light to dark: 1 for on (RGB)",
    "hue": "rotation of hue, at most this share of half a turn either way (RGB)",
    "saturation": "standard deviation of its logarithm to base 2 (RGB)",
    "bands": "gain of a band of frequencies, standard deviation of its logarithm to base 2",
    "noise": "white noise, scale of its half-normal standard deviation",
    "cutout": "side of a grey square as a share of the side",
}
"""All operations, with the meaning of their amplitude."""

SWITCHES = ("flip", "turn", "luma_flip")
"""Operations that are on (1) or off (0)."""

SETS: dict[str, dict[str, float]] = {
    "none": {},
    "grade-preserving": {
        "flip": 1.0,
        "turn": 1.0,
        "shift": 0.0625,
        "scale": 0.1,
        "rotate": 1.0,
        "offset": 0.03,
        "brightness": 0.1,
        "contrast": 0.25,
    },
    "bgc": {
        "flip": 1.0,
        "turn": 1.0,
        "shift": 0.125,
        "scale": 0.2,
        "rotate": 1.0,
        "stretch": 0.2,
        "offset": 0.125,
        "brightness": 0.2,
        "contrast": 0.5,
        "luma_flip": 1.0,
        "hue": 1.0,
        "saturation": 1.0,
    },
}
"""Ready-made sets.

``bgc`` has the operations and amplitudes of this set of Karras et al. 2020 ("Training generative
adversarial networks with limited data"): pixel blitting, general geometry and colour. Pixels are
resampled differently, see `warp`, and grey images are not inverted, as the authors' code does: no
microscope lights relief that way.

``grade-preserving`` is ours for embryos. A grade is read from the number, size and cohesion of
cells, and a discriminator that gets the grade of an image must still be able to read it. So the
embryo, which has no canonical orientation, turns freely; it moves and zooms little, so that most
of it stays in the frame; the light changes little; nothing squashes it, and nothing adds or removes
cells. Fakes are augmented as reals are, so that this set may go further than the one of the same
name for training images (``data.augment``), which the generator learns to imitate.
"""

_ORDER = (*GEOMETRIC, "rotate again", *PHOTOMETRIC, *BAND_NAMES, "noise", "cutout")


def check_operations(amplitudes: Mapping[str, float]) -> None:
    """Refuse unknown operations and invalid amplitudes.

    Raises:
        ProblemList: If a name is unknown or an amplitude is invalid; lists all problems.
    """
    problems = [f"there is no operation {name!r}" for name in amplitudes if name not in OPERATIONS]
    problems += [
        f"{name} is {amplitude}: expected 0 or 1"
        for name, amplitude in amplitudes.items()
        if name in SWITCHES and amplitude not in (0, 1)
    ]
    problems += [
        f"{name} is {amplitude}: expected 0 or more ({OPERATIONS[name]})"
        for name, amplitude in amplitudes.items()
        if name in OPERATIONS and name not in SWITCHES and not 0.0 <= amplitude < float("inf")
    ]
    if problems:
        remedy = f"Operations are {', '.join(OPERATIONS)}."
        raise ProblemList("augment has operations that cannot be", problems, remedy)


def augment_images(
    images: Tensor, amplitudes: Mapping[str, float], p: Tensor | float, draws: Draws
) -> Tensor:
    """Augment the images of a batch independently of each other.

    Every operation takes place with probability p. Those that move pixels are composed into one
    affine map, those of colour into one affine map of colours; bands, noise and cut-out follow.
    Images are reflected beyond their edges. It is differentiable any number of times; an image on
    which no operation takes place stays bit-equal.

    Args:
        images: ``(B, C, R, R)``, values around [-1, 1].
        amplitudes: By operation, see `OPERATIONS` and `SETS`.
        p: Probability, 0 to 1; as a scalar tensor it is not read on the host.
        draws: Random numbers, a row for each image.
    """
    amplitudes = {name: amplitude for name, amplitude in amplitudes.items() if amplitude}
    if not amplitudes:
        return images
    with without_autocast(images.device):
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        gates = OperationGates(draws, torch.as_tensor(p), _ORDER)
        if any(name in amplitudes for name in GEOMETRIC):
            side = images.shape[-1]
            images = warp(images, random_map(gates, amplitudes, len(images), side))
        images = recolour(images, gates, amplitudes)
        if amplitude := amplitudes.get("bands", 0.0):
            images = filter_bands(images, gates, amplitude)
        if amplitude := amplitudes.get("noise", 0.0):
            images = add_noise(images, gates, draws, amplitude)
        if amplitude := amplitudes.get("cutout", 0.0):
            images = cut_out(images, gates, amplitude)
    return images
