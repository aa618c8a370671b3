"""Whether files are still those that a run has begun with: by sizes and times, not bytes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from imos_core.errors import FileError
from imos_core.io import files_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MOST = 2000
"""Files of a volume that are looked at, evenly spread over it: a second on a slow network drive."""


class ReadFiles:
    """The files that a run reads, as they are before it reads anything of them.

    What cannot be read leaves no mark, as who reads it says why.

    Parameters
    ----------
    files : mapping of str to (Path, int)
        What is read: what it is to the run -> the path, and the level of resolution.
    advice : str
        What to do once they have changed.
    """

    def __init__(
        self,
        files: Mapping[str, tuple[Path, int]],
        advice: str = "put back what was there, or start anew (--restart)",
    ) -> None:
        self._files, self._advice = files, advice
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
            if _mark(path, level) != self.marks[what]:
                raise FileError(
                    f"{path} was replaced or written while it was read, so that the result may be "
                    f"wrong: {self._advice}."
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
