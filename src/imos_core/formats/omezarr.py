"""OME-Zarr 0.4 and 0.5, and plain Zarr arrays: one level of resolution, read chunk by chunk."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError, FileWarning
from imos_core.formats.units import length_unit, time_unit, to_one
from imos_core.formats.volume import (
    FileAxes,
    Volume,
    arrange,
    places_held,
    time_first,
    time_point,
    unnamed,
    usable,
    usable_interval,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Place

_SPACE = "zyx"
_KINDS = {"t": "time", "time": "time", "c": "channel", "channel": "channel", "channels": "channel"}
MARKS = ("zarr.json", ".zgroup", ".zarray")
"""Files of which one is in every Zarr folder."""
RESULT = "imos_result"
"""Attribute of results: other Zarr folders are somebody else's."""
_SPATIAL = 3


def open_zarr() -> Any:
    """Import zarr, or say how to get it."""
    try:
        import zarr
    except ImportError as error:
        raise FileError('OME-Zarr needs zarr: pip install "napari-imos[files]".') from error
    return zarr


def read(path: Path, level: int = 0, time: Place | None = None, *, series: bool = False) -> Volume:
    """Read one level and time point of a Zarr folder lazily; level 0 is the full resolution."""
    node, array, multiscale = _find(path, level)
    if multiscale is None:
        return _plain(array, path, time)
    ours, attributes = bool(node.attrs.get(RESULT, False)), ome_of(node)
    dataset = multiscale["datasets"][level]
    axes: list[dict[str, Any]] = [
        a if isinstance(a, dict) else {"name": a}
        for a in multiscale.get("axes") or _old_axes(array.ndim)
    ]
    names = _letters(axes)
    at = time_point(names, array.shape, time, path.name)
    stored, channels_last = arrange(names, array.shape, path.name, at, series=series)
    order = time_first(_in_order(stored, axes), names)
    spatial = order[: len(order) - channels_last][-_SPATIAL:]  # time goes before them
    scale, offset = _scale_and_offset(dataset, multiscale, array.ndim)
    told = any("coordinateTransformations" in part for part in (dataset, multiscale))
    # a film's first axis is time, which is no length
    units = [None if names[a] == "t" else length_unit(axes[a].get("unit")) for a in spatial]
    unit, factors = to_one(units)
    for a, own, factor in zip(spatial, units, factors, strict=True):
        scale[a], offset[a] = scale[a] * factor, offset[a] * factor
        if own is not None:
            axes[a] = {**axes[a], "unit": unit or own}
    spacing = usable([scale[a] for a in spatial]) if told and len(spatial) == 3 else None
    if told and not (_positive(scale[list(spatial)]) and np.isfinite(offset[list(spatial)]).all()):
        spacing, offset = None, np.zeros(array.ndim)
        warnings.warn(
            FileWarning(
                f"{path.name} says where its voxels lie in numbers that cannot be: their size is "
                "taken as unknown; correct the scale in its metadata, or give the spacing."
            ),
            stacklevel=2,
        )
    extra: dict[str, Any] = {
        "zarr_format": node.metadata.zarr_format,
        "translation": [float(offset[a]) for a in spatial],
        "axes": [axes[a] for a in spatial],
        "turned": order != stored,
    }
    for a in at:
        # a series of results has this axis again
        place = time[0] if isinstance(time, tuple) else 0
        extra["held"] = (place, axes[a], float(scale[a]), float(offset[a]))
    view = FileAxes(array, order, path.name, at)
    interval = None
    if told and "t" in names:
        t = names.index("t")
        interval = usable_interval(scale[t], time_unit(axes[t].get("unit")))
    film = names[spatial[0]] == "t"
    return Volume(
        view,
        spacing,
        channels_last,
        unit,
        "zarr",
        extra,
        film,
        interval,
        names="".join(names[a] for a in order),
        levels=len(multiscale["datasets"]),
        # the multiscales of our results point to labels, but they are those of the folder
        labels="image-label" in attributes or (ours and array.dtype.kind in "bui"),
        places=places_held(array.shape, at),
    )


def _scale_and_offset(
    dataset: Mapping[str, Any], multiscale: Mapping[str, Any], axes: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Size of a voxel and place of the first one along every axis; NaN of too many or too few."""
    scale, offset = np.ones(axes), np.zeros(axes)
    with np.errstate(invalid="ignore", over="ignore"):
        for step in (
            *dataset.get("coordinateTransformations", ()),
            *multiscale.get("coordinateTransformations", ()),
        ):
            if step["type"] not in ("scale", "translation"):
                continue
            numbers = np.asarray(step[step["type"]], float)
            if numbers.shape != (axes,):
                numbers = np.full(axes, np.nan)
            if step["type"] == "scale":
                scale, offset = scale * numbers, offset * numbers
            else:
                offset = offset + numbers
    return scale, offset


def _positive(sizes: npt.NDArray[Any]) -> bool:
    return bool(np.isfinite(sizes).all() and (sizes > 0).all())


def files_of(path: Path, level: int, most: int) -> list[Path]:
    """Return what a level is stored in: what describes it, and so many of its chunks, or shards.

    They are spread evenly over the array; some may not be there, as zeros are not stored.
    """
    _, array, _ = _find(path, level)
    inside = path / array.path
    grid = [-(-n // c) for n, c in zip(array.shape, array.shards or array.chunks, strict=True)]
    count = math.prod(grid)
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
    chunks = zip(*(p.tolist() for p in np.unravel_index(chosen, grid)), strict=True)
    told = [inside / mark for mark in MARKS]
    return told + [inside / array.metadata.encode_chunk_key(place) for place in chunks]


def _find(path: Path, level: int) -> tuple[Any, Any, Any]:
    """Find a level in a Zarr folder: its image, its array, and what is told of it, if anything."""
    node, array, multiscale = _look_up(path, level)
    if 0 in (*array.chunks, *(array.shards or ())):
        raise FileError(f"{path} is damaged: it has chunks of no size; copy it again.")
    return node, array, multiscale


def _look_up(path: Path, level: int) -> tuple[Any, Any, Any]:
    zarr = open_zarr()
    if not path.is_dir() or not any((path / mark).is_file() for mark in MARKS):
        raise FileError(f"{path} is no Zarr folder: it lacks zarr.json, .zgroup and .zarray.")
    node: Any = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        _check_level(path, level, 1)
        return node, node, None
    attributes = ome_of(node)
    if "multiscales" not in attributes and "0" in node and isinstance(node["0"], zarr.Group):
        node = node["0"]  # what bioformats2raw writes: one group per image
        attributes = ome_of(node)
    if "multiscales" not in attributes:
        arrays = [a for _, a in node.arrays()]
        if len(arrays) == 1:
            _check_level(path, level, 1)
            return node, arrays[0], None
        raise FileError(
            f"{path} is no OME-Zarr image: give the folder that has the multiscales metadata."
        )
    multiscale = attributes["multiscales"][0]
    _check_level(path, level, len(multiscale["datasets"]))
    return node, node[multiscale["datasets"][level]["path"]], multiscale


def _check_level(path: Path, level: int, levels: int) -> None:
    if not 0 <= level < levels:
        there = "only level 0" if levels == 1 else f"levels 0 to {levels - 1}"
        raise FileError(f"{path} has {there}, so there is no level {level}: choose another.")


def _in_order(stored: tuple[int, ...], axes: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Bring axes that are called z, y and x into this order; what goes before them stays so."""
    called = [str(axes[a].get("name")).lower() for a in stored]
    if sum(name in _SPACE for name in called) < 2:
        return stored
    spatial = [a for a, name in zip(stored, called, strict=True) if name in _SPACE]
    spatial.sort(key=lambda a: _SPACE.index(str(axes[a]["name"]).lower()))
    turned = iter(spatial)
    return tuple(
        next(turned) if name in _SPACE else a for a, name in zip(stored, called, strict=True)
    )


def _letters(axes: Sequence[Mapping[str, Any]]) -> str:
    """One letter per axis: t, c, z, y or x, or n for what is none of them.

    The type decides. Axes of space may have any name; those that are not called z, y and x are
    the ones of these that are missing, in this order.
    """
    letters = []
    for axis in axes:
        name, kind = str(axis.get("name", "")).lower(), str(axis.get("type") or "").lower()
        if not kind:
            # before OME-Zarr 0.4 there was no type
            kind = _KINDS.get(name, "space")
        own = name if name in _SPACE else "?"
        letters.append({"time": "t", "channel": "c", "space": own}.get(kind, "n"))
    missing = [n for n in _SPACE if n not in letters]
    nameless = [i for i, letter in enumerate(letters) if letter == "?"]
    # what is left once all three of space are there was called space by mistake
    for i in nameless[: max(len(nameless) - len(missing), 0)]:
        meant = _KINDS.get(str(axes[i].get("name")).lower(), "")
        letters[i] = {"time": "t", "channel": "c"}.get(meant, "n")
    rest = [i for i in nameless if letters[i] == "?"]
    for i, letter in zip(rest, missing[len(missing) - len(rest) :], strict=True):
        letters[i] = letter
    return "".join(letters)


def _plain(array: Any, path: Path, time: Place | None) -> Volume:
    axes, channels_last, at = unnamed(array.shape, time, path.name)
    view = FileAxes(array, axes, path.name, at)
    extra = {"zarr_format": array.metadata.zarr_format}
    places = places_held(array.shape, at)
    return Volume(view, None, channels_last, None, "zarr", extra, places=places)


def ome_of(group: Any) -> Mapping[str, Any]:
    """What OME-Zarr says in the attributes of a group, in either version."""
    attributes = dict(group.attrs)
    ome: Mapping[str, Any] = attributes.get("ome", attributes)
    return ome


def _old_axes(ndim: int) -> list[str]:
    """Axes before OME-Zarr 0.3, which had no names for them."""
    return list("tczyx"[-ndim:])
