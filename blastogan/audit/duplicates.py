"""Detection of copies: exact ones, and ones that were encoded, resized or turned.

`LIMIT` and `LIKENESS` were measured on 84 micrographs of 12 embryos (STORK, 500x500) and on
phantoms. They find every copy that was mirrored or turned, saved as JPEG of quality 30 to 90,
resized (down to 64x64), 20 % brighter or darker, given 30 % more or less contrast, blurred by 1/300
of its width, or cropped by 2 % about the centre (distances up to 38, likenesses from 0.973 on), and
no pair of different embryos (micrographs: distances from 46 on, likenesses up to 0.83; phantoms:
likenesses up to 0.84 if centred and 0.94 in wells, whose arc they share). Larger crops are found in
part. 3,800 images are compared in 1 to 2.5 s on one core, 20,000 in 20 s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LIMIT = 48
"""Bits, of 256, by which the perceptual hashes of copies may differ."""

LIKENESS = 0.96
"""Least `likeness` of copies."""

HASH_SIZE = 16
"""Frequencies of the hash in each direction: 256 bits, as 64 are equal for many embryos."""

_SIDE = 32
_SPREAD = 2.0
_FLAT = 0.5
_HASHED_SIDE = 4 * HASH_SIZE
_BLOCK = 2**18
_CHUNK = 2048
_PIECE = 2**22  # pixels

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]


class Fingerprint(NamedTuple):
    """Features by which an image is compared.

    Attributes:
        digest: Hash of the size and the RGB values, equal only for exact copies; flat images are
            compared by it alone.
        words: Perceptual hashes of its eight symmetries (8, 4), in the order of `symmetries`.
        thumbnail: The image in grey, squeezed to (32, 32).
    """

    digest: str
    words: Words
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class DuplicateGroup:
    """Sorted positions of copies of each other, and whether they are equal in all pixels."""

    members: tuple[int, ...]
    exact: bool


def hash_plane(plane: Image.Image) -> bytes:
    """Hash of the size and the values of one channel of an image, of mode L."""
    digest = hashlib.blake2b(repr(plane.size).encode(), digest_size=16)
    # in pieces, as access to the values copies them twice
    rows = max(1, _PIECE // plane.width)
    for top in range(0, plane.height, rows):
        piece = plane.crop((0, top, plane.width, min(top + rows, plane.height)))
        digest.update(piece.tobytes())
    return digest.digest()


def image_fingerprint(planes: Sequence[bytes], grey: Image.Image) -> Fingerprint:
    """Fingerprint of an upright image; a grey image saved as RGB has the same one.

    Args:
        planes: `hash_plane` of red, green and blue, or of grey alone.
        grey: The image of mode L.
    """
    from imagehash import phash

    planes = [planes[0]] * 3 if len(planes) == 1 else planes
    digest = hashlib.blake2b(b"".join(planes), digest_size=16)
    small = _squeezed(grey, _HASHED_SIDE)
    bits = [
        phash(Image.fromarray(np.ascontiguousarray(turned)), hash_size=HASH_SIZE).hash
        for turned in symmetries(small)
    ]
    words = np.packbits(np.reshape(bits, (8, -1)), axis=1).view(np.uint64)
    return Fingerprint(digest.hexdigest(), words, _squeezed(grey, _SIDE))


def _squeezed(grey: Image.Image, side: int) -> NDArray[np.uint8]:
    if grey.width < side < grey.height:
        # Pillow would first widen all rows of a long and narrow image
        grey = grey.resize((grey.width, side), Image.Resampling.LANCZOS)
    return np.asarray(grey.resize((side, side), Image.Resampling.LANCZOS))


def symmetries(values: NDArray[Any]) -> list[NDArray[Any]]:
    """The eight symmetries of arrays (..., S, S) as views, the identity first."""
    turned = []
    for each in (values, np.swapaxes(values, -1, -2)):
        turned += [each, each[..., ::-1, :], each[..., :, ::-1], each[..., ::-1, ::-1]]
    return turned


def find_duplicates(prints: Sequence[Fingerprint]) -> list[DuplicateGroup]:
    """Disjoint groups of two or more copies, sorted by first member.

    A copy of a copy belongs to the group. The time grows with the square of the number of images.
    """
    first: dict[str, int] = {}
    origin = [first.setdefault(each.digest, n) for n, each in enumerate(prints)]
    distinct = list(first.values())
    sets = _DisjointSets(len(distinct))
    if len(distinct) > 1:
        _join_near(sets, [prints[n] for n in distinct])
    root = {n: distinct[sets.find(place)] for place, n in enumerate(distinct)}
    members: dict[int, list[int]] = {}
    for n, source in enumerate(origin):
        members.setdefault(root[source], []).append(n)
    groups = [
        DuplicateGroup(tuple(each), exact=len({origin[n] for n in each}) == 1)
        for each in members.values()
        if len(each) > 1
    ]
    return sorted(groups, key=lambda group: group.members)


def likeness(basis: Floats, details: Floats) -> Floats:
    """Similarity of the details of pairs of images, up to a small shift or stretch.

    Multiple correlation of an image with another one, its two gradients and its stretch, the
    first-order effect of a small crop. It cannot detect negatives, but their hashes are far apart.
    It is 0 for images without details.

    Args:
        basis: `_basis` of the first images (P, K, 4).
        details: Unit-length details of the second images (P, K).

    Returns:
        Correlations (P,), 0 to 1.
    """
    shares = np.einsum("pkc,pk->pc", basis, details, optimize=True)
    return np.asarray(np.linalg.norm(shares, axis=1))


class _DisjointSets:
    """Disjoint sets of 0 to `count` - 1, initially one each."""

    def __init__(self, count: int) -> None:
        self.parent = np.arange(count)

    def find(self, item: int) -> int:
        """Smallest member of the set of an item."""
        while self.parent[item] != item:
            self.parent[item] = self.parent[self.parent[item]]
            item = int(self.parent[item])
        return item

    def join(self, first: int, second: int) -> None:
        """Merge the sets of two items."""
        one, other = sorted((self.find(first), self.find(second)))
        self.parent[other] = one


def _join_near(sets: _DisjointSets, prints: Sequence[Fingerprint]) -> None:
    details = _details(np.stack([each.thumbnail for each in prints]))
    # hashes of flat images are rounding errors, and all similar
    detailed = np.flatnonzero(_unit(_inner(details)).any(axis=1))
    if len(detailed) < 2:
        return
    words = np.stack([prints[int(n)].words for n in detailed])
    details = details[detailed]
    rows = max(1, _BLOCK // len(detailed))
    for start in range(0, len(detailed) - 1, rows):
        stop = min(start + rows, len(detailed))
        basis = _basis(details[start:stop])
        turns = symmetries(details)
        for turn in range(8):
            for one, other in _candidates(words, start, stop, turn):
                # pairs that are already in one set need no comparison
                fresh = sets.parent[detailed[one]] != sets.parent[detailed[other]]
                one, other = one[fresh], other[fresh]
                alike = likeness(basis[one - start], _unit(_inner(turns[turn][other])))
                for pair in np.flatnonzero(alike >= LIKENESS):
                    sets.join(int(detailed[one[pair]]), int(detailed[other[pair]]))


def _candidates(
    words: Words, start: int, stop: int, turn: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs of an image from `start` to `stop` and a later one with a similar hash."""
    shape = (stop - start, len(words) - start)
    bits, distance = np.empty(shape, np.uint64), np.zeros(shape, np.uint16)
    for word in range(words.shape[-1]):
        np.bitwise_xor(words[start:stop, 0, word, None], words[start:, turn, word], out=bits)
        distance += np.bitwise_count(bits)
    one, other = np.nonzero(distance <= LIMIT)
    later = one < other
    one, other = one[later] + start, other[later] + start
    for place in range(0, len(one), _CHUNK):
        yield one[place : place + _CHUNK], other[place : place + _CHUNK]


def _details(thumbnails: NDArray[np.uint8]) -> Floats:
    """Thumbnails (N, S, S) minus their blur, as light and outline are similar in all images."""
    places = np.arange(_SIDE)
    blur = np.exp(-0.5 * ((places[:, None] - places) / _SPREAD) ** 2)
    blur = (blur / blur.sum(axis=1, keepdims=True)).astype(np.float32)
    values = thumbnails.astype(np.float32)
    return np.asarray(values - blur @ values @ blur.T)


def _inner(values: Floats) -> Floats:
    """Arrays (P, S, S) as centred (P, K), without the margin of one-sided gradients."""
    inner = values[:, 1:-1, 1:-1].reshape(len(values), (_SIDE - 2) ** 2)
    return np.asarray(inner - inner.mean(axis=1, keepdims=True))


def _unit(inner: Floats) -> Floats:
    """Details (P, K) at unit length; 0 for nearly flat images."""
    length = np.linalg.norm(inner, axis=1, keepdims=True)
    return np.where(length < _FLAT * (_SIDE - 2), 0, inner / np.maximum(length, 1e-6))


def _basis(details: Floats) -> Floats:
    """Orthonormal basis (P, K, 4) of images (P, S, S), their gradients and their stretch."""
    down, right = np.asarray(np.gradient(details, axis=(1, 2)), np.float32)
    from_centre = (np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2) / _SIDE
    stretch = right * from_centre + down * from_centre[:, None]
    parts = np.stack([_inner(each) for each in (details, right, down, stretch)], axis=-1)
    return np.asarray(np.linalg.qr(parts).Q)
