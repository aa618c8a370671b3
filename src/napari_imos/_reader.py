"""Reader: NIfTI and OME-Zarr files as layers, Labels where they hold labels."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._units import is_length

if TYPE_CHECKING:
    from collections.abc import Callable

    from imos_core.formats.volume import Volume

    LayerData = tuple[Any, dict[str, Any], str]

CHANNEL = "imos_channel"
"""Key of a layer's metadata: which channel of its file it is."""

DIRECTIONS = "imos_directions"
"""Key of a layer's metadata: how its last axes point in the patient, as unit vectors; the layer's
world goes along them."""

_SUFFIX = re.compile(r"(\.nii|\.nii\.gz|\.ome\.zarr|\.zarr)$", re.IGNORECASE)
_IN_MEMORY = 2**30
"""Labels up to this many bytes are loaded, so that they can be painted and undone at once."""
_COLOURS = (3, 4)


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return what reads a file, or None if it is for other readers.

    Parameters
    ----------
    path : str or list of str
        ``.nii``, ``.nii.gz``, ``.zarr``, or a folder within a ``.zarr``. Several files as one stack
        are for others.
    """
    if isinstance(path, list):
        if len(path) != 1:
            return None
        path = path[0]
    file = Path(path)
    if "://" in str(path) or not (_SUFFIX.search(file.name) or _is_zarr(file)):
        return None
    return lambda _: read(file)


def read(path: str | os.PathLike[str]) -> list[LayerData]:
    """Read a file as layers.

    Parameters
    ----------
    path : str or path
        File.

    Returns
    -------
    list of (data, keywords, type)
        Labels if the file says that it holds some, or if a session lies beside it; else an image,
        whose channels napari makes layers of.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    from imos_core.errors import PromptError
    from imos_core.files.sidecar import has_sidecar
    from imos_core.io import labels_in, read_volume

    path = Path(path)
    volume = read_volume(path, series=True)
    keywords = {"name": _SUFFIX.sub("", path.name), **_place(volume)}
    if volume.labels or has_sidecar(path):
        try:
            labels = labels_in(volume, path)
        except PromptError:
            pass  # colours or real numbers, such as a map of how sure a model is
        else:
            return [(_labels(labels.array), {**keywords, **_saved_place(path, labels)}, "labels")]
    return [_image(path, volume, keywords)]


def _is_zarr(path: Path) -> bool:
    from imos_core.formats.omezarr import MARKS

    # unlike Path.is_file, it raises nothing about folders that nobody may look into
    return any(os.path.isfile(path / mark) for mark in MARKS)


def _image(path: Path, volume: Volume, keywords: dict[str, Any]) -> LayerData:
    from imos_core.io import read_volume
    from napari_imos._brightness import contrast_limits

    levels = [volume.array]
    for level in range(1, volume.levels):
        smaller = read_volume(path, level, series=True).array
        if smaller.ndim == volume.array.ndim:  # else it has become so small that it lacks an axis
            levels.append(smaller)
    arrays = [_lazy(array) for array in levels]
    keywords["multiscale"] = len(arrays) > 1
    count = volume.array.shape[-1]
    # OME-Zarr says what its channels are; pixels of three or four values elsewhere are colours
    colours = count in _COLOURS and not (volume.format == "zarr" and volume.names)
    if volume.channels_last and not colours:
        keywords["channel_axis"] = volume.array.ndim - 1
        keywords["name"] = [f"{keywords['name']} {c}" for c in range(count)]
        known = keywords.get("metadata", {})
        keywords["metadata"] = [{**known, CHANNEL: c} for c in range(count)]
    else:
        keywords["rgb"] = volume.channels_last  # napari may guess so of images three pixels wide
    dtype = np.dtype(volume.array.dtype)
    # those of what is in memory, and of bytes, napari finds itself
    if not (isinstance(levels[-1], np.ndarray) or dtype in ("u1", "?") or keywords.get("rgb")):
        limits = contrast_limits(levels[-1], channels_last=volume.channels_last)
        keywords["contrast_limits"] = limits if volume.channels_last else limits[0]
    return arrays if len(arrays) > 1 else arrays[0], keywords, "image"


def _labels(array: Any) -> Any:
    """Labels as they can be painted: in memory unless they are too large for that."""
    dtype = np.dtype(array.dtype)
    if int(np.prod(array.shape, dtype=object)) * dtype.itemsize > _IN_MEMORY:
        return _lazy(array)
    return np.array(array, dtype.newbyteorder("="), order="C")


def _lazy(array: Any) -> Any:
    """Pixels that stay on disk until napari shows them."""
    if isinstance(array, np.ndarray):
        return array
    import dask.array as da

    chunks = array.chunks or (1,) * (array.ndim - 2) + array.shape[-2:]
    return da.from_array(array, chunks, name=False, fancy=False)


def _place(volume: Volume) -> dict[str, Any]:
    """Keywords that say where a volume lies, as far as its file does.

    Time counts in steps, whatever they last: results say nothing of it, and have to lie where their
    image does.
    """
    spatial = volume.array.ndim - volume.channels_last
    keywords: dict[str, Any] = {}
    names = volume.names[:spatial].lower()
    if names and len(set(names)) == spatial:
        keywords["axis_labels"] = tuple(names)
    if volume.spacing is None:
        return keywords
    before = max(spatial - len(volume.spacing), int(volume.film))
    lengths = spatial - before
    keywords["scale"] = (1.0,) * before + volume.spacing[-lengths:]
    if any(moved := tuple(volume.extra.get("translation", ()))[-lengths:]):
        keywords["translate"] = (0.0,) * before + moved
    if directions := volume.extra.get("directions"):
        keywords["metadata"] = {DIRECTIONS: directions}
    if volume.unit is not None and is_length(volume.unit):
        keywords["units"] = tuple(volume.unit if n in "xyz" else "pixel" for n in names)
    return keywords


def _saved_place(path: Path, labels: Volume) -> dict[str, Any]:
    """Keywords that say where labels lay when their session was saved, of which files say less."""
    from imos_core.errors import FileError
    from imos_core.files.sidecar import read_sidecar
    from napari_imos._placed import saved_place

    try:
        record = read_sidecar(path)
    except FileError:
        return {}  # there is none; of one that is damaged, the widget tells
    if record.get("shape") != list(labels.array.shape):
        return {}
    place = saved_place(record)
    if "directions" in labels.extra:
        # the file knows better, and may have been written anew since
        return {name: place[name] for name in ("axis_labels",) if name in place}
    return place
