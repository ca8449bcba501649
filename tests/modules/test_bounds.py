"""Settings that nobody can mean are refused before anything begins."""

from __future__ import annotations

import pytest

from blastogan import BlastocystDataModule, GrowthSchedule
from blastogan.callbacks import DivergenceWatch, FidelityCallback, GrowthCheckpoint, SampleGrid
from blastogan.errors import UserError
from blastogan.grades import parse_grade_counts
from blastogan.modules import GradeClassifier
from blastogan.phantoms.plan import PhantomPlan


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channel_base", 10**9),
        ("channel_cap", 10**6),
        ("latent_dim", 10**9),
        ("latent_dim", True),
        ("latent_dim", 8.5),
        ("mapping_layers", 10**6),
        ("w_dim", None),
        ("ema_kimg", float("nan")),
        ("augment_p", "x"),
        ("r1_interval", 0),
        ("generator_optimizer", {"class_path": "torch.optim.LBFGS"}),
        ("discriminator_optimizer", {"class_path": "torch.optim.SparseAdam"}),
        ("generator_optimizer", {"class_path": "Muon"}),
        ("generator_optimizer", {"class_path": "Adam", "init_args": {"betas": 5}}),
    ],
)
def test_a_module_names_the_setting(name, value, make_module):
    with pytest.raises(UserError, match="optimizer" if "optimizer" in name else name):
        make_module("stylegan", **{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"hold_kimg": 1e300},
        {"hold_kimg": 1e9},
        {"hold_kimg": {8: None}},
        {"hold_kimg": {8: "x", 16: 1.0}},
        {"fade_kimg": float("inf")},
        {"batch_size": 10**12},
        {"batch_size": {8: 65521, 16: 65519}},
        {"batch_size": "x"},
        {"learning_rate": float("inf")},
        {"tick_kimg": "x"},
        {"final_resolution": None},
        {"final_resolution": 16.5},
    ],
)
def test_a_schedule_names_the_setting(settings):
    small = {"start_resolution": 8, "final_resolution": 16, "hold_kimg": 1.0, "fade_kimg": 1.0}
    with pytest.raises(UserError, match=next(iter(settings))):
        GrowthSchedule(**{**small, **settings})


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda schedule: SampleGrid(rows=10**6), "rows"),
        (lambda schedule: FidelityCallback(schedule, num_fakes=10**12), "num_fakes"),
        (lambda schedule: FidelityCallback(schedule, batch_size=10**12), "batch_size"),
        (lambda schedule: GrowthCheckpoint(schedule, keep_last=10**9), "keep_last"),
        (lambda schedule: DivergenceWatch(schedule, num_images=10**12), "num_images"),
        (lambda schedule: BlastocystDataModule(schedule, num_phantoms=10**12), "phantoms"),
        (lambda schedule: BlastocystDataModule(schedule, phantom_counts="AA:9999999999"), "AA"),
        (lambda schedule: BlastocystDataModule(schedule, phantom_counts=f"AA:{'9' * 5000}"), "AA"),
        (lambda schedule: BlastocystDataModule(schedule, num_workers=10**4), "num_workers"),
        (lambda schedule: BlastocystDataModule(schedule, eval_batch_size=10**12), "eval_batch"),
        (lambda schedule: PhantomPlan(10**12), "count"),
        (lambda schedule: GradeClassifier(feature_dim=10**9, resolution=10**9), "resolution.*feat"),
        (lambda schedule: GradeClassifier(lr=float("inf")), "lr inf"),
        (lambda schedule: parse_grade_counts("balanced", 10**12, {}), "count"),
    ],
)
def test_data_and_callbacks_name_the_setting(make, word, schedule):
    with pytest.raises(UserError, match=word):
        make(schedule)
