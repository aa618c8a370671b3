"""DICOM is recognised, not read: whoever has a series is told how to get on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

_LEAST = 132  # bytes: a preamble of 128, then the mark


def refuse(path: Path) -> None:
    """Say how a DICOM file, or a folder that starts with one, can be used; others pass.

    Raises
    ------
    FileError
        If it is one.
    """
    first = path
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
        if not files:
            return
        first = files[0]
    try:
        with first.open("rb") as file:
            start = file.read(_LEAST)
    except OSError:
        return
    if start[-4:] == b"DICM" and len(start) == _LEAST:
        raise FileError(
            f"{path} is DICOM, which is not read: convert the series to NIfTI, for example with "
            "dcm2niix."
        )
