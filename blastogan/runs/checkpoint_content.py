"""What a checkpoint must hold, checked before anything is built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from packaging.version import InvalidVersion, Version
from torch import Tensor

from blastogan.errors import UserError
from blastogan.growth import MAX_RESOLUTION, MIN_RESOLUTION, is_power_of_two

MAX_IMAGES = 10**12
"""Largest number of images shown, and of anything else that is counted."""

GRADER = "GradeClassifier"
"""The architecture without a state of growth."""

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value will do, and the words for one that does."""


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_IMAGES


def _is_version(value: Any) -> bool:
    try:
        return Version(value) >= Version("2")
    except (InvalidVersion, TypeError):
        return False


def _is_named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_settings(value: Any) -> bool:
    # names with an underscore are Lightning's, which may name a function to be called
    return _is_named(value) and not any(key.startswith("_") for key in value)


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _is_optimizers(value: Any) -> bool:
    return _is_list_of_mappings(value) and all(
        isinstance(each.get("state"), Mapping) and _is_list_of_mappings(each.get("param_groups"))
        for each in value
    )


def _is_loops(value: Any) -> bool:
    # Lightning would take an empty one for a loop that has not begun
    return _is_named(value) and all(isinstance(v, Mapping) and v for v in value.values())


def _is_transfer(value: Any) -> bool:
    if value is None:
        return True
    return _is_named(value) and isinstance(value.get("frozen") or [], (list, tuple))


COUNT: Rule = (_is_count, f"a whole number from 0 to {MAX_IMAGES:g}")
NAMED: Rule = (_is_named, "a dictionary with names as keys")

EXPORTED: dict[str, Rule] = {
    "state_dict": NAMED,
    "hyper_parameters": (_is_settings, "a dictionary of settings by name"),
}
"""Rules for what weights hold that were exported from a checkpoint, by key."""

CONTENT: dict[str, Rule] = {
    "pytorch-lightning_version": (_is_version, "a version of PyTorch Lightning, 2 or later"),
    **EXPORTED,
}
"""Rules for what every checkpoint holds, by key."""

OPTIONAL: dict[str, Rule] = {
    "epoch": COUNT,
    "global_step": COUNT,
    "loops": (_is_loops, "the progress of each loop"),
    "callbacks": NAMED,
    "optimizer_states": (_is_optimizers, "a list of states of optimisers"),
    "lr_schedulers": (_is_list_of_mappings, "a list of dictionaries"),
    "hparams_name": (lambda value: value in (None, "kwargs"), "kwargs"),
}
"""Rules for what is there in checkpoints to resume from, by key."""

PROGRESS: dict[str, Rule] = {
    "architecture": (lambda value: isinstance(value, str), "the name of a class"),
    "images_shown": COUNT,
}
"""Rules for what ``blastogan`` holds, by key."""

GROWTH: dict[str, Rule] = {
    "resolution": (
        lambda value: (
            type(value) is int
            and MIN_RESOLUTION <= value <= MAX_RESOLUTION
            and is_power_of_two(value)
        ),
        f"a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}",
    ),
    "alpha": (
        lambda value: type(value) in (int, float) and 0.0 <= value <= 1.0,
        "a number from 0 to 1",
    ),
}
"""Rules for what ``blastogan`` holds besides, for a GAN."""

GROWTH_OPTIONAL: dict[str, Rule] = {
    "draw_seed": (lambda value: value is None or type(value) is int, "a whole number"),
    "transfer": (_is_transfer, "what is known of the source checkpoint"),
}


def check_content(checkpoint: Mapping[str, Any], required: Mapping[str, Rule] = CONTENT) -> None:
    """Check structure and types of a checkpoint, and that its weights are plain tensors.

    Args:
        checkpoint: What was read.
        required: Rules for what it must hold, by key: `CONTENT` or `EXPORTED`.

    Raises:
        UserError: With every fault that was found.
    """
    faults = [*_faults(checkpoint, required), *_faults(checkpoint, OPTIONAL, optional=True)]
    progress = checkpoint.get("blastogan")
    if isinstance(progress, Mapping):
        faults += _faults(progress, PROGRESS, "blastogan.")
        if progress.get("architecture") != GRADER:
            faults += _faults(progress, GROWTH, "blastogan.")
            faults += _faults(progress, GROWTH_OPTIONAL, "blastogan.", optional=True)
    else:
        faults.append("blastogan is no dictionary")
    if not faults:
        faults += _faults_of_weights(checkpoint["state_dict"])
    if faults:
        raise UserError("; ".join(faults))


def _faults(
    found: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "", optional: bool = False
) -> Iterator[str]:
    for key, (fits, expected) in rules.items():
        if key not in found:
            if not optional:
                yield f"{prefix}{key} is missing"
        elif not fits(found[key]):
            yield f"{prefix}{key} is {brief(found[key])}: expected {expected}"


def brief(value: Any) -> str:
    """A value in a few words."""
    if value is None or isinstance(value, (bool, int, float, str)):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:40]}..."
    return f"a {type(value).__name__}"


def _faults_of_weights(state: Mapping[str, Any]) -> list[str]:
    faults = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            faults[name] = f"is {brief(value)}"
        elif value.layout is not torch.strided or value.device.type != "cpu":
            faults[name] = f"is a tensor without values of its own ({value.layout}, {value.device})"
        elif value.is_quantized or value.is_complex():
            faults[name] = f"is of the type {value.dtype}"
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            faults[name] = f"claims {value.numel()} values, more than the file holds"
    return listed("weights are no plain tensors", [f"{k} {v}" for k, v in faults.items()])


def listed(what: str, names: list[str]) -> list[str]:
    """A sentence on several things: the first of them and how many more; none without any."""
    if not names:
        return []
    more = f", and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"{what}: {names[0][:200]}{more}"]


def check_weights(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and types of weights with those of a module.

    Raises:
        UserError: If any differ; names the first of each kind.
    """
    both = [name for name in expected if name in state]
    shapes = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in both
        if state[name].shape != expected[name].shape
        or state[name].is_floating_point() != expected[name].is_floating_point()
    ]
    faults = [
        *listed("weights are missing", [name for name in expected if name not in state]),
        *listed("weights are unknown", [name for name in state if name not in expected]),
        *listed("weights have another shape or type", shapes),
    ]
    if faults:
        raise UserError(f"the weights do not fit the settings: {'; '.join(faults)}")


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise `UserError` if a weight is NaN or infinite."""
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f"{listed('weights are not finite', broken)[0]}: the checkpoint was saved after "
            "training diverged. Give an earlier one"
        )
