"""Which file a path leads to, however its name is spelt."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os


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
        name = folded(place.name) if sys.platform in ("win32", "darwin") else place.name
        return (*identity(place.parent), name)
    # hard links: of several names, or of one in several folders, only that one is replaced
    folder = place.parent.stat()
    return folder.st_dev, folder.st_ino, found.st_ino, folded(place.name)


def folded(name: str) -> str:
    """Return a name as systems compare it that ignore case, and how accents are composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
