"""Whether files are still those that a run has begun with: by sizes and times, not bytes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from imos_core.errors import FileError
from imos_core.io import files_of

if TYPE_CHECKING:
    from pathlib import Path

    from imos_core.files.job import FileJob

_MOST = 2000
"""Files of a volume that are looked at, evenly spread over it: a second on a slow network drive."""


class ReadFiles:
    """The files that a run reads, as they are before it reads anything of them.

    What cannot be read leaves no mark, as who reads it says why.

    Parameters
    ----------
    job : FileJob
        What is read.
    """

    def __init__(self, job: FileJob) -> None:
        self._files = {"image": (job.image, job.level), "labels": (job.painted, 0)}
        self.marks = {what: _mark(*file) for what, file in self._files.items()}
        """They tell the files from others, in a moment, however large these are: for
        `imos_core.walking.checkpoint.refuse_changed`."""

    def refuse_changed(self) -> None:
        """Refuse to go on with files that have changed since, or are gone.

        A run reads them bit by bit: its result would be of both.

        Raises
        ------
        FileError
            If a file, or one of those that it consists of, is another one now.
        """
        for what, (path, level) in self._files.items():
            mark = _mark(path, level)
            if not mark or mark != self.marks[what]:
                raise FileError(
                    f"{path} was replaced or written while it was read, so that the result may be "
                    "wrong: put back what was there, or start anew (--restart)."
                )


def _mark(path: Path, level: int) -> str:
    """Tell files from others; empty if they cannot be found."""
    # not where it lies: folders may be moved, and be called otherwise on another machine
    digest = hashlib.sha256(os.fsencode(path.name))
    try:
        names, files = files_of(path, level, _MOST)
    except Exception:  # readers raise whatever they like
        return ""
    digest.update(os.fsencode("\n".join(names)))
    for file in files:
        try:
            told = file.stat()
            digest.update(f"\n{told.st_size} {told.st_mtime_ns}".encode())
        except OSError:  # chunks of nothing but zeros are not stored
            digest.update(b"\n-")
    return digest.hexdigest()
