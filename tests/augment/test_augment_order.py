"""Augmentation by known amounts: what comes before what, how far it goes, and that it happens."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from helpers.augmentation import draws, images

from blastogan.augment import augment_images, diff_augment
from blastogan.augment.colour import recolour
from blastogan.augment.geometry import random_map


class Fixed:
    """In place of a `OperationGates`: one image, on which all takes place, by given amounts."""

    count = 1
    device = torch.device("cpu")

    def __init__(self, amounts):
        self._amounts = amounts

    def takes_place(self, name, *, half=False):
        return torch.tensor([True])

    def uniform(self, name, count, *, half=False):
        return torch.tensor(self._amounts.get(name, [0.0] * count)).view(1, count)

    normal = uniform

    def pick(self, name, choices):
        assert self._amounts[name] < choices
        return torch.tensor([float(self._amounts[name])])


# -- where pixels are taken from -----------------------------------------------------------------


@pytest.mark.parametrize(("p", "share"), [(0.0, 0.0), (0.4, 0.2), (1.0, 0.5)])
def test_flips_mirror_left_and_right_half_as_often_as_they_take_place(p, share):
    x = images(1).expand(2000, -1, -1, -1)
    flipped = augment_images(x, {"flip": 1.0}, p, draws(2000))
    same, mirrored = (
        torch.isclose(flipped, kind, atol=1e-4).flatten(1).all(1) for kind in (x, x.flip(3))
    )
    assert (same ^ mirrored).all()
    assert mirrored.float().mean().item() == pytest.approx(share, abs=0.03)


AMOUNTS = {
    "flip": 1,
    "turn": 1,
    "shift": [0.5, -0.25],
    "scale": 0.6,
    "rotate": 0.3,
    "stretch": 0.7,
    "rotate again": -0.2,
    "offset": [0.4, 1.5],
}


def seen_at(point, without):
    """Where a point of the new image lies in the old one; points are ``x + iy``.

    The last of the operations is the first to be undone.
    """
    steps = {
        "offset": lambda z: z + 2 * 0.1 * complex(0.4, 1.5),
        "rotate again": lambda z: z * cmath.exp(-0.2j * 0.5 * math.pi),
        "stretch": lambda z: complex(z.real * 2**0.35, z.imag / 2**0.35),
        "rotate": lambda z: z * cmath.exp(0.3j * 0.5 * math.pi),
        "scale": lambda z: z * 2**0.12,
        # of 32 pixels 4 to the right and 2 up, which are each a 16th of half the side
        "shift": lambda z: z + complex(4, -2) / 16,
        "turn": lambda z: z * 1j,
        "flip": lambda z: -z.conjugate(),
    }
    for name, step in steps.items():
        if name not in without:
            point = step(point)
    return point


@pytest.mark.parametrize("without", [(), ("shift", "offset"), ("rotate", "rotate again")])
def test_pixels_are_moved_in_the_order_of_the_paper_with_the_stretch_between_rotations(without):
    amplitudes = {
        "flip": 1.0,
        "turn": 1.0,
        "shift": 0.25,
        "scale": 0.2,
        "rotate": 0.5,
        "stretch": 0.5,
        "offset": 0.1,
    }
    for name in without:
        amplitudes.pop(name, None)
    (matrix,) = random_map(Fixed(AMOUNTS), amplitudes, 1, 32)
    for point in (0j, 1 + 0j, 1j, 0.3 - 0.8j):
        x, y, one = (matrix @ torch.tensor([point.real, point.imag, 1.0])).tolist()
        assert complex(x, y) == pytest.approx(seen_at(point, without), abs=1e-5)
        assert one == 1.0


# -- light and colour ----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_what_brightness_adds_is_amplified_by_contrast(channels):
    grey = torch.full((1, channels, 2, 2), 0.25)
    gates = Fixed({"brightness": 2.0, "contrast": 1.0})
    lit = recolour(grey, gates, {"brightness": 0.1, "contrast": 2.0})
    # 0.2 more, and then four times that
    torch.testing.assert_close(lit, torch.full_like(grey, 1.8))


@pytest.mark.parametrize(
    ("amplitude", "amount", "channels"),
    [
        # a third of a turn makes red green, green blue and blue red
        (1.0, 2 / 3, [2, 0, 1]),
        (1.0, -2 / 3, [1, 2, 0]),
        (2 / 3, 1.0, [2, 0, 1]),
        (1.0, 0.0, [0, 1, 2]),
    ],
)
def test_a_hue_of_a_third_of_a_turn_lets_colours_change_places(amplitude, amount, channels):
    x = images(1, 3)
    turned = recolour(x, Fixed({"hue": amount}), {"hue": amplitude})
    torch.testing.assert_close(turned, x[:, channels], rtol=0, atol=1e-5)


@pytest.mark.parametrize("amplitude", [0.25, 1.0])
def test_hues_turn_by_all_angles_up_to_the_share_of_half_a_turn(amplitude):
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(2000, 3, 2, 2)
    turned = augment_images(red, {"hue": amplitude}, 1.0, draws(2000))[:, :, 0, 0]
    # two axes across that of grey: red lies along one, green is ahead of blue on the other
    along = (turned @ torch.tensor([2.0, -1.0, -1.0])) / math.sqrt(6)
    across = (turned @ torch.tensor([0.0, 1.0, -1.0])) / math.sqrt(2)
    angles = torch.atan2(across, along)
    most = amplitude * math.pi
    assert angles.abs().max().item() == pytest.approx(most, rel=0.01)
    assert angles.mean().item() == pytest.approx(0.0, abs=0.05 * most)
    assert angles.abs().mean().item() == pytest.approx(most / 2, rel=0.05)


# -- DiffAugment ---------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.4, 1.0])
def test_diffaugment_cuts_a_grey_square_of_half_the_side_out_of_what_it_lit_and_moved(p):
    # light moves it by half at most
    x = torch.full((1000, 1, 32, 32), 4.0)
    out = diff_augment(x, p, draws(1000))[:, 0]
    # what is moved in from beyond the edges, which is grey too, comes no farther than 4 pixels
    cut = out[:, 4:-4, 4:-4] == 0.0
    assert cut.flatten(1).any(1).float().mean().item() == pytest.approx(p, abs=0.05)
    high, wide = cut.any(2).sum(1), cut.any(1).sum(1)
    assert torch.equal(cut.sum((1, 2)), high * wide)
    assert high.max() == wide.max() == 16
    # it is cut off by the edge of the image where its centre is close
    assert high[high > 0].min() == wide[wide > 0].min() == 4
    assert ((out == 0.0) | ((out >= 3.5) & (out < 4.5))).all()
