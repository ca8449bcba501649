"""Training of a GAN on several devices.

By calculation, for the fully grown 256x256 networks: a step takes about 440 GFLOP per image and
averages 201 MB of gradients, about 400 MB per device in a ring. With 16 images per device the
exchange, which does not overlap the backward pass, is a quarter of a step at 50 GB/s; with 4 images
more than half. A device needs at least one group of the minibatch standard deviation (4 images), so
that the batch size limits the number of devices first: 16 images to 4 devices.
"""

from __future__ import annotations

from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import DDPStrategy, StrategyRegistry
from torch.nn.parallel import DistributedDataParallel

from blastogan.modules.step.ranks import copy_from_first_rank


class GrowingDDPStrategy(DDPStrategy):
    """One process per device, for modules that average their gradients themselves.

    Each step of a network exchanges its gradients once, for the blocks that run. PyTorch's wrapper
    (Lightning's ``ddp_find_unused_parameters_true``, which works too) would search for unused
    parameters and send the gradients of both networks in every backward pass: at least twice the
    volume.

    ``Trainer(strategy="growing_ddp")``; the command line chooses it for more than one device.
    """

    strategy_name = "growing_ddp"

    def configure_ddp(self) -> None:
        """Copy the weights of the first rank to all; the module is not wrapped."""
        assert isinstance(self.model, LightningModule)
        copy_from_first_rank(self.model)


def wrapped_by_ddp(module: LightningModule) -> bool:
    """Whether a module is in PyTorch's wrapper, which averages its gradients."""
    strategy = getattr(module._trainer, "strategy", None)
    return isinstance(getattr(strategy, "model", None), DistributedDataParallel)


def scales_gradients(module: LightningModule) -> bool:
    """Whether the trainer scales gradients against underflow, as with 16-mixed."""
    precision = getattr(getattr(module._trainer, "strategy", None), "precision_plugin", None)
    return getattr(precision, "scaler", None) is not None


StrategyRegistry.register(
    GrowingDDPStrategy.strategy_name,
    GrowingDDPStrategy,
    description="One process per device; each network averages its gradients before its step",
)
