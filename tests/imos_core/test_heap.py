"""Freed memory between blocks that are kept goes back to the system."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from imos_core import heap
from imos_core.walking.budget import resident_bytes


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps what is freed")
def test_free_memory_goes_back():
    block = 10**5
    blocks = [np.ones(block, np.uint8) for _ in range(3000)]
    kept = blocks[::10]
    del blocks
    before = resident_bytes()
    heap.give_back()
    assert resident_bytes() < before - 2000 * block
    assert all(b.all() for b in kept)


def test_where_the_library_cannot_nothing_happens(monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    heap.give_back()
