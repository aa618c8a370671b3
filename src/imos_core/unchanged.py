"""Whether files are still those that an interrupted run has read: by sizes and times, not bytes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from imos_core.io import files_of

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 2000
"""Files of a volume that are looked at, evenly spread over it: a second on a slow network drive."""


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
