"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next tensor; false if that is not possible.

    Training on a CPU frees and allocates the same large blocks in every step; clearing their pages
    each time costs a tenth of a step at 32x32, and more above. Call it before blocks are in use.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_MMAP_THRESHOLD: 2**31 - 1, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26}
    taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)
