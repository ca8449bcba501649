"""Lightning modules: GANs and the grade classifier.

.. include:: GUIDE.md
"""

from blastogan.errors import UserError
from blastogan.modules.base import BaseGANModule
from blastogan.modules.grade_classifier import GradeClassifier
from blastogan.modules.progan import ProGANModule
from blastogan.modules.step.strategy import GrowingDDPStrategy
from blastogan.modules.stylegan import StyleGANModule
from blastogan.runs.checkpoint_files import read_checkpoint

__all__ = [
    "ARCHITECTURES",
    "BaseGANModule",
    "GradeClassifier",
    "GrowingDDPStrategy",
    "ProGANModule",
    "StyleGANModule",
    "load_module",
]

ARCHITECTURES: dict[str, type[BaseGANModule]] = {
    kind.__name__: kind for kind in (ProGANModule, StyleGANModule)
}
"""All GANs by class name, as in configurations and checkpoints; a new one is registered here."""


def load_module(path: str) -> BaseGANModule:
    """Load the module of a checkpoint of any architecture, ready to generate.

    Raises:
        UserError: If the file is missing or damaged, or its architecture is unknown.
    """
    name = read_checkpoint(path)["blastogan"].get("architecture")
    if name not in ARCHITECTURES:
        raise UserError(f"{path} holds a {name}: expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name].load_from_checkpoint(path)
