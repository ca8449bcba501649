"""Errors that a user can fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args


def printable(text: str) -> str:
    """A text without control codes and the like, which are escaped; line breaks are kept.

    Names of files and cells of tables may hold any of them, and bytes that are no text.
    """
    return "\n".join(map(_escaped, text.split("\n")))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


class UserError(ValueError):
    """Wrong input; the message says what was got, what was expected, and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


def check_choice(name: str, value: object, kind: Any) -> None:
    """Raise a `UserError` for a value of an option that is none of a `Literal`."""
    if value not in get_args(kind):
        raise UserError(f"{name} is {value!r}: expected one of {', '.join(get_args(kind))}")


def check_ranges(values: Mapping[str, float], low: float, high: float) -> None:
    """Raise a `UserError` that names every option whose number is out of range, or is none."""
    wrong = [
        f"{name} is {value}: expected {low:g} to {high:g}"
        for name, value in values.items()
        if not low <= value <= high
    ]
    if wrong:
        raise UserError("; ".join(wrong))


class ProblemList(UserError):
    """Several faults of one input, listed together so that they can be fixed in one go.

    Attributes:
        problems: One sentence per fault, in the order in which they were found.
    """

    SHOWN = 20

    def __init__(self, summary: str, problems: Sequence[str], remedy: str) -> None:
        self.problems = list(problems)
        shown = (problem.replace("\n", "\\n") for problem in self.problems[: self.SHOWN])
        lines = [f"  - {problem}" for problem in shown]
        if len(self.problems) > self.SHOWN:
            lines.append(f"  ... and {len(self.problems) - self.SHOWN} more")
        super().__init__("\n".join([f"{summary} ({len(self.problems)}):", *lines, remedy]))


class DivergenceError(RuntimeError):
    """Training has diverged; the message says where and what to try."""


class Requeue(KeyboardInterrupt):
    """A run was stopped before its end; the same command with ``--resume`` continues it.

    By a scheduler, unless the message says otherwise.
    """
