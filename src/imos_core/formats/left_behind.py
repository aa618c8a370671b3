"""What lies in a folder, but for what file managers and archivers leave where they have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LEFT_BEHIND = {".DS_Store", "Thumbs.db", "desktop.ini", ".directory"}


def names_in(folder: Path) -> set[str]:
    """Return the names of what people or programs have put into a folder."""
    names = {entry.name for entry in folder.iterdir()} - _LEFT_BEHIND
    return {name for name in names if not name.startswith("._")}


def visible(folder: Path, pattern: str) -> list[Path]:
    """Return what matches a pattern in a folder, in order, without what is hidden.

    Beside every file that a Mac copies to another system lies a hidden one of nearly its name.

    Parameters
    ----------
    folder : Path
        Where to look.
    pattern : str
        As `Path.glob` has it.
    """
    found = sorted(folder.glob(pattern))
    return [p for p in found if not any(n.startswith(".") for n in p.relative_to(folder).parts)]
