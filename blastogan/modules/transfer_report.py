"""What was taken over from another run, and what not: every weight, with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from blastogan.modules.transfer_layers import Kind
from blastogan.modules.transfer_source import resolution_of


class Entry(NamedTuple):
    """Weights of one layer that share a fate.

    Attributes:
        side: ``generator`` or ``discriminator``.
        layer: Name within it.
        kind: What became of them; those left behind are the checkpoint's, the others the module's.
        number: Of weights, running means included.
        why: Reason; empty for what was taken over as it is.
    """

    side: str
    layer: str
    kind: Kind
    number: int
    why: str


class Transfer(NamedTuple):
    """What a module has got from a checkpoint.

    Attributes:
        architecture: Class name of the checkpoint's module.
        trained: Highest resolution in pixels that it had been trained at.
        alpha: How far that had faded in when it was saved, 0 to 1.
        entries: The fate of every weight.
    """

    architecture: str
    trained: int
    alpha: float
    entries: tuple[Entry, ...]

    def total(self, side: str, *kinds: Kind) -> int:
        """Weights of a side of some kinds."""
        return sum(e.number for e in self.entries if e.side == side and e.kind in kinds)

    @property
    def has_convolutions(self) -> bool:
        """Whether any layer with a weight between features was taken over, at either side."""
        return any(e.kind is Kind.TAKEN and ".conv" in f".{e.layer}" for e in self.entries)

    def has_block(self, resolution: int) -> bool:
        """Whether all of a block of the discriminator was taken over as it is."""
        return self._kinds(f"blocks.{resolution}.") == {Kind.TAKEN}

    def has_from_rgb(self, resolution: int) -> bool:
        """Whether the discriminator has the layer from images of a resolution from there."""
        kinds = self._kinds(f"from_rgb.{resolution}.")
        return bool(kinds) and kinds <= {Kind.TAKEN, Kind.ADAPTED}

    def _kinds(self, beginning: str) -> set[Kind]:
        return {
            e.kind
            for e in self.entries
            if e.side == "discriminator" and f"{e.layer}.".startswith(beginning)
        }

    def __str__(self) -> str:
        """A table: a line for each part, with numbers of weights and reasons."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        stage = f"trained to {self.trained}x{self.trained}"
        if self.alpha < 1.0:
            stage += f", which had faded in by {self.alpha:.0%}"
        yield f"the checkpoint is of a {self.architecture}, {stage}"
        columns = "".join(f"{kind.value:>13}" for kind in Kind)
        yield f"{'weights':28}{columns}  why"
        for side in ("generator", "discriminator"):
            mine = [entry for entry in self.entries if entry.side == side]
            for part in dict.fromkeys(sorted((_part(e.layer) for e in mine), key=_order)):
                yield _line(side, part, [e for e in mine if _part(e.layer) == part])
        for side in ("generator", "discriminator"):
            yield self._summary(side)

    def _summary(self, side: str) -> str:
        whole = self.total(side, Kind.TAKEN, Kind.ADAPTED, Kind.NEW)
        got = self.total(side, Kind.TAKEN, Kind.ADAPTED)
        return (
            f"{_of(got, whole)} weights of the {side} come from the checkpoint "
            f"({self.total(side, Kind.ADAPTED):,} of them adapted), "
            f"{self.total(side, Kind.NEW):,} are new; {self.total(side, Kind.LEFT):,} of the "
            "checkpoint were left behind"
        )


def _of(part: int, whole: int) -> str:
    if whole < 1_000_000:
        return f"{part:,} of {whole:,}"
    return f"{part / 1e6:.1f} of {whole / 1e6:.1f} million"


def _part(layer: str) -> str:
    """Name of the row for a layer."""
    names = layer.split(".")
    if "embedding" in names:
        return "embedding"
    for name in ("to_rgb", "from_rgb"):
        if name in names:
            return name
    resolution = resolution_of(layer)
    if resolution is not None:
        return f"block {resolution}"
    return names[0] or "mean of w"


def _order(part: str) -> tuple[int, int]:
    """Inside first: what takes latents or scores, then blocks, then images, then grades."""
    if part.startswith("block "):
        return 1, int(part.rpartition(" ")[2])
    return {"to_rgb": 2, "from_rgb": 2, "embedding": 3}.get(part, 0), 0


def _line(side: str, part: str, entries: list[Entry]) -> str:
    counts = [sum(e.number for e in entries if e.kind is kind) for kind in Kind]
    numbers = "".join(f"{count:>13,}" if count else f"{'-':>13}" for count in counts)
    reasons: dict[str, set[str]] = {}
    for entry in entries:
        if entry.why:
            reasons.setdefault(entry.why, set()).add(entry.kind.value)
    why = "; ".join(f"{' and '.join(sorted(kinds))}: {why}" for why, kinds in reasons.items())
    return f"{side + ' ' + part:28}{numbers}  {why}".rstrip()
