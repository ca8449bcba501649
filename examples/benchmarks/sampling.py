"""Images per second that a generator draws, next to public code.

    python examples/benchmarks/sampling.py [--resolutions 32 64 128 256] [--batch 32]
        [--peer rosinality=CHECKOUT]

Ours are the samples of the averaged generator as 8-bit images, as `generate` and the evaluations
draw them. A peer's are the outputs of its averaged generator. All run in turn in one process, with
equal numbers of threads and equal settings of the memory allocator.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from measuring import (
    Contestant,
    add_setting,
    in_turn,
    median,
    own_step,
    peer_step,
    peers_of,
    prepare,
    settings_of,
)
from peers import Setting, load_peer


def own_samples(architecture: str, setting: Setting) -> Contestant:
    contestant, module = own_step(architecture, "32-true", setting)
    module.eval()
    labels = torch.zeros(setting.batch, 2, dtype=torch.int64)

    def step() -> None:
        module.sample(range(setting.batch), labels, seed=0)

    return replace(contestant, name=architecture, step=step, period=1)


def peer_samples(name: str, path: Path, setting: Setting) -> Contestant:
    peer = load_peer(name, path, setting)
    contestant = peer_step(name, path, setting)
    return replace(contestant, step=torch.no_grad()(peer.sample), period=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_setting(parser)
    parser.set_defaults(batch=32)
    options = parser.parse_args()
    prepare(options.threads)
    for resolution in options.resolutions:
        setting = settings_of(options, resolution)
        contestants = [own_samples(name, setting) for name in options.architectures]
        contestants += [
            peer_samples(name, path, setting) for name, path in peers_of(options).items()
        ]
        rates = in_turn(contestants, options.rounds, options.seconds)
        print(f"{resolution}x{resolution}, batch {options.batch}")
        for name, each in rates.items():
            print(
                f"  {name:12s} {median(each):9.1f} images/s  ({min(each):.1f} to {max(each):.1f})"
            )


if __name__ == "__main__":
    main()
