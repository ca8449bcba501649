"""Networks by architecture, the options that they take, and the bounds of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from blastogan.errors import UserError
from blastogan.grades import LABEL_SIZES
from blastogan.growth import is_number
from blastogan.networks import (
    ProGANDiscriminator,
    ProGANGenerator,
    StyleGANDiscriminator,
    StyleGANGenerator,
)
from blastogan.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator


class Networks(NamedTuple):
    """Classes of the networks of an architecture."""

    generator: type[ProgressiveGenerator]
    discriminator: type[ProgressiveDiscriminator]


NETWORKS = {
    "ProGANModule": Networks(ProGANGenerator, ProGANDiscriminator),
    "StyleGANModule": Networks(StyleGANGenerator, StyleGANDiscriminator),
}
"""All GANs by the class name of their module, as in checkpoints."""

Range = tuple[Any, ...]

RANGES: dict[str, Range] = {
    "latent_dim": (int, 1, 16384),
    "channel_base": (int, 1, 2**20),
    "channel_cap": (int, 1, 4096),
    "w_dim": (int, 1, 16384),
    "mapping_layers": (int, 1, 64),
    "mapping_lr_multiplier": (float, 0, 1e6),
    "stddev_group": (int, 1, 2**20),
}
"""Numbers among the options of networks: type, lowest and highest value, and, if null is allowed,
what it means. The bounds are far above any use: a typing error, or the checkpoint of a stranger,
shall not take all memory."""

SWITCHES = ("conditional", "factorised", "channels_last")

COMMON = (
    "resolution",
    "start_resolution",
    "img_channels",
    "factorised",
    "channel_base",
    "channel_cap",
)
"""Options that both networks take."""

OLDER = {"factorised": True, "channels_last": True, "ramp_kimg": None, "stddev_group": 4}
"""Values of options that checkpoints of earlier versions may lack."""


def generator_options(
    settings: Mapping[str, Any], kind: type[ProgressiveGenerator]
) -> dict[str, Any]:
    """Arguments of a generator of a class, from a module's hyper-parameters."""
    return _common(settings) | {name: settings[name] for name in ("latent_dim", *kind.OPTIONS)}


def discriminator_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a discriminator, from the hyper-parameters of a module."""
    ramped = settings["conditional"] and settings["ramp_kimg"] is not None
    own = {"stddev_group": settings["stddev_group"], "unconditional_head": ramped}
    return _common(settings) | own


def _common(settings: Mapping[str, Any]) -> dict[str, Any]:
    labels = LABEL_SIZES if settings["conditional"] else ()
    return {"label_sizes": labels, **{name: settings[name] for name in COMMON}}


def out_of_range(settings: Mapping[str, Any], ranges: Mapping[str, Range]) -> Iterator[str]:
    """A sentence for each number that is none or out of range."""
    for name, (kind, low, high, *null) in ranges.items():
        value = settings.get(name, low)
        if value is None and null:
            continue
        if not (is_number(value) and low <= value <= high and kind(value) == value):
            what = "a whole number" if kind is int else "a number"
            or_null = f", or null{null[0]}" if null else ""
            yield f"{name} is {value!r}: expected {what} from {low} to {high}{or_null}"


def is_ramp(value: Any) -> bool:
    """Whether a value is two numbers, at least 0 and ascending, or both 0."""
    numbers = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_number, value))
    return numbers and (0 <= value[0] < value[1] or value[0] == value[1] == 0)


def network_settings(architecture: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a module's hyper-parameters that its networks and its samples follow from.

    Raises:
        UserError: If the architecture is unknown, or options are missing or out of range.
    """
    if architecture not in NETWORKS:
        raise UserError(f"it holds a {architecture}: expected one of {', '.join(NETWORKS)}")
    own = NETWORKS[architecture].generator.OPTIONS
    names = (*COMMON, *SWITCHES, "latent_dim", *own, "stddev_group", "ramp_kimg")
    given = {**OLDER, **settings}
    if missing := [name for name in names if name not in given]:
        raise UserError(f"its settings lack {', '.join(missing)}")
    found = {name: given[name] for name in dict.fromkeys(names)}
    faults = [
        f"{name} is {found[name]!r}: expected true or false"
        for name in SWITCHES
        if type(found[name]) is not bool
    ]
    faults += out_of_range(found, RANGES)
    if found["ramp_kimg"] is not None and not is_ramp(found["ramp_kimg"]):
        faults.append(f"ramp_kimg is {found['ramp_kimg']!r}: expected two ascending numbers")
    if faults:
        raise UserError("; ".join(faults))
    return found
