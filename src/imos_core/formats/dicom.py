"""DICOM is recognised, not read: whoever has a series is told how to get on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

_PREAMBLE = 128  # bytes before the mark


def refuse(path: Path) -> None:
    """Say how a DICOM file, or a folder that starts with one, can be used; others pass.

    Raises
    ------
    FileError
        If it is one.
    """
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
    if files and _is_dicom(files[0]):
        raise FileError(
            f"{path} is DICOM, which is not read: convert the series to NIfTI, for example with "
            "dcm2niix."
        )


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(_PREAMBLE)
            return file.read(4) == b"DICM"
    except OSError:
        return False
