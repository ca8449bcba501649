"""``blastogan folds``: test metrics of the folds of a cross-validation, side by side."""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blastogan.errors import ProblemList, UserError
from blastogan.metrics.specs import TABLE
from blastogan.utils.files import user_path, write_json
from blastogan.utils.terminal import check_outputs, show_tables

_log = logging.getLogger(__name__)

RESULTS = ("grade-test*.json", "fidelity-test*.json")
"""Names of the files that a test writes into its run folder."""

MAX_BYTES = 10_000_000


@dataclass(frozen=True)
class FoldResult:
    """Metrics of one fold: its file, number of folds, fold from 0, and values by name.

    `extractor` is the one of FID and KID; empty for other metrics.
    """

    path: Path
    folds: int
    fold: int
    values: Mapping[str, float]
    extractor: str = ""


def folds(args: Sequence[str]) -> int:
    """Print, and if asked write, mean and spread of each metric over the folds."""
    parser = argparse.ArgumentParser(
        prog="blastogan folds",
        description="Compare the test metrics of the folds of a cross-validation. Train each with "
        "--data.folds K --data.fold 0 to K-1, run its test, then name the run folders.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", type=user_path, help="run folder of a tested fold"
    )
    parser.add_argument("--json", metavar="FILE", type=user_path, help="write the table as JSON")
    options = parser.parse_args(args)
    check_outputs({"--json": options.json})
    results = read_results([Path(run) for run in options.runs])
    table = summarise(results)
    if options.json:
        by = {"extractor": results[0].extractor} if results[0].extractor else {}
        write_json({"folds": results[0].folds, **by, "metrics": table}, options.json)
    title = f"{len(results)} of {results[0].folds} folds, each tested on embryos it has not seen"
    if results[0].extractor:
        title += f", extractor {results[0].extractor}"
    show_tables(title, [(("metric", "mean ± sd", "by fold"), _rows(table))], [])
    return 0


def read_results(runs: Sequence[Path]) -> list[FoldResult]:
    """The newest result of each run, in the order of the folds.

    Raises:
        ProblemList: Naming every run without a result of a fold, or with one that another has.
    """
    results: list[FoldResult] = []
    problems = []
    for run in runs:
        try:
            result = _read(run)
        except UserError as error:
            problems.append(str(error))
            continue
        for other in results:
            if result.folds != other.folds or result.fold == other.fold:
                both = [f"fold {each.fold} of {each.folds}" for each in (result, other)]
                problems.append(f"{result.path} is {both[0]}, but {other.path} is {both[1]}")
        if results and result.extractor != results[0].extractor:
            both = [each.extractor or "none" for each in (result, results[0])]
            problems.append(
                f"{result.path} has the extractor {both[0]}, but {results[0].path} has {both[1]}: "
                "their values do not compare"
            )
        results.append(result)
    if problems:
        raise ProblemList(
            "these runs are not the tested folds of one cross-validation",
            problems,
            "Train with --data.folds K --data.fold N, run blastogan test (with one extractor) or "
            "blastogan grade test on each, and name each fold once.",
        )
    return sorted(results, key=lambda result: result.fold)


def summarise(results: Sequence[FoldResult]) -> dict[str, dict[str, Any]]:
    """``mean``, ``sd`` (``None`` for one fold) and ``by_fold`` of every metric that all have."""
    names = [name for name in results[0].values if all(name in each.values for each in results)]
    table = {}
    for name in names:
        values = [each.values[name] for each in results]
        spread = statistics.stdev(values) if len(values) > 1 else None
        table[name] = {"mean": statistics.fmean(values), "sd": spread, "by_fold": values}
    return table


def _rows(table: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, row in table.items():
        spec = TABLE.get(name)
        scale, title = (spec.scale, spec.title) if spec else (1.0, name.replace("_", " "))
        spread = "" if row["sd"] is None else f" ± {row['sd'] * scale:.2g}"
        every = "  ".join(f"{value * scale:.4g}" for value in row["by_fold"])
        rows.append((title, f"{row['mean'] * scale:.4g}{spread}", every))
    return rows


def _read(run: Path) -> FoldResult:
    found = [path for pattern in RESULTS for path in run.glob(pattern) if path.is_file()]
    if not found:
        raise UserError(f"{run} has no result of a test: expected {' or '.join(RESULTS)} in it")
    path = max(found, key=lambda each: each.stat().st_mtime)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} has more than {MAX_BYTES} bytes: it is no result of a test")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        count, fold = content["folds"], content["fold"]
        values = content.get("held_out", content.get("values"))
        pairs = {str(name): value for name, value in values.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{path} is no result of a test of this version: test it again") from None
    if not (type(count) is type(fold) is int and 0 <= fold < count):
        raise UserError(f"{path} is the result of a run without folds")
    extractor = pairs.get("extractor", "")
    if not isinstance(extractor, str):
        raise UserError(f"{path} is no result of a test of this version: test it again")
    numbers = {n: float(x) for n, x in pairs.items() if type(x) in (int, float)}
    finite = {n: x for n, x in numbers.items() if math.isfinite(x)}
    return FoldResult(path, count, fold, finite, extractor)
