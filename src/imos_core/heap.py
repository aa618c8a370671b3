"""Heap: memory that is free goes back to the system, so that long runs stay small."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def give_back() -> None:
    """Let the C library return what it keeps of freed memory; does nothing where it cannot.

    glibc keeps freed blocks for later ones, between which small ones come to lie: over thousands of
    slices, a process grows by tens of megabytes that it does not use.
    """
    _trim()()


@lru_cache(maxsize=1)
def _trim() -> Callable[[], object]:
    with suppress(AttributeError, OSError, TypeError):  # other C libraries, other systems
        trim = ctypes.CDLL(None).malloc_trim
        return lambda: trim(ctypes.c_size_t(0))
    return lambda: None
