"""Sidecar: the JSON beside saved labels, which says what every slice is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from imos_core.errors import FileError

SUFFIX = ".imos.json"
FORMAT = "napari-imos session"
"""What the record says of itself."""
DAMAGED = (
    KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading a record raises that is not as it was written."""


def sidecar_of(path: str | os.PathLike[str]) -> Path:
    """Return where the sidecar of a labels file is: ``labels.tif`` -> ``labels.tif.imos.json``."""
    path = Path(path)
    return path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)


def has_sidecar(path: str | os.PathLike[str]) -> bool:
    """Whether a labels file has one beside it."""
    return os.path.isfile(sidecar_of(path))  # `Path.is_file` raises of names that are too long


def labels_of(path: str | os.PathLike[str]) -> Path:
    """Return the labels file of a sidecar."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(SUFFIX))


def read_sidecar(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a sidecar.

    Parameters
    ----------
    path : str or path
        The sidecar, or the labels file beside it.

    Returns
    -------
    dict
        ``labels`` (file name), ``shape``, ``scale``, ``axis_labels``, ``images``
        (`imos_core.files.image_marks`), and ``walks``: for every walked axis what each slice is,
        and ``runs``, the facts of the propagations.

    Raises
    ------
    FileError
        If it is missing or something else.
    """
    file = sidecar_of(path)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(
            f"{path} has no record {file.name} beside it: choose a file that napari-imos has saved."
        ) from error
    except OSError as error:
        raise FileError(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{file} is damaged: {error}.") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise FileError(
            f"{file} is no session of napari-imos: choose a file that ends in {SUFFIX}."
        )
    return record
