"""Paths that no system can look up, refused in one sentence where they enter."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from imos_core.errors import FileError

if TYPE_CHECKING:
    import os

_SHOWN = 60
"""Characters of a name that is too long for a sentence, too."""


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that a system can look up; whether something is there, others say.

    Raises
    ------
    FileError
        If its name is too long, it is a link that leads back to itself, or it holds what no name
        can.
    TypeError
        If it is no path.
    """
    found = Path(path)
    try:
        found.stat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise FileError(
                f"The name {str(found)[:_SHOWN]}... is too long: choose a shorter one."
            ) from error
        if error.errno == errno.ELOOP:
            raise FileError(
                f"{found} is a link that leads back to itself: name a file or folder."
            ) from error
    except ValueError as error:
        raise FileError(
            f"{str(found)[:_SHOWN]!a} is no name that a file can have: correct it."
        ) from error
    return found
