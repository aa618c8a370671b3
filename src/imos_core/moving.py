"""Moves and removals that wait while somebody else looks at a file, as Windows refuses them."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TRIES = 40 if sys.platform == "win32" else 1
"""Virus scanners and indexers hold what is new for some tenths of a second."""
_PAUSE = 0.05


def patiently(act: Callable[..., Any], *paths: Path) -> None:
    """Do something with files, such as `os.replace`; on Windows again, for up to two seconds.

    Raises
    ------
    OSError
        If the system still refuses it.
    """
    for _ in range(_TRIES - 1):
        try:
            act(*paths)
        except PermissionError:
            time.sleep(_PAUSE)
        else:
            return
    act(*paths)


def remove_folder(folder: Path) -> None:
    """Remove a folder, and of what is held for longer all that can be."""
    with suppress(OSError):
        patiently(shutil.rmtree, folder)
    shutil.rmtree(folder, ignore_errors=True)
