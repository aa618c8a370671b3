"""Heap: memory that is free goes back to the system, so that long runs stay small."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Let the C library return what it keeps of freed memory; does nothing where it cannot.

    glibc keeps freed blocks for later ones, between which small ones come to lie: over thousands of
    slices, a process grows by tens of megabytes that it does not use.
    """
    with suppress(AttributeError, OSError, TypeError):  # other C libraries, other systems
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
