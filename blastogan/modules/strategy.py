"""How a GAN is trained on several devices."""

from __future__ import annotations

from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import DDPStrategy, StrategyRegistry
from torch.nn.parallel import DistributedDataParallel

from blastogan.modules.ranks import copy_from_first_rank


class GrowingDDPStrategy(DDPStrategy):
    """A process per device, for modules that average their gradients themselves.

    A GAN has two networks that step in turn, and a growing one blocks that do not run yet.
    PyTorch's wrapper (Lightning's ``ddp_find_unused_parameters_true``, which works too) would look
    for unused parameters and send the gradients of both networks in every backward pass. Here each
    step of a network sends its own gradients once, of the blocks that run: half of the volume when
    fully grown, less before. Any number of passes may come before.

    Named ``growing_ddp`` in ``Trainer(strategy=...)``, and the choice of the command line for more
    than one device.
    """

    strategy_name = "growing_ddp"

    def configure_ddp(self) -> None:
        """Begin with the same weights everywhere; the module is not wrapped."""
        assert isinstance(self.model, LightningModule)
        copy_from_first_rank(self.model)


def wrapped_by_ddp(module: LightningModule) -> bool:
    """Whether a module is in PyTorch's wrapper, which averages its gradients."""
    strategy = getattr(module._trainer, "strategy", None)
    return isinstance(getattr(strategy, "model", None), DistributedDataParallel)


StrategyRegistry.register(
    GrowingDDPStrategy.strategy_name,
    GrowingDDPStrategy,
    description="One process per device; each network averages its gradients before it steps",
)
