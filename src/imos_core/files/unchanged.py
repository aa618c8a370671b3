"""Whether files are still those that a run has begun with: by sizes and times, not bytes."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
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
        self._advice = advice
        self._files = {what: _Files(*file) for what, file in files.items()}
        self.marks = {what: found.mark() for what, found in self._files.items()}
        """They tell the files from others, in a moment, however large these are: for
        `imos_core.walking.checkpoint.refuse_changed`."""

    def refuse_changed(self) -> None:
        """Refuse to go on with files that have changed since, or are gone.

        A run reads them bit by bit: its result would be of both. Slices that have come to a folder
        since are none of them.

        Raises
        ------
        FileError
            If a file, or one of those that it consists of, is another one now.
        """
        for found in self._files.values():
            if found.have_changed():
                raise FileError(
                    f"{found.path} was replaced or written while it was read, so that the result "
                    f"may be wrong: {self._advice}."
                )


class _Files:
    """The files of a volume as they are now; none if they cannot be found."""

    def __init__(self, path: Path, level: int) -> None:
        self.path = path
        self._names: list[str] = []
        self._files: list[Path] = []
        with suppress(Exception):  # readers raise whatever they like
            self._names, self._files = files_of(path, level, _MOST)
        self._told = [_told(file) for file in self._files]

    def mark(self) -> str:
        """Tell them from others; empty if there are none."""
        if not self._files:
            return ""
        # not where it lies: folders may be moved, and be called otherwise on another machine
        told = "\n".join([self.path.name, *self._names, *self._told])
        return hashlib.sha256(os.fsencode(told)).hexdigest()

    def have_changed(self) -> bool:
        """Whether one of them is another one now, or gone."""
        if self._told != [_told(file) for file in self._files]:
            return True
        try:  # of many, not all are looked at, but all must be there
            return bool(self._names) and not set(self._names) <= set(os.listdir(self.path))
        except OSError:
            return True


def _told(file: Path) -> str:
    try:
        told = file.stat()
    except OSError:  # chunks of nothing but zeros are not stored
        return "-"
    return f"{told.st_size} {told.st_mtime_ns}"
