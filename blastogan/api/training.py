"""Training in one call."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any

from blastogan.api.run import Run
from blastogan.errors import UserError
from blastogan.growth import GrowthSchedule
from blastogan.utils.quiet import noise_hidden

OF_COMMAND = ("dry_run", "help", "print_config")
"""Options that print and train nothing."""

_one_at_a_time = threading.Lock()


def train(
    config: str | PathLike[str] | None = None,
    root: str | PathLike[str] | None = None,
    run_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    **options: Any,
) -> Run:
    """Train a GAN as ``blastogan fit`` does: equal settings give equal weights.

    Everything is checked before anything is written, and no run is overwritten. Ctrl-C, or the
    interrupt of a notebook, finishes and saves the batch; with ``resume=True`` the same call
    continues. Progress is shown on a terminal and in a notebook; elsewhere it goes to the logger
    ``blastogan`` at level INFO. One run trains at a time in a process, in any thread. The random
    states of Python, NumPy and PyTorch are seeded.

    Args:
        config: Preset, such as ``demo``, or configuration file; may be left out to resume a run.
        root: Folder of graded images; without it, phantoms.
        run_dir: Folder of the run, new or empty; by default a new one under ``runs/``.
        resume: Resume the run in `run_dir`, or the newest of this preset under ``runs/``, from its
            latest valid checkpoint; start it if there is none.
        **options: Any other option of ``blastogan fit``, with two underscores for each dot:
            ``schedule__hold_kimg=4`` is ``--schedule.hold_kimg 4``. Values are numbers, texts,
            lists or mappings; ``schedule`` may also be a `GrowthSchedule`.

    Returns:
        The run. Where ``max_time`` or a callback has ended it early, `Run.finished` is false.

    Raises:
        UserError: If an option, the data or a checkpoint cannot be used.
        DivergenceError: If the training has diverged.
        OSError: If a file cannot be read or written; the message says what is left of the run.
        KeyboardInterrupt: On Ctrl-C, after saving; `Requeue` on the signal of a scheduler.
    """
    places = {"config": config, "data.root": root, "run_dir": run_dir, "resume": resume or None}
    given = {name: value for name, value in places.items() if value is not None}
    args = arguments(given, options)
    if not _one_at_a_time.acquire(blocking=False):
        raise UserError("another run is training in this process: wait for it, or use another one")
    try:
        with noise_hidden():
            # takes seconds
            from blastogan.api.fitting import fit

            return Run(fit(args))
    except KeyboardInterrupt as stop:
        # without the hundred frames of the trainer
        raise type(stop)("stopped; the same call with resume=True continues") from None
    finally:
        _one_at_a_time.release()


def arguments(given: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Arguments of the command line.

    Args:
        given: Values by option.
        options: Values by option, spelled for Python.

    Raises:
        UserError: Naming all options that are none or given twice, and values that are not plain.
    """
    dotted = {name.replace("__", "."): value for name, value in options.items()}
    problems = [f"{name} is given twice" for name in dotted if name in given]
    problems += [
        f"{name} trains nothing: use the command line, blastogan fit --{name}"
        for name in dotted
        if name.rpartition(".")[2] in OF_COMMAND
    ]
    found = []
    for name, value in {**given, **dotted}.items():
        try:
            found.append(f"--{name}={_as_text(value)}")
        except TypeError as error:
            problems.append(f"{name} holds {error}: expected a number, a text, a list or a mapping")
    if problems:
        raise UserError("; ".join(problems))
    return found


def _as_text(value: Any) -> str:
    """A value as it is typed; raises `TypeError` for what cannot be typed."""
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, PathLike):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, GrowthSchedule):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    raise TypeError(f"a {type(value).__name__}")
