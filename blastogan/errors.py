"""Errors that a user can mend."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(ValueError):
    """Wrong input, told in full by its message: what was got, what was expected, what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


class ProblemList(UserError):
    """Several faults of one input, listed together so that they can be mended in one go.

    Attributes:
        problems: One sentence per fault, in the order in which they were found.
    """

    SHOWN = 20

    def __init__(self, summary: str, problems: Sequence[str], remedy: str) -> None:
        self.problems = list(problems)
        lines = [f"  - {problem}" for problem in self.problems[: self.SHOWN]]
        if len(self.problems) > self.SHOWN:
            lines.append(f"  ... and {len(self.problems) - self.SHOWN} more")
        super().__init__("\n".join([f"{summary} ({len(self.problems)}):", *lines, remedy]))


class DivergenceError(RuntimeError):
    """Training has become numerically unsound; the message names where and what to try."""
