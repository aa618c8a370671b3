"""Files of data sets as people keep them: any letter case, packed or not, in a folder too deep."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

_GZIP = b"\x1f\x8b"


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and its folders, in order; none that is hidden or left by an archiver.

    Raises
    ------
    FileError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder: give the one that the data set was unpacked into.")
    entered: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in entered:  # a link to a folder further up
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(n for n in folders if not _is_junk(n))
        for name in sorted(names):
            if not _is_junk(name):
                yield Path(root) / name


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def read_nifti(
    path: Path,
) -> tuple[npt.NDArray[Any], tuple[float, ...], npt.NDArray[np.float64]]:
    """Read a NIfTI file whether it is packed or not, whatever its name says.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    data : ndarray
        With the axes of the file; those of length one beyond the third are dropped.
    zooms : tuple of float
        Size of a voxel along them.
    affine : ndarray
        `(4, 4)`, from indices to millimetres.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    try:
        import nibabel
    except ImportError as error:
        raise FileError('NIfTI files need nibabel: pip install "napari-imos[files]".') from error
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        if packed == path.name.lower().endswith(".gz"):
            image: Any = nibabel.load(path)
        else:  # unpacked on download, or renamed
            content = path.read_bytes()
            image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content) if packed else content)
        data = np.asanyarray(image.dataobj)
        zooms = tuple(float(z) for z in image.header.get_zooms())
        affine = np.asarray(image.affine, np.float64)
    except Exception as error:  # nibabel raises whatever it likes
        raise FileError(
            f"{path} cannot be read: it is damaged, cut short or no NIfTI file."
        ) from error
    kept = [a for a, n in enumerate(data.shape) if a < 2 or n > 1]
    if len(kept) < len(data.shape):
        data = data.reshape([data.shape[a] for a in kept])
        zooms = tuple(zooms[a] for a in kept if a < len(zooms))
    if data.dtype.kind not in "biuf" or data.ndim not in (2, 3) or 0 in data.shape:
        raise FileError(
            f"{path} holds no volume: its shape is {data.shape}, its type {data.dtype}."
        )
    return data, zooms, affine


def whole_numbers(values: npt.NDArray[Any], path: Path) -> npt.NDArray[np.integer]:
    """Labels as integers; tools often save them as floats.

    Raises
    ------
    FileError
        If they are no whole numbers.
    """
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind in "iu":
        return values
    if not np.isfinite(values).all() or (values != np.trunc(values)).any():
        raise FileError(f"{path} holds values that are no whole numbers: it is no label file.")
    return values.astype(np.int32)


def usable_size(size: float) -> float:
    """Size of a voxel, or 1 where the file states nonsense."""
    return float(size) if np.isfinite(size) and size > 0 else 1.0
