"""Trained weights as safetensors with a card: writing, finding and reading.

A file holds weights under their names in a checkpoint, and in its metadata the short card, as JSON,
and a digest of both. The whole card lies beside it, as ``NAME.json``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from blastogan.errors import UserError
from blastogan.pretrained import pretrained_file, pretrained_names
from blastogan.runs.checkpoint_content import EXPORTED, check_content
from blastogan.runs.checkpoint_files import check_place, read_checkpoint
from blastogan.utils.files import atomic_write, write_json

SUFFIX = ".safetensors"

CARD, DIGEST = "blastogan", "digest"
"""Key of the metadata, and of the digest in its value."""

SHORT = (
    *("architecture", "settings", "resolution", "alpha", "images_shown", "trained_on"),
    *("licence", "intended_use", "audit_of_copies", "notes"),
)
"""What the short card keeps of the whole one."""

MAX_CARD = 2**20
"""Largest size of a card in bytes."""

_log = logging.getLogger(__name__)


def write_weights(path: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write weights, and their card beside them, atomically.

    Args:
        path: The file, ``NAME.safetensors``.
        state: Weights by name.
        card: See `blastogan.generators.card`; its ``settings`` may be those of a whole module.

    Raises:
        OSError: If a file cannot be written.
    """
    # safetensors takes no other memory formats
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    text = json.dumps({key: card[key] for key in SHORT})
    digest = _digest(text, plain)
    # one key: they are written in any order, and equal weights shall be equal files
    content = save(plain, {CARD: json.dumps({**json.loads(text), DIGEST: digest})})
    with atomic_write(path) as part:
        part.write_bytes(content)
    weights = {"file": path.name, "bytes": len(content), "digest": digest}
    write_json({**card, "weights": weights}, card_of(path))


def card_of(path: Path) -> Path:
    """Place of the card of a file of weights."""
    return path.with_suffix(".json")


def _digest(card: str, state: Mapping[str, Tensor]) -> str:
    found = hashlib.blake2b(card.encode(), digest_size=20)
    for name, value in sorted(state.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def find_trained(source: str | Path) -> Path:
    """File of a checkpoint, of exported weights, or of weights that ship in the package.

    Args:
        source: Path of a checkpoint, of a ``.safetensors`` file or of a folder with one, or a name
            from `blastogan.pretrained`; a file comes before a name, and a name before a folder.

    Raises:
        UserError: If there is nothing.
    """
    path = Path(source)
    if path.is_file():
        return path
    if str(source) in pretrained_names():
        return pretrained_file(str(source))
    if path.is_dir():
        found = sorted(path.glob(f"*{SUFFIX}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{path} has {len(found)} files {SUFFIX}: give one of them")
        if others := [each for kind in ("onnx", "pt2") for each in path.glob(f"*.{kind}")]:
            raise UserError(
                f"{others[0]} is for other programs: give the checkpoint it was exported from, or "
                f"its export as {SUFFIX}"
            )
    elif not path.suffix and len(path.parts) == 1:
        return pretrained_file(str(source))
    check_place(path)
    return path


def read_trained(source: str | Path) -> dict[str, Any]:
    """Content of a checkpoint, or of exported weights in the same form, see `find_trained`.

    Exported weights have no states of training and, unless they were exported too, no
    discriminator; ``card`` is their card.

    Raises:
        UserError: If there is nothing, or it is damaged or was not written by this library.
    """
    path = find_trained(source)
    return _read_weights(path) if path.suffix.lower() == SUFFIX else read_checkpoint(path)


def _read_weights(path: Path) -> dict[str, Any]:
    metadata, state = _read_tensors(path)
    if CARD not in metadata:
        raise UserError(f"{path} has no card of blastogan: give a file of `blastogan export`")
    try:
        short = json.loads(metadata[CARD])
        digest = short.pop(DIGEST)
        if _digest(json.dumps(short), state) != digest:
            raise UserError("its content differs from what was written")
        progress = {"architecture": "", **{key: short[key] for key in SHORT[:5]}}
        content = {
            "state_dict": state,
            "hyper_parameters": progress.pop("settings"),
            "blastogan": progress,
            # read like the state of a data module
            "trained_on": short["trained_on"],
        }
        check_content(content, EXPORTED)
    # what nobody wrote fails in many ways
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else "its card cannot be read"
        raise UserError(
            f"{path} is damaged, or was not written by blastogan: {reason}. Copy, download or "
            "export it again"
        ) from error
    return {**content, "card": _whole_card(path, digest) or short}


def _read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, state
    except (PermissionError, MemoryError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(
            f"cannot read {path}: it is damaged, or no safetensors file ({reason}). Copy, download "
            "or export it again"
        ) from error


def _whole_card(path: Path, digest: str) -> dict[str, Any] | None:
    """The card beside a file; ``None`` without one, and if it is of other weights."""
    card = card_of(path)
    if not card.is_file():
        return None
    try:
        if card.stat().st_size > MAX_CARD:
            raise ValueError(f"it has more than {MAX_CARD} bytes")
        found = json.loads(card.read_bytes())
        if found["weights"]["digest"] != digest:
            raise ValueError("it belongs to other weights")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        _log.warning("the card %s is not used: %s", card, error or type(error).__name__)
        return None
    # version and commit of what wrote it
    found.pop("blastogan", None)
    return dict(found)
