"""Small modules, data and trainers for the tests."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers import command
from helpers.cheaper import make_runs_cheaper
from helpers.inception import write_random_inception
from helpers.small_modules import MODULES, TINY

from blastogan import (
    BlastocystDataModule,
    FadeIn,
    GrowthSchedule,
    ProgressiveGrowing,
)
from blastogan.callbacks import DivergenceWatch, GrowthCheckpoint, RandomState
from blastogan.callbacks.fidelity import callback as fidelity
from blastogan.utils.curves import plot_curves

TRAINING = {"make_trainer", "trained", "here"}
"""Fixtures of tests that train or run commands of training."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test its tier, and run the files with the most work first.

    The tiers are the markers ``notebooks``, ``slow`` and ``unit``. Files with the most work go
    first so that none is left to run alone at the end; a marker may say how many ``seconds`` a
    test takes.
    """
    work = Counter[Path]()
    for item in items:
        if not TRAINING.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
        if not any(map(item.get_closest_marker, ("notebooks", "slow"))):
            item.add_marker("unit")
        usual = 100 if item.get_closest_marker("unit") else 3000
        said = [m.kwargs["seconds"] for m in item.iter_markers() if "seconds" in m.kwargs]
        # in milliseconds
        work[item.path] += 1000 * said[0] if said else usual
    items.sort(key=lambda item: -work[item.path])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Here, and in commands and notebooks that tests start: two files run at a time."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of tests are remembered for the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _cheaper_runs() -> Iterator[None]:
    """See `make_runs_cheaper`."""
    with pytest.MonkeyPatch.context() as patch:
        make_runs_cheaper(patch.setattr)
        yield


@pytest.fixture
def schedule() -> GrowthSchedule:
    return GrowthSchedule(**TINY)


@pytest.fixture
def make_module() -> Callable[..., Any]:
    def make(name: str = "progan", **settings: Any) -> Any:
        kind, small = MODULES[name]
        torch.manual_seed(0)
        sizes = {"resolution": 16, "start_resolution": 8}
        return kind(**{**sizes, **small, **settings})

    return make


@pytest.fixture
def make_data(schedule: GrowthSchedule) -> Callable[..., BlastocystDataModule]:
    def make(**settings: Any) -> BlastocystDataModule:
        # an embryo each, so that they split evenly
        few = {"num_phantoms": 60, "phantom_counts": "balanced"}
        return BlastocystDataModule(schedule, **{**few, **settings})

    return make


@pytest.fixture
def make_trainer(schedule: GrowthSchedule, tmp_path: Path) -> Callable[..., pl.Trainer]:
    def make(*extra: pl.Callback, folder: str = "run", **settings: Any) -> pl.Trainer:
        return pl.Trainer(
            **{
                "max_epochs": schedule.total_ticks,
                "accelerator": "cpu",
                "default_root_dir": str(tmp_path / folder),
                "logger": False,
                "num_sanity_val_steps": 0,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "callbacks": [
                    ProgressiveGrowing(schedule),
                    FadeIn(schedule),
                    GrowthCheckpoint(schedule),
                    # looks are taken by the tests of it
                    DivergenceWatch(schedule, every_n_ticks=1000),
                    RandomState(),
                    *extra,
                ],
                **settings,
            }
        )

    return make


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(command.TINY)
    return tmp_path


@pytest.fixture(scope="session")
def _tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        # with its plots
        patch.setattr(fidelity, "plot_curves", plot_curves)
        Path("tiny.yaml").write_text(command.TINY)
        assert command.blastogan("fit", "--config", "tiny.yaml") == 0
    return home


@pytest.fixture
def trained(here: Path, _tiny_run: Path) -> Path:
    """A folder with ``tiny.yaml`` and a copy of its run, which is trained once for all tests."""
    shutil.copytree(_tiny_run, here, dirs_exist_ok=True)
    return here


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_inception(tmp_path_factory.mktemp("weights") / "inception.pth")
