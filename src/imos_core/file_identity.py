"""Which file a path leads to, however its name is spelt."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


def identity(path: str | os.PathLike[str]) -> tuple[object, ...]:
    """Return what tells a file or folder from others; it need not be there yet.

    Most systems but Linux ignore whether letters are capital, so that ``Labels.tif`` and
    ``labels.tif`` may be one file.

    Parameters
    ----------
    path : str or path
        File or folder.
    """
    place = Path(path).resolve()
    try:
        found = place.stat()
    except OSError:
        if place.parent == place:
            return (str(place),)
        return (*identity(place.parent), os.path.normcase(place.name))
    # a second, other name of the same file (a hard link) is replaced alone
    return found.st_dev, found.st_ino, folded(place.name)


def folded(name: str) -> str:
    """Return a name as systems compare it that ignore case, and how accents are composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
