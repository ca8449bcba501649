"""How a layer of one network becomes that of another, with the same function where it can."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from blastogan.modules.transfer_source import Old, layer_of, resolution_of
from blastogan.networks.layers import PixelNorm
from blastogan.networks.progressive import ProgressiveDiscriminator, ProgressiveNetwork

MAPPING = "mapping.layers."
LATENT_LAYERS = ("input", f"{MAPPING}0")
"""Layers that take the latent, and the label beside it."""


class Kind(Enum):
    """What became of a weight."""

    TAKEN = "taken over"
    ADAPTED = "adapted"
    NEW = "new"
    LEFT = "left behind"


class Fit(NamedTuple):
    """A layer after the transfer.

    Attributes:
        values: Weights by their whole name; absent ones stay as they were built.
        shares: What became of how many of its weights, and why.
        source: Layer of the checkpoint that went into it; ``None`` for none.
    """

    values: dict[str, Tensor]
    shares: list[tuple[Kind, int, str]]
    source: str | None


class Place:
    """A layer that is to be filled.

    Args:
        network: Newly built, that the layer is of.
        layer: Its name there.
        mine: Its weights by their whole name.
        old: The network of the checkpoint.

    Attributes:
        source: Name there of the layer that it may be taken from.
        theirs: Weights of that, by their whole name here.
        why: What had to be changed about them so far.
    """

    def __init__(
        self, network: ProgressiveNetwork, layer: str, mine: Mapping[str, Tensor], old: Old
    ) -> None:
        self.network, self.layer, self.mine, self.old = network, layer, mine, old
        self.source = _source(network, layer, old)
        found = old.layer(self.source)
        named = {layer + name[len(self.source) :]: value for name, value in found.items()}
        self.theirs = {
            name: value.to(mine[name].dtype) for name, value in named.items() if name in mine
        }
        self.why = ""
        rate = old.mapping_rate / self.constant("lr_multiplier")
        if layer.startswith(MAPPING) and rate != 1.0:
            # stored weights and biases are multiplied by it when they are used
            self.theirs = {name: value * rate for name, value in self.theirs.items()}
            self.why = "for another mapping_lr_multiplier"

    def constant(self, name: str) -> float:
        """A number that the layer multiplies by; 1 if it has none of that name."""
        return float(getattr(self.network.get_submodule(self.layer), name, 1.0))

    def same_shape(self, name: str) -> bool:
        """Whether a weight of the layer is as large there."""
        whole = f"{self.layer}.{name}"
        return self.theirs[whole].shape == self.mine[whole].shape

    def adapted(self, values: dict[str, Tensor], why: str) -> Fit:
        """The layer with weights that were made to fit."""
        return Fit({**self.theirs, **values}, [(Kind.ADAPTED, count(self.mine), why)], self.source)

    def as_built(self, why: str) -> Fit:
        """The layer without anything from there; what adds grades to scores begins at 0."""
        values = {}
        of_grades = self.layer.startswith("embedding.") and not self.old.conditional
        if of_grades and isinstance(self.network, ProgressiveDiscriminator):
            values = {name: torch.zeros_like(value) for name, value in self.mine.items()}
            why += ": begins at 0"
        return Fit(values, [(Kind.NEW, count(self.mine), why)], None)


def fit_layer(network: ProgressiveNetwork, layer: str, mine: Mapping[str, Tensor], old: Old) -> Fit:
    """What a layer of a new network gets from an old one.

    Args:
        network: The new one.
        layer: Name of the layer in it.
        mine: Its weights by their whole name.
        old: The network of the checkpoint.
    """
    place = Place(network, layer, mine, old)
    absent = _why_absent(place)
    if absent:
        return place.as_built(absent)
    for adapt in (_embedding, _mapping, _latent_layer, _image_layer, _score):
        fit = adapt(place)
        if fit is not None:
            return fit
    if any(place.theirs[name].shape != value.shape for name, value in mine.items()):
        return place.as_built("of another shape there")
    if place.why:
        return place.adapted({}, place.why)
    note = old.note if layer.startswith("blocks.") else ""
    return Fit(place.theirs, [(Kind.TAKEN, count(mine), note)], place.source)


def _source(network: ProgressiveNetwork, layer: str, old: Old) -> str:
    """The layer that a layer is taken from: of that name, but for heads that there is one of."""
    if layer == "score_unconditional" and not old.layer(layer):
        return "score"
    if layer == "score" and not network.label_sizes and old.layer("score_unconditional"):
        return "score_unconditional"
    return layer


def _why_absent(place: Place) -> str:
    """Why a layer cannot be taken over at all; empty if it may be."""
    old, resolution = place.old, resolution_of(place.layer)
    if old.reason:
        return old.reason
    if resolution is not None and resolution > old.trained:
        return f"trained to {old.trained}x{old.trained} only"
    if "embedding" in place.layer.split("."):
        return "" if old.grades(_prefix(place.layer)) is not None else "no grades there"
    if place.theirs.keys() == place.mine.keys():
        return ""
    for kind in ("to_rgb", "from_rgb"):
        there = old.resolutions(kind)
        if kind in place.layer.split(".") and there:
            return f"began at {there[0]}x{there[0]}"
    return "not there"


# -- layers that can be made to fit; `None` for all others --------------------------------------


def _embedding(place: Place) -> Fit | None:
    """Embeddings of pairs of letters from those of letters, and the other way round."""
    name, table = f"{place.layer}.weight", place.old.grades(_prefix(place.layer))
    if "embedding" not in place.layer.split(".") or table is None or name not in place.mine:
        return None
    (rows, dim), letters = place.mine[name].shape, len(place.old.law)
    if name in place.theirs and place.theirs[name].shape == (rows, dim):
        return None
    if dim != table.shape[1]:
        return place.as_built("of another shape there")
    if rows != letters:
        return place.adapted({name: table.to(place.mine[name].dtype)}, "of pairs of letters now")
    # the sum over letters that comes closest, for the grades of that data
    pairs = torch.cartesian_prod(torch.arange(letters), torch.arange(letters))
    design = torch.nn.functional.one_hot(pairs, letters).flatten(1).float() / math.sqrt(2.0)
    weight = place.old.law.flatten().sqrt()[:, None]
    parts = (torch.linalg.pinv(design * weight) @ (table * weight)).split(letters)
    part = parts[int(place.layer.rpartition(".")[2])]
    return place.adapted({name: part.to(place.mine[name].dtype)}, "of single letters now")


def _mapping(place: Place) -> Fit | None:
    """Layers of a mapping of another depth are of no use."""
    if not place.layer.startswith(MAPPING):
        return None
    here = {name for name, _ in place.network.named_parameters() if name.startswith(MAPPING)}
    there = {name for name in place.old.state if name.startswith(MAPPING)}
    if len(here) == len(there):
        return None
    return place.as_built(f"a mapping of {len(set(map(layer_of, there)))} layers there")


def _latent_layer(place: Place) -> Fit | None:
    """The columns of z, scaled for the other number of columns (Karras et al. 2018, section 4.1).

    New columns for the label begin at 0. What those that are dropped gave on average goes into the
    bias; that of ProGAN takes the mean over 4x4 pixels.
    """
    name, gains_label = f"{place.layer}.weight", bool(place.network.label_sizes)
    if place.layer not in LATENT_LAYERS or gains_label == place.old.conditional:
        return None
    weight, mine = place.theirs[name], place.mine[name]
    latent, columns = int(place.network.latent_dim), mine.shape[1]  # type: ignore[arg-type]
    expected = (len(mine), latent if gains_label else 2 * latent)
    if weight.shape != expected or not place.same_shape("bias"):
        return place.as_built("of another shape there")
    ratio = math.sqrt(columns / weight.shape[1])
    values = {name: torch.zeros_like(mine)}
    values[name][:, :latent] = weight[:, :latent] * ratio
    why = "; ".join(filter(None, ("for the label beside z", place.why)))
    if gains_label:
        fit = place.adapted(values, why)
        fresh = count(values) // 2
        shares = [
            (Kind.ADAPTED, count(place.mine) - fresh, why),
            (Kind.NEW, fresh, "the label's columns: begin at 0"),
        ]
        return fit._replace(shares=shares)
    bias = f"{place.layer}.bias"
    given = weight[:, latent:] @ _mean_label(place) * (ratio * place.constant("scale"))
    given = given.view(len(place.mine[bias]), -1).mean(dim=1) / place.constant("lr_multiplier")
    values[bias] = place.theirs[bias] + given
    return place.adapted(values, "; ".join(filter(None, ("mean label in the bias", place.why))))


def _mean_label(place: Place) -> Tensor:
    """Mean over the data of what stands beside z, ``(latent_dim,)``."""
    beside = place.old.grades("mapping." if place.layer.startswith(MAPPING) else "")
    latent = int(place.network.latent_dim)  # type: ignore[arg-type]
    if beside is None or beside.shape[1] != latent:
        return torch.zeros(latent)
    normed: Tensor = PixelNorm()(beside)
    return place.old.law.flatten() @ normed * place.old.condition


def _image_layer(place: Place) -> Fit | None:
    """Grey from RGB and RGB from grey, such that grey images look and score the same."""
    name, kind = f"{place.layer}.weight", place.layer.rpartition(".")[0].rpartition(".")[2]
    if kind not in ("to_rgb", "from_rgb"):
        return None
    weight, mine = place.theirs[name], place.mine[name]
    if weight.dim() != mine.dim():
        return None
    axis = 0 if kind == "to_rgb" else 1
    there, here = weight.shape[axis], mine.shape[axis]
    rest = (*weight.shape[:axis], here, *weight.shape[axis + 1 :])
    bias = place.theirs[f"{place.layer}.bias"]
    biases = there if kind == "to_rgb" else len(mine)
    if {there, here} != {1, 3} or rest != mine.shape or bias.shape != (biases,):
        return None
    why = "grey there" if there == 1 else "RGB there"
    if kind == "to_rgb":
        values = {
            name: weight.mean(dim=0, keepdim=True).expand_as(mine),
            f"{place.layer}.bias": bias.mean(dim=0, keepdim=True).expand(here),
        }
        return place.adapted(values, why)
    # the scale goes by the number of channels
    total = weight.sum(dim=1, keepdim=True) / here * math.sqrt(here / there)
    return place.adapted({name: total.expand_as(mine)}, why)


def _score(place: Place) -> Fit | None:
    """A score without grades of a discriminator that had them: with their mean over the data."""
    grades = place.old.grades("")
    name = f"{place.layer}.weight"
    without_grades = place.layer == "score_unconditional" or not place.network.label_sizes
    if place.source != "score" or not without_grades:
        return None
    same = place.same_shape("weight") and place.same_shape("bias")
    if grades is None or not same or place.mine[name].shape[1] != grades.shape[1]:
        return None
    mean = place.old.law.flatten() @ grades / math.sqrt(grades.shape[1])
    weight = place.theirs[name] + mean / place.constant("scale")
    return place.adapted({name: weight}, "with the mean over grades")


def _prefix(layer: str) -> str:
    """What stands before ``embedding`` in a name."""
    return layer.partition("embedding")[0]


def count(weights: Mapping[str, Tensor]) -> int:
    """Number of weights."""
    return sum(value.numel() for value in weights.values())
