"""How a GAN is trained on several devices, and what would limit it on thousands.

On paper, for the fully grown 256x256 networks with the papers' widths: a step takes about 440 GFLOP
per image and sends the gradients of 50 million weights, 201 MB in float32; a ring sends twice that
from each device, 400 MB.

*Batch.* A device needs at least one group of the minibatch standard deviation, four images, so
that the global batch of 16 of the presets at 256x256 ends at four devices. 10,000 devices would
make it 40,000 images, where GANs are trained at 16 to 2,048: learning rate and R1 would have to be
found anew, and a data set of 3,800 images would be shown ten times in a step. This limit comes
first, and no software lifts it.

*Exchange.* At 300 TFLOP/s, a third of what a current GPU can do in bfloat16, four images take 6 ms
and 16 take 23 ms; 400 MB take 8 ms at 50 GB/s. The exchange is not overlapped with the backward
pass, so that it costs a quarter of a step at 16 images on a device, more than half of it at four.
What would be done first: to exchange D's gradients while G generates, which does not need them,
and to send them in bfloat16, for half of the volume. In a ring of 10,000, 20,000 messages of 10 kB
follow each other for each network, whose latency would outweigh their size; trees, or a ring of
nodes with one within each, avoid that. Lightning, too, asks at each step whether a process was
told to stop, and waits for the answer.

*Metrics.* Samples and features are shared by rank, but gathered: 50,000 images of 2,048 features
are 410 MB, on every rank. Sums of moments would be 34 MB, and features are needed for KID,
precision and recall on one rank alone. The eigenvalues behind FID, and the nearest neighbours, are
computed by that one.

*Data and files.* Each rank decodes and holds the whole set, which for some thousands of images is
what one wants: 330 MB up to 256x256 in grey. Each reads the checkpoint that a run resumes from;
rank 0 alone writes.
"""

from __future__ import annotations

from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import DDPStrategy, StrategyRegistry
from torch.nn.parallel import DistributedDataParallel

from blastogan.modules.step.ranks import copy_from_first_rank


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
