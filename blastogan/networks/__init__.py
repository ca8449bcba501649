"""Progressively grown generators and discriminators, and a grader, in plain PyTorch."""

from blastogan.networks.grader import GraderNetwork
from blastogan.networks.progan import ProGANDiscriminator, ProGANGenerator
from blastogan.networks.stylegan import StyleGANDiscriminator, StyleGANGenerator

__all__ = [
    "GraderNetwork",
    "ProGANDiscriminator",
    "ProGANGenerator",
    "StyleGANDiscriminator",
    "StyleGANGenerator",
]
