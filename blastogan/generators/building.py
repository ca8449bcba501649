"""Building networks for weights of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from blastogan.errors import UserError
from blastogan.runs.checkpoint_content import check_finite, check_weights

Network = TypeVar("Network", bound=nn.Module)


_FACTORIES = (torch.randn, torch.empty)
"""What makes the weights of our layers, and those of PyTorch's."""

_SCALING = (torch.Tensor.__truediv__, torch.Tensor.div, torch.Tensor.__mul__, torch.Tensor.mul)


class _Outline(TorchFunctionMode):
    """Gives weights a shape and no memory, and leaves out what would change their values alone.

    Within `torch.device("meta")` some of that would import PyTorch's compiler, for seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        if func in _FACTORIES:
            given["device"] = "meta"
        elif func in _SCALING and args[0].is_meta:
            return args[0]
        return func(*args, **given)


def build_checked(
    build: Callable[[], Network],
    state: Mapping[str, Tensor],
    misfit: str,
    *,
    strict: bool = True,
    ignored: str | None = None,
) -> Network:
    """Build a module that weights fit, without loading them; no random state is used.

    It is built without memory for its weights first, so that settings which do not belong to the
    weights in the file are refused whatever their size.

    Args:
        build: Builds the module.
        state: Weights by name.
        misfit: Begin of the message if they do not fit.
        strict: Whether names and shapes of all weights must be those of the module.
        ignored: Names that begin with this are not compared.

    Raises:
        UserError: If the settings are invalid, or the weights do not fit them or are not finite.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with _Outline():
                outline = build()
            if strict:
                compared = [state, outline.state_dict()]
                check_weights(*(_without(each, ignored) for each in compared))
            check_finite(state)
        # settings that nobody wrote fail in as many ways as there are arguments
        except Exception as error:
            reason = str(error) or type(error).__name__
            reason = reason if isinstance(error, UserError) else reason.splitlines()[0]
            raise UserError(f"{misfit}: {reason}") from error
        return build()


def _without(state: Mapping[str, Tensor], prefix: str | None) -> dict[str, Tensor]:
    return {name: v for name, v in state.items() if prefix is None or not name.startswith(prefix)}
