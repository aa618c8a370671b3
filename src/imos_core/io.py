"""Volumes and labels in files of several formats; results are written atomically."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.slabs import in_passing
from imos_core.errors import FileError, ImosError, PromptError
from imos_core.formats import dicom, images, nifti, omezarr, omezarr_labels, tiff
from imos_core.formats.volume import (
    SingleVolumeError,
    Spacing,
    Volume,
    ordered,
    places_held,
    unnamed,
)
from imos_core.paths import check_path
from imos_core.whole_files import swapped_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from imos_core.formats.volume import Place

__all__ = ["Spacing", "Volume", "check_output", "read_labels", "read_volume", "write_labels"]

_ROUNDED = 0.1
"""Labels are no farther from whole numbers: with steps near 1, any image would be."""
_KNOWN = ".tif, .tiff, .nii, .nii.gz, .zarr, .npy or a folder of images"


def read_volume(
    path: str | os.PathLike[str],
    level: int = 0,
    time: Place | None = None,
    *,
    series: bool = False,
) -> Volume:
    """Read a volume or video; its slices stay on disk until they are asked for, where possible.

    Parameters
    ----------
    path : str or path
        ``.tif``/``.tiff`` (plain, ImageJ, OME), ``.nii``/``.nii.gz``, ``.zarr`` (OME-Zarr),
        ``.npy``, or a folder of images.
    level : int
        Level of resolution of an OME-Zarr, 0 is the full one.
    time : int or (int, int), optional
        Time point of a file that has several: OME-Zarr, TIFF, NIfTI; of four axes without names
        (Zarr, npy), the first. A pair is one of the axes t, z, y, x, by its number, and a place
        there: ``(1, 5)`` is slice 5 through time.
    series : bool
        Keep all time points, as a first axis before three others, in place of refusing several.

    Returns
    -------
    Volume
        Array, spacing, and what a file of the same format needs to say again.

    Raises
    ------
    FileError
        If it is missing, damaged or of another type.
    """
    return _read_any(path, level, time, series=series)


def _read_any(
    path: str | os.PathLike[str],
    level: int = 0,
    time: Place | None = None,
    *,
    series: bool = False,
    labels: bool = False,
) -> Volume:
    """Do as `read_volume`; `labels`: what is read is meant to be labels."""
    file = check_path(path)
    if not file.exists():
        raise FileError(f"{file} does not exist: check the name.")
    kind = _kind(file)
    if kind is None:
        dicom.refuse(file)
        raise FileError(f"{file} is of no known type: use {_KNOWN}.")
    if level and kind != "zarr":
        raise FileError(f"{file} has no levels of resolution: choose none, or use OME-Zarr.")
    if time is not None and kind == "images":
        raise SingleVolumeError(f"{file} is a folder of slices: choose no time point.")
    try:
        volume = _read(file, kind, level, time, series, labels)
        shape = tuple(volume.array.shape)
        dtype = np.dtype(volume.array.dtype)
    except ImosError:
        raise
    except PermissionError as error:
        raise FileError(f"{file} may not be read: change its permissions.") from error
    except MemoryError as error:
        raise FileError(f"{file} does not fit into memory: save it uncompressed.") from error
    except Exception as error:  # readers raise whatever they like
        raise FileError(
            f"{file} cannot be read: it is damaged, cut short or no {_NAMES[kind]} file."
        ) from error
    if dtype.kind not in "buif" or 0 in shape:
        raise FileError(f"{file} holds no image: its type is {dtype}, its shape {shape}.")
    return volume


def read_labels(
    path: str | os.PathLike[str],
    time: Place | None = None,
    *,
    single: bool = True,
) -> Volume:
    """Read a label volume: as `read_volume`, but the values must be whole numbers.

    NIfTI tools often save labels as floats, so whole floats are accepted from there, and those that
    a scale factor has moved a little; anywhere else a float volume is more likely an image or a
    probability map.

    Parameters
    ----------
    path : str or path
        File.
    time : int or (int, int), optional
        As for `read_volume`; labels of a single volume are those of every time point.
    single : bool
        Whether they are; else a file without time points is refused where one is asked for.

    Raises
    ------
    FileError
        If it cannot be read.
    PromptError
        If its values are no labels.
    """
    try:
        volume = _read_any(path, time=time, labels=True)
    except SingleVolumeError:
        if not single:
            raise
        volume = _read_any(path, labels=True)
    return labels_in(volume, path)


def labels_in(volume: Volume, path: str | os.PathLike[str]) -> Volume:
    """Return a volume that was read from a file as labels; see `read_labels`.

    Raises
    ------
    PromptError
        If its values are no labels.
    """
    if volume.channels_last:
        raise PromptError(f"{path} holds colours: labels need one integer per voxel.")
    if volume.array.dtype.kind != "f":
        return volume
    if volume.format != "nifti":
        raise PromptError(
            f"{path} holds {volume.array.dtype} values, but labels are whole numbers: convert it "
            "to integers, for example with .astype('uint16')."
        )
    values = np.asarray(volume.array)
    if not np.isfinite(values).all() or not _whole(values, volume.extra["slope"]).all():
        raise PromptError(f"{path} holds values that are no whole numbers from 0 up: save labels.")
    values = np.rint(values)
    highest = int(values.max())
    return replace(volume, array=values.astype(np.promote_types(np.min_scalar_type(highest), "u1")))


def _whole(values: npt.NDArray[Any], slope: float | None) -> npt.NDArray[np.bool_]:
    """Where values are whole numbers from 0 up, but for what a scale factor has rounded away."""
    nearest = np.rint(values)
    # half a step, and that of the factor itself, which is a float32
    most = 0.0 if slope is None else min(slope / 2, _ROUNDED) + 1e-6 * nearest
    return np.asarray((np.abs(values - nearest) <= most) & (nearest >= 0))


def write_labels(
    path: str | os.PathLike[str], labels: npt.NDArray[Any], like: Volume | None = None
) -> None:
    """Write labels in the format of the suffix; an older file stays whole until the new one is.

    Parameters
    ----------
    path : str or path
        As for `read_volume`; a name without suffix is a folder of images.
    labels : ndarray
        `(T, H, W)`, any real dtype, which is kept; TIFF, OME-Zarr and npy hold a series of volumes
        too.
    like : Volume, optional
        Where spacing, affine and the like are carried over from.

    Raises
    ------
    FileError
        If it cannot be written; nothing has changed then.
    """
    write_all([(Path(path), labels)], like)


def write_all(
    files: Sequence[tuple[Path, npt.NDArray[Any] | Path]], like: Volume | None = None
) -> None:
    """Write several files as `write_labels` does: all of them, or none.

    Parameters
    ----------
    files : sequence of (Path, ndarray or Path)
        Where to write, and what; a path is a result that is complete and only moves there.
    like : Volume, optional
        As for `write_labels`.

    Raises
    ------
    FileError
        If one cannot be written; nothing has changed then.
    """
    with ExitStack() as stack:
        for path, array in files:
            check_output(path)
            kind = _kind_of_name(path) or "images"
            partial = stack.enter_context(swapped_in(path))
            try:
                if isinstance(array, Path):
                    shutil.move(array, partial)  # a link may lead to another disk
                else:
                    # a Zarr says inside, too, what it is called
                    named = (path.name,) if kind == "zarr" else ()
                    _WRITERS[kind](partial, array, like or Volume(array), *named)
            except (ImosError, OSError):
                raise
            except Exception as error:  # writers raise whatever they like
                raise FileError(
                    f"{path} cannot be written as {_NAMES[kind]} ({error}): choose another format."
                ) from error


def check_output(path: str | os.PathLike[str]) -> None:
    """Check, before any work is done, that a result can be written.

    Raises
    ------
    FileError
        If the format is unknown, the folder is missing, or something else would be overwritten.
    """
    path = Path(path)
    kind = _kind_of_name(path)
    if path.name == "-":
        raise FileError("Results are not written to a pipe: give the name of a file.")
    # "scan 1.2" is a name of a folder, "scan.mha" one of a file
    if kind is None and re.fullmatch(r"\.[A-Za-z]\w*", path.suffix) and not path.is_dir():
        raise FileError(f"{path} is of no known type: use {_KNOWN}.")
    if kind == "nifti":
        nifti.check_name(path)
    check_folder(path)
    if not path.exists():
        return
    if kind == "zarr":
        replaceable = path.is_dir() and omezarr_labels.is_ours_to_replace(path)
    elif kind is None:
        replaceable = path.is_dir() and images.is_ours_to_replace(path)
    else:
        replaceable = path.is_file()
    if not replaceable:
        raise FileError(
            f"{path} exists and is no earlier result, or one that somebody has added to: choose "
            "another name."
        )


def check_folder(path: Path) -> None:
    """Check that a file can be made where it is to be.

    Raises
    ------
    FileError
        If its folder is missing, or may not be written, or no file can have its name.
    """
    if check_path(path).is_symlink():
        path = path.resolve()  # what it leads to is written
    if not path.absolute().parent.is_dir():
        raise FileError(f"The folder {path.parent} does not exist: make it first.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise FileError(f"The folder {path.parent} may not be written: choose another.")


def files_of(path: Path, level: int, most: int) -> tuple[list[str], list[Path]]:
    """Return the files that a volume is read from.

    Parameters
    ----------
    path : Path
        As for `read_volume`, which has read it.
    level : int
        Level of resolution.
    most : int
        So many files; of more, those that are spread evenly.

    Returns
    -------
    names : list of str
        All slices of a folder of images.
    files : list of Path
        The files; of Zarr, chunks that are not stored, too.
    """
    kind = _kind(path)
    if kind == "zarr":
        return [], omezarr.files_of(path, level, most)
    if kind == "images":
        files = images.files_of(path)
        chosen = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).astype(int))
        return [f.name for f in files], [files[k] for k in chosen]
    return [], tiff.files_of(path) if kind == "tiff" else [path]


def is_zarr_name(path: Path) -> bool:
    """Whether a result of that name becomes an OME-Zarr."""
    return _kind_of_name(path) == "zarr"


def _kind_of_name(path: Path) -> str | None:
    name = path.name.lower()
    return next((k for suffix, k in _SUFFIXES.items() if name.endswith(suffix)), None)


def _kind(path: Path) -> str | None:
    kind = _kind_of_name(path)
    if path.is_dir():
        # a group inside an OME-Zarr, such as image.zarr/labels/cells, has no suffix
        is_zarr = kind == "zarr" or any((path / mark).is_file() for mark in omezarr.MARKS)
        return "zarr" if is_zarr else "images"
    return kind


def _read(
    file: Path, kind: str, level: int, time: Place | None, series: bool, labels: bool
) -> Volume:
    if kind == "zarr":
        return omezarr.read(file, level, time, series=series)
    if kind == "images":
        return images.read(file, labels=labels)
    if kind == "npy":
        return _read_npy(file, time)
    return (tiff.read if kind == "tiff" else nifti.read)(file, time, series=series)


def _read_npy(path: Path, time: Place | None) -> Volume:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    axes, channels_last, at = unnamed(array.shape, time, path.name)
    places = places_held(array.shape, at)
    return Volume(ordered(array, axes, at), None, channels_last, None, "npy", places=places)


def _write_npy(path: Path, labels: npt.NDArray[Any], like: Volume) -> None:
    if not isinstance(labels, np.ndarray):
        labels = np.asarray(labels)
    described = np.lib.format.header_data_from_array_1_0(labels)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {**described, "fortran_order": False})
        for plane in in_passing(labels):
            file.write(plane.tobytes())


_SUFFIXES = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".zarr": "zarr",
    ".npy": "npy",
}
_NAMES = {"tiff": "TIFF", "nifti": "NIfTI", "zarr": "Zarr", "npy": "npy", "images": "image"}
_WRITERS: dict[str, Callable[..., None]] = {
    "tiff": tiff.write,
    "nifti": nifti.write,
    "zarr": omezarr_labels.write,
    "npy": _write_npy,
    "images": images.write,
}
