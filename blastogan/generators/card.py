"""The card of trained weights: what they were trained on, how, and how good they are.

A card holds plain values: ``architecture``, ``resolution`` and ``alpha`` of growth,
``images_shown``, ``classes_shown``, ``trained_on``, ``trained_with``, ``training`` (all
hyper-parameters), ``config``, ``seed``, ``figures``, ``exported_on``, ``licence``,
``intended_use``, ``audit_of_copies`` and ``notes``. In a file, ``settings`` are those that its
networks follow from.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import math
import os
import platform
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from blastogan.errors import UserError
from blastogan.generators.settings import is_ramp
from blastogan.grades import CLASSES, Grade
from blastogan.runs.checkpoint_content import GRADER
from blastogan.runs.folder import newest_config, run_of_checkpoint
from blastogan.runs.table import RunTable

INTENDED_USE = (
    "research on synthetic images of blastocysts, such as the training and testing of methods; "
    "not for clinical use"
)

UNAUDITED = "unaudited"
"""What stands in a card until an audit of copies of the training images is attached."""

UNSTATED: dict[str, Any] = {
    "trained_on": {},
    "licence": None,
    "intended_use": INTENDED_USE,
    "audit_of_copies": UNAUDITED,
    "notes": [],
}
"""What a card says as long as nobody says otherwise."""

_log = logging.getLogger(__name__)


def build_card(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Card of a checkpoint, from its content and what lies in its run folder.

    Args:
        content: See `blastogan.runs.checkpoint_files.read_checkpoint`.
        path: The checkpoint.
    """
    progress, run = content["blastogan"], run_of_checkpoint(path)
    data = _data_state(content)
    return {
        **UNSTATED,
        "architecture": progress["architecture"],
        "resolution": progress.get("resolution"),
        "alpha": progress.get("alpha"),
        "images_shown": progress["images_shown"],
        "classes_shown": _classes_shown(content["state_dict"].get("grade_counts")),
        "trained_on": {**_plain(data), **_split(run / "split.csv")},
        "trained_with": {
            **{key: _plain(progress[key]) for key in ("version", "commit") if key in progress},
            "pytorch-lightning": content.get("pytorch-lightning_version"),
        },
        "config": _config(run),
        "seed": _plain(data.get("seed")),
        "figures": [*_fidelity(run, progress["images_shown"]), *_tests(run)],
        "training": _plain(content["hyper_parameters"]),
        "exported_on": _machine(),
        "notes": _notes(content),
    }


def _data_state(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """State of the data module, whose key is the name of its class, which may be a user's own."""
    for state in content.values():
        if isinstance(state, Mapping) and {"source", "fingerprint"} <= state.keys():
            return state
    return {}


def _classes_shown(counts: Any) -> dict[str, int]:
    """Images of each class shown in training."""
    if not isinstance(counts, torch.Tensor) or counts.shape != (4, 4):
        return {}
    shown = {name: int(counts[Grade.parse(name).labels]) for name in CLASSES}
    return {name: number for name, number in shown.items() if number}


def _notes(content: Mapping[str, Any]) -> list[str]:
    """Sentences on a state in which training is not meant to end."""
    progress, settings = content["blastogan"], content["hyper_parameters"]
    if progress["architecture"] == GRADER:
        return []
    notes, side = [], progress["resolution"]
    if progress["alpha"] < 1.0:
        share = f"{100 * progress['alpha']:.0f} %"
        notes.append(f"in the middle of a fade: the layers of {side}x{side} count {share}")
    if side != settings.get("resolution"):
        notes.append(f"in the middle of growth: at {side} of {settings.get('resolution')} pixels")
    ramp = settings.get("ramp_kimg")
    if is_ramp(ramp) and progress["images_shown"] < 1000 * ramp[1]:
        notes.append(
            f"in the middle of a ramp: the grade does not count in full (ramp_kimg {ramp})"
        )
    return notes


def _split(path: Path) -> dict[str, Any]:
    """Images of each part of a split, and of each class among those trained on."""
    parts, classes = Counter[str](), Counter[str]()
    for row in _rows(path):
        part = str(row.get("part"))
        parts[part] += 1
        classes[_class(str(row.get("grade")))] += part == "train"
    found = {name: number for name, number in sorted(classes.items()) if number}
    return {"parts": dict(parts), "classes": found} if parts else {}


def _class(grade: str) -> str:
    try:
        return Grade.parse(grade).name
    except UserError:
        return "not fully graded"


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            yield from csv.DictReader(file)
    except FileNotFoundError:
        return
    except (OSError, csv.Error) as error:
        _log.warning("%s is not in the card: %s", path, error)


def _config(run: Path) -> dict[str, str] | None:
    """Name and digest of the configuration of a run."""
    path = newest_config(run)
    if path is None:
        return None
    digest = hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest()
    return {"file": path.name, "blake2b": digest}


def _fidelity(run: Path, images_shown: int) -> list[dict[str, Any]]:
    """Rows of the table of metrics that were measured after so many images."""
    try:
        rows = RunTable(run / "fidelity.csv").rows()
        here = [row for row in rows if float(row["kimg"]) * 1000 == images_shown]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        _log.warning("the table of metrics of %s is not in the card: %s", run, error)
        return []
    against = {"against": "images trained on"}
    return [{**against, **{key: _number(v) for key, v in row.items() if v}} for row in here]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _tests(run: Path) -> Iterator[dict[str, Any]]:
    """Numbers of the files that ``blastogan test`` wrote."""
    parts = {"train": "images trained on", "held_out": "held-out images"}
    for path in sorted(run.glob("fidelity-test-*.json")):
        try:
            found = json.loads(path.read_bytes())
            for part, name in parts.items():
                values = {
                    key: v for key, v in found[part].items() if isinstance(v, (int, float, str))
                }
                yield {"against": name, "kimg": found["kimg"], **values}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.warning("%s is not in the card: %s", path, error)


def _machine() -> dict[str, Any]:
    """This machine, and the versions of what computes."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("blastogan", "safetensors"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*: (.*)", text)
    return found[1].strip() if found else platform.processor()


def _plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)[:200]
