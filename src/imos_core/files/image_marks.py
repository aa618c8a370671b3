"""Which images labels were made from: files are known again by some of their bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imos_core.errors import ImosError
from imos_core.files.sidecar import read_sidecar
from imos_core.io import files_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from imos_core.files.propagate import FileJob

_PIECES, _PIECE = 64, 4096
"""Places that are read, evenly spread, and bytes of each."""


def content_mark(path: Path) -> str:
    """Tell a file from others by its size and some of its bytes, wherever it lies.

    Parameters
    ----------
    path : Path
        Image or labels, as `imos_core.io.read_volume` reads them.

    Returns
    -------
    str
        The same for a copy of it.

    Raises
    ------
    OSError, ImosError
        If it cannot be read.
    """
    _, files = files_of(path, 0, _PIECES)
    digest = hashlib.sha256()
    each = max(_PIECES // max(len(files), 1), 1)
    for file in files:
        if path.is_dir() and not file.is_file():  # chunks of nothing but zeros are not stored
            digest.update(b"-")
            continue
        size = file.stat().st_size
        digest.update(f"{size} ".encode())
        with file.open("rb") as stream:
            for k in range(each):
                stream.seek(max(size - _PIECE, 0) * k // max(each - 1, 1))
                digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def image_marks(walks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Tell the images of all runs from others, by their content; without those that are gone.

    Parameters
    ----------
    walks : sequence of mapping
        As in a record (`imos_core.files.sidecar`), of which only ``runs`` count.

    Returns
    -------
    dict of str to str
        Path -> `content_mark`.
    """
    paths = {str(run.get("image_path") or "") for walk in walks for run in walk["runs"]} - {""}
    marks = {}
    for path in sorted(paths):
        try:
            marks[path] = content_mark(Path(path))
        except (OSError, ValueError, ImosError):
            continue
    return marks


def image_differs(path: str | os.PathLike[str], job: FileJob) -> bool:
    """Whether a job's image is none of those that the labels were made from; False if unknown.

    Parameters
    ----------
    path : str or path
        The sidecar.
    job : FileJob
        As from `imos_core.files.saved_jobs.job_from`.
    """
    known = read_sidecar(path).get("images")
    if not isinstance(known, dict) or not known:
        return False
    # where it is as before, it has to be that one
    mine = known.get(str(job.image))
    return content_mark(job.image) not in ([mine] if mine else list(known.values()))
