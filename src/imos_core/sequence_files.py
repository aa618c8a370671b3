"""Opening the archives that sequences are kept in."""

from __future__ import annotations

import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt


@contextmanager
def open_sequence(path: Path) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """Open a ``.npz`` file, whose arrays are read when they are asked for.

    Raises
    ------
    FileError
        If it is none, it is damaged, or an array that is asked for is missing.
    """
    try:
        # numpy would take anything else for a pickle, and talk of that
        if path.is_file() and not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz archive")
        with np.load(path, allow_pickle=False) as file:
            yield file
    except KeyError as error:
        raise FileError(f"{path} is no readable sequence: {error.args[0]}.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FileError(f"{path} is no readable sequence: {error}.") from error
