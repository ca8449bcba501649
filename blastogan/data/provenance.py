"""Identity of the data of a run, compared when the run is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from blastogan.data.images.framing import Crop
from blastogan.data.records import ImageRecord


def split_fingerprint(
    records: Sequence[ImageRecord], split: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Number of images in a split, and a digest of their names, grades, embryos and parts."""
    parts = {n: part for part, positions in split.items() for n in positions}
    lines = [
        f"{record.path.name} {record.grade.name} {record.embryo} {parts[n]}"
        for n, record in enumerate(records)
        if n in parts
    ]
    text = "\n".join(lines).encode(errors="surrogateescape")
    digest = hashlib.blake2b(text, digest_size=16).hexdigest()
    return {"images": len(lines), "fingerprint": digest}


def state_differences(here: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> list[str]:
    """A clause for each entry of a state that a checkpoint has otherwise."""
    # values of checkpoints that are older than these settings
    older = {"balance": "none", "crop": Crop().key(), "colour": "keep", "look": ""}
    checkpoint = {**older, **checkpoint}
    return [
        f"{name} is {checkpoint.get(name)} in the checkpoint and {value} here"
        for name, value in here.items()
        if value != checkpoint.get(name)
    ]
