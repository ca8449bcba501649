"""Random states in checkpoints, so that a resumed run continues the same random sequence."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.errors import UserError


class RandomState(Callback):
    """Save and restore the global random states of Python, NumPy and PyTorch, CUDA included."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The states as tensors and plain numbers, which load with ``weights_only=True``."""
        version, words, gauss = random.getstate()
        state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
        name, keys, position, has_gauss, cached = state
        return {
            "python": [version, list(words), gauss],
            "numpy": [str(name), keys.tolist(), int(position), int(has_gauss), float(cached)],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts; loading may draw random numbers itself.

        Raises:
            UserError: If they are no states.
        """
        try:
            random.Random().setstate(_python_state(state_dict))
            np.random.RandomState().set_state(_numpy_state(state_dict))
            torch.Generator().set_state(state_dict["torch"].cpu())
            list(state_dict["cuda"])
        # states that nobody saved fail in many ways
        except Exception as error:
            raise UserError(f"the random states of the checkpoint are damaged: {error}") from error
        self._loaded = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the loaded states."""
        if self._loaded is None:
            return
        random.setstate(_python_state(self._loaded))
        np.random.set_state(_numpy_state(self._loaded))  # noqa: NPY002
        torch.set_rng_state(self._loaded["torch"].cpu())
        cuda = self._loaded["cuda"]
        if torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([each.cpu() for each in cuda])
        self._loaded = None


def _python_state(saved: dict[str, Any]) -> tuple[Any, ...]:
    version, words, gauss = saved["python"]
    return version, tuple(words), gauss


def _numpy_state(saved: dict[str, Any]) -> tuple[Any, ...]:
    name, keys, position, has_gauss, cached = saved["numpy"]
    return name, np.array(keys, dtype=np.uint32), position, has_gauss, cached
