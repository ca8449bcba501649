"""Networks through `torch.compile`, one stage of growth at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from blastogan.errors import UserError

_log = logging.getLogger(__name__)

CompileMode = Literal["off", "default", "reduce-overhead", "max-autotune"]
"""Modes of `torch.compile`, or ``off``; ``reduce-overhead`` uses CUDA graphs."""


class NetworkCompiler:
    """Calls networks through `torch.compile`; if that fails, warns and calls them uncompiled.

    Compiled code is valid for one stage: a resolution, fading in or not, and a batch size. A new
    stage drops all compiled code of the process. During a fade alpha is an input, not a constant,
    so that the code of its second step serves the rest.

    Raises:
        UserError: If the mode is unknown.
    """

    def __init__(self, mode: CompileMode) -> None:
        if mode not in get_args(CompileMode):
            raise UserError(
                f"compile_mode is {mode!r}: expected one of {', '.join(get_args(CompileMode))}"
            )
        self._mode: CompileMode = mode
        self._stage: Hashable = None
        self._compiled: dict[nn.Module, Callable[..., Tensor]] = {}

    @property
    def active(self) -> bool:
        """Whether networks run compiled."""
        return self._mode != "off"

    def begin_step(self, stage: Hashable) -> None:
        """Mark the beginning of a step; `stage` identifies what compiled code is valid for."""
        if not self.active:
            return
        if stage != self._stage:
            if self._stage is not None:
                torch.compiler.reset()
            self._stage = stage
        if torch.cuda.is_available():
            # outputs of the CUDA graphs of the previous step may be overwritten
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def __call__(self, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Call a network, compiled if possible."""
        if not self.active:
            plain: Tensor = network(*args, **kwargs)
            return plain
        from torch._dynamo.exc import TorchDynamoException

        if network not in self._compiled:
            # not `network.compile()`, which would compile calls outside of training too
            self._compiled[network] = torch.compile(network, mode=self._mode)
        try:
            return self._compiled[network](*args, **kwargs)
        except TorchDynamoException as error:
            _log.warning(
                "torch.compile failed; training continues without it: %s",
                str(error).strip().splitlines()[0],
            )
            self._mode = "off"
            self._compiled.clear()
            return self(network, *args, **kwargs)
