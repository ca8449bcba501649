"""Lightning callbacks: growth, fade-in, checkpoints, logs, evaluation and monitoring of a run."""

from blastogan.callbacks.checkpoints import GrowthCheckpoint
from blastogan.callbacks.defaults import default_callbacks
from blastogan.callbacks.fade_in import FadeIn
from blastogan.callbacks.fidelity.callback import FidelityCallback
from blastogan.callbacks.growing import ProgressiveGrowing
from blastogan.callbacks.progress import GrowthProgress
from blastogan.callbacks.random_state import RandomState
from blastogan.callbacks.sample_grid import SampleGrid
from blastogan.callbacks.split_record import SplitRecord
from blastogan.callbacks.stopping import GracefulInterrupt
from blastogan.callbacks.tf32 import TF32
from blastogan.callbacks.training_log import TrainingLog
from blastogan.callbacks.watch.callback import DivergenceWatch

__all__ = [
    "TF32",
    "DivergenceWatch",
    "FadeIn",
    "FidelityCallback",
    "GracefulInterrupt",
    "GrowthCheckpoint",
    "GrowthProgress",
    "ProgressiveGrowing",
    "RandomState",
    "SampleGrid",
    "SplitRecord",
    "TrainingLog",
    "default_callbacks",
]
