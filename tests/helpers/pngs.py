"""PNG files written byte by byte."""

from __future__ import annotations

import struct
import zlib


def png(
    width: int, height: int, rows: bytes, bits: int = 8, colour_type: int = 0, before: bytes = b""
) -> bytes:
    """A PNG byte by byte, with chunks of text before its pixels."""
    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + size + before + data + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
