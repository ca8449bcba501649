"""ProGAN as a Lightning module."""

from __future__ import annotations

from blastogan.generators.settings import discriminator_options, generator_options
from blastogan.modules.base import BaseGANModule
from blastogan.networks import ProGANDiscriminator, ProGANGenerator


class ProGANModule(BaseGANModule):
    """ProGAN (Karras et al. 2018), with the options of `BaseGANModule`.

    Defaults are the paper's, except for the loss: the logistic one with R1, as in StyleGAN, needs
    no extra critic steps and no penalty at every step. The paper's own is ``loss="wgan",
    regularizer="gradient_penalty"``.
    """

    def configure_networks(self) -> tuple[ProGANGenerator, ProGANDiscriminator]:
        """Build the generator, then the discriminator."""
        return (
            ProGANGenerator(**generator_options(self.hparams, ProGANGenerator)),
            ProGANDiscriminator(**discriminator_options(self.hparams)),
        )
