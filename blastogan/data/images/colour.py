"""Colour of micrographs: casts of the light, which differ between microscopes."""

from __future__ import annotations

from typing import Literal

from PIL import Image, ImageStat

from blastogan.errors import UserError, check_choice

ColourRule = Literal["keep", "grey", "balance"]
"""Colours as they are, none, or without a cast (`cast_gains`)."""

MAX_GAIN = 4.0
"""Largest factor on a channel: one that is nearly black holds rounding errors."""


def check_colour(colour: ColourRule, channels: int) -> None:
    """Raise a `UserError` for an unknown rule, or for a balance of images without colour."""
    check_choice("colour", colour, ColourRule)
    if colour == "balance" and channels != 3:
        raise UserError(
            f"colour is balance, but img_channels is {channels}: grey images have no cast; set "
            "img_channels to 3, or leave colour out"
        )


def cast_gains(image: Image.Image) -> tuple[float, ...]:
    """Factors of red, green and blue that give the channels of an RGB image one mean.

    Grey world assumption (Buchsbaum 1980): a micrograph in transmitted light is grey on average,
    and any other mean is the colour of the light. The mean brightness is kept, unless a factor
    would exceed `MAX_GAIN`.
    """
    means = ImageStat.Stat(image).mean
    grey = sum(means) / len(means)
    return tuple(min(grey / mean, MAX_GAIN) if mean else 1.0 for mean in means)


def with_gains(image: Image.Image, gains: tuple[float, ...]) -> Image.Image:
    """The image with each channel times its factor, rounded and clipped."""
    return image.point([min(255, round(gain * value)) for gain in gains for value in range(256)])
