"""What a run was trained on, so that it goes on with nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from blastogan.data.images.framing import Crop
from blastogan.data.records import ImageRecord


def fingerprint(
    records: Sequence[ImageRecord], split: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Number of the images of a split, and a digest of their names, grades, embryos and parts."""
    parts = {n: part for part, positions in split.items() for n in positions}
    lines = [
        f"{record.path.name} {record.grade.name} {record.embryo} {parts[n]}"
        for n, record in enumerate(records)
        if n in parts
    ]
    text = "\n".join(lines).encode(errors="surrogateescape")
    digest = hashlib.blake2b(text, digest_size=16).hexdigest()
    return {"images": len(lines), "fingerprint": digest}


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """What a checkpoint says otherwise than what is at hand, a clause each."""
    # what checkpoints stand for that were written before these were settings
    theirs = {"balance": "none", "crop": Crop().key(), "look": "", **theirs}
    return [
        f"{name} is {theirs[name]} in the checkpoint and {value} here"
        for name, value in mine.items()
        if value != theirs[name]
    ]
