"""Reading the archives that sequences are kept in."""

from __future__ import annotations

import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt


_MOST_CHANNELS = 4


class SequenceArrays(NamedTuple):
    """What every sequence has, checked."""

    image: npt.NDArray[Any]
    """`(T, H, W)`, or with one to four channels on top."""
    labels: npt.NDArray[np.integer]
    """`(T, H, W)`, 0 is background, nothing below."""
    spacing: tuple[float, float, float]
    """Size of a voxel, slice axis first; 1 each where the file does not say it."""


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


def sequence_arrays(file: Mapping[str, npt.NDArray[Any]]) -> SequenceArrays:
    """Read image, labels and spacing of a file that `open_sequence` has opened.

    Labels below 0 are background, and whole numbers may be floats.

    Parameters
    ----------
    file : mapping of str to ndarray
        The open file.

    Raises
    ------
    ValueError
        If they cannot be those of a sequence, for `open_sequence` to say of which.
    """
    image, labels = file["image"], file["labels"]
    if labels.ndim != 3 or labels.shape != image.shape[:3]:
        raise ValueError(
            f"its labels are {labels.shape}, but its image {image.shape}: both must show the same "
            "slices, (slices, height, width)"
        )
    if image.ndim > 4 or (image.ndim == 4 and not 1 <= image.shape[3] <= _MOST_CHANNELS):
        raise ValueError(
            f"its image is {image.shape}: the last axis of four must hold 1 to {_MOST_CHANNELS} "
            "channels"
        )
    if not labels.size:
        raise ValueError(f"its labels are {labels.shape}, which is nothing: save some slices")
    if image.dtype.kind not in "biuf":
        raise ValueError(f"its image holds {image.dtype}: save real numbers")
    return SequenceArrays(image, _whole(labels), _spacing(file.get("spacing", np.ones(3))))


def _whole(labels: npt.NDArray[Any]) -> npt.NDArray[np.integer]:
    """Labels as integers from 0 on."""
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    if labels.dtype.kind not in "iuf":
        raise ValueError(f"its labels hold {labels.dtype}: save whole numbers")
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.trunc(labels)).all()):
            raise ValueError("its labels hold fractions or no numbers: save whole numbers")
        labels = labels.clip(0, 2**62).astype(np.int64)
    return np.maximum(labels, 0) if labels.min() < 0 else labels


def _spacing(given: npt.NDArray[Any]) -> tuple[float, float, float]:
    sizes = given.astype(float) if given.shape == (3,) and given.dtype.kind in "iuf" else given
    if sizes.dtype.kind != "f" or sizes.shape != (3,) or not ((sizes > 0) & (sizes < np.inf)).all():
        raise ValueError(
            f"its spacing is {given.tolist()}: it must be three sizes above 0, slice axis first"
        )
    z, y, x = sizes.tolist()
    return z, y, x
