"""Names of hidden files beside others, which fit however long the names of these are."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST, _KEPT = 220, 40
"""Bytes of a name that is kept whole, and characters that are left of others: systems take 255
bytes, of which ours are up to 20, and a character is up to 4."""


def hidden_beside(path: Path, what: str) -> Path:
    """Return a hidden file or folder beside another: ``a.tif`` -> ``.a.tif.lock``.

    Parameters
    ----------
    path : Path
        The other one.
    what : str
        What the hidden one ends in.
    """
    return path.absolute().parent / f".{shortened(path.name)}.{what}"


def shortened(name: str) -> str:
    """Return a name that others add to: itself, or the beginning of a long one and a digest."""
    told = os.fsencode(name)
    if len(told) <= _LONGEST:
        return name
    return f"{name[:_KEPT]}-{hashlib.sha256(told).hexdigest()[:16]}"
