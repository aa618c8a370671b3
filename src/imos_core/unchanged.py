"""Whether files are those that a run has read: by sizes and times, or by some of their bytes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from imos_core.io import files_of

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 2000
"""Files of a volume that are looked at, evenly spread over it: a second on a slow network drive."""
_PIECES, _PIECE = 64, 4096
"""Places that are read where content counts, evenly spread, and bytes of each."""


def marks_of(image: Path, painted: Path, level: int = 0) -> dict[str, str]:
    """Tell the files of a run from others, in a moment, however large they are.

    Parameters
    ----------
    image, painted : Path
        What is read.
    level : int
        Level of resolution of the image.

    Returns
    -------
    dict of str to str
        For `imos_core.checkpoint.refuse_changed`.
    """
    return {"image": _mark(image, level), "labels": _mark(painted, 0)}


def content_mark(path: Path, level: int = 0) -> str:
    """Tell a file from others by its size and some of its bytes, wherever it lies.

    Parameters
    ----------
    path : Path
        Image or labels, as `imos_core.io.read_volume` reads them.
    level : int
        Level of resolution of an OME-Zarr.

    Returns
    -------
    str
        The same for a copy of it.

    Raises
    ------
    OSError, ImosError
        If it cannot be read.
    """
    _, files = files_of(path, level, _PIECES)
    digest = hashlib.sha256()
    each = max(_PIECES // max(len(files), 1), 1)
    for file in files:
        if not file.is_file():  # chunks of nothing but zeros are not stored
            digest.update(b"-")
            continue
        size = file.stat().st_size
        digest.update(f"{size} ".encode())
        with file.open("rb") as stream:
            for k in range(each):
                stream.seek(max(size - _PIECE, 0) * k // max(each - 1, 1))
                digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def _mark(path: Path, level: int) -> str:
    # not where it lies: folders may be moved, and be called otherwise on another machine
    digest = hashlib.sha256(os.fsencode(path.name))
    names, files = files_of(path, level, _MOST)
    digest.update(os.fsencode("\n".join(names)))
    for file in files:
        try:
            told = file.stat()
            digest.update(f"\n{told.st_size} {told.st_mtime_ns}".encode())
        except OSError:  # chunks of nothing but zeros are not stored
            digest.update(b"\n-")
    return digest.hexdigest()
