"""Progressively grown generators and discriminators, in plain PyTorch."""

from blastogan.networks.progan import ProGANDiscriminator, ProGANGenerator
from blastogan.networks.stylegan import StyleGANDiscriminator, StyleGANGenerator

__all__ = [
    "ProGANDiscriminator",
    "ProGANGenerator",
    "StyleGANDiscriminator",
    "StyleGANGenerator",
]
