"""OME-Zarr results: labels in their `labels` group, written slab by slab, and the pyramid."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.formats.left_behind import names_in
from imos_core.formats.omezarr import RESULT, ome_of, open_zarr

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Volume

THICKNESS = 16
"""Slices of a chunk along the axis that is walked."""
_SIDE = 256
"""Pixels of a chunk along the other axes."""
_GROUP_FILES = {"zarr.json", ".zgroup", ".zattrs"}
_ARRAY_FILES = {"zarr.json", ".zarray", ".zattrs", "c"}
"""What an array's folder holds beside numbers, which are the chunks of Zarr 2."""
_SPATIAL = 3
_SMALL = 256
"""Voxels along each axis at which the pyramid ends."""


def write(path: Path, labels: npt.NDArray[Any], like: Volume, name: str) -> None:
    """Write an array that is in memory: labels as labels, floats as an image; see `create`."""
    array = create(path, labels.shape, labels.dtype, like, name)
    step = array.chunks[0]
    for start in range(0, labels.shape[0], step):
        array[start : start + step] = labels[start : start + step]
    finish(path)


def create(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    like: Volume,
    name: str,
    *,
    axis: int = 0,
    thickness: int = THICKNESS,
) -> Any:
    """Make an OME-Zarr folder and return its full-resolution array, full of zeros.

    Whole numbers go to ``labels/<name>``, as NGFF has it; the multiscales of the folder itself
    point there too, so that programs that look for an image find one.

    Parameters
    ----------
    path : Path
        Folder to make.
    shape : tuple of int
        `(Z, Y, X)`, or `(T, Z, Y, X)` of a series.
    dtype : dtype
        Type of the values, which is kept.
    like : Volume
        Where spacing, unit, offset and the version of the format come from.
    name : str
        What the folder will be called, without suffixes also the name of the labels.
    axis : int
        Axis of a volume along which it will be written; chunks are thin there.
    thickness : int
        Slices of a chunk along that axis.
    """
    zarr = open_zarr()
    extra = like.extra if like.format == "zarr" else {}
    version = extra.get("zarr_format", 3)
    axes, scale, offset = _places(like, series=len(shape) > _SPATIAL)
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(offset):
        steps.append({"type": "translation", "translation": offset})
    name = name.split(".")[0] or "labels"
    root = zarr.open_group(str(path), mode="w", zarr_format=version)
    root.attrs[RESULT] = True
    level = {"path": "0", "coordinateTransformations": steps}
    if np.dtype(dtype).kind in "bui":
        node = root.create_group(f"labels/{name}")
        _describe(root["labels"], {"labels": [name]})
        _describe(node, _metadata(name, axes, [level], version, source="../../"))
    else:
        node = root
    inside = "" if node is root else f"labels/{name}/"
    _describe(root, _metadata(name, axes, [{**level, "path": f"{inside}0"}], version))
    # NumPy has two types of eight bytes that are equal, of which Zarr knows the usual one
    return _array(node, 0, shape, np.dtype(np.dtype(dtype).str), axes, axis, thickness)


def _places(like: Volume, *, series: bool) -> tuple[list[dict[str, Any]], list[float], list[float]]:
    """Axes, their scale and where they begin; of a series of volumes, one more."""
    extra = like.extra if like.format == "zarr" else {}
    step, clock = like.interval or (1.0, None)
    time = {"name": "t", "type": "time", **({"unit": clock} if clock else {})}
    unit = {"unit": like.unit} if like.unit else {}
    axes = [{"name": n, "type": "space", **unit} for n in "zyx"]
    scale = [float(s) for s in like.spacing or (1.0,) * _SPATIAL]
    if "axes" in extra:
        axes = list(extra["axes"])
    if like.spacing is None:  # voxels of 1 are of no unit
        axes = [{k: v for k, v in a.items() if k != "unit"} for a in axes]
    if like.film and axes[0].get("type") != "time":
        axes[0], scale[0] = time, step
    elif like.film and like.interval:
        # a spacing from elsewhere counts frames, or says how thick they are
        scale[0] = step
    offset = [float(o) for o in like.extra.get("translation") or (0.0,) * _SPATIAL]
    if series:
        place, axis, size, begin = extra.get("held") or (0, time, step, 0.0)
        axes.insert(place, axis)
        scale.insert(place, size)
        offset.insert(place, begin)
    return axes, scale, offset


def is_ours_to_replace(path: Path) -> bool:
    """Whether a Zarr folder is an earlier result to which nobody has added anything."""
    try:
        # it may be an array, and each version has another error for a group that is none
        root = open_zarr().open(str(path), mode="r")
        if not root.attrs.get(RESULT, False):
            return False
        levels = [d["path"].split("/") for d in ome_of(root)["multiscales"][0]["datasets"]]
        # each folder of a result holds the next part of such a path, and its own metadata
        for depth in range(len(levels[0])):
            for parents in {tuple(level[:depth]) for level in levels}:
                ours = {level[depth] for level in levels if tuple(level[:depth]) == parents}
                if not names_in(path.joinpath(*parents)) <= ours | _GROUP_FILES:
                    return False
        return all(_holds_chunks_alone(path.joinpath(*level)) for level in levels)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def level_zero(path: Path) -> Any:
    """Return the full-resolution array of a folder made by `create`, for writing."""
    root = open_zarr().open_group(str(path), mode="r+")
    return root[ome_of(root)["multiscales"][0]["datasets"][0]["path"]]


def finish(path: Path) -> None:
    """Add the smaller levels of the pyramid; every label of a level is one of the level above."""
    for leftover in path.rglob("*.partial"):
        leftover.unlink()  # a chunk whose writing was cut off; its older version is in place
    root = open_zarr().open_group(str(path), mode="r+")
    multiscale = ome_of(root)["multiscales"][0]
    first = multiscale["datasets"][0]
    inside = first["path"][: -len("0")]
    node = root[inside.rstrip("/")] if inside else root
    array, axes = node["0"], multiscale["axes"]
    chunks = array.chunks[-_SPATIAL:]
    walked = int(np.argmin(chunks)) if min(chunks) < _SIDE else 0
    steps = first["coordinateTransformations"]
    levels = [{"path": "0", "coordinateTransformations": steps}]
    scale = np.array(steps[0]["scale"], dtype=float)
    while max(array.shape[-_SPATIAL:]) > _SMALL:
        # coarse axes wait until the others are as coarse
        large = np.array(array.shape[-_SPATIAL:]) > _SMALL // 2
        halved = large & (scale[-_SPATIAL:] < 1.5 * scale[-_SPATIAL:].min())
        if not halved.any():
            halved = large
        factors = np.ones(array.ndim, int)
        factors[-_SPATIAL:][halved] = 2
        number = len(levels)
        shutil.rmtree(_folder(path, inside, number), ignore_errors=True)
        shape = tuple(int(-(-n // f)) for n, f in zip(array.shape, factors, strict=True))
        smaller = _array(node, number, shape, array.dtype, axes, walked, chunks[walked])
        _subsample(array, smaller, factors, walked)
        scale = scale * factors
        # every second voxel is kept, so the first one stays where it was
        levels.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale.tolist()},
                    *steps[1:],
                ],
            }
        )
        array = smaller
    _describe(node, _metadata(multiscale["name"], axes, levels, _version(root), source="../../"))
    outer = [{**level, "path": f"{inside}{level['path']}"} for level in levels]
    _describe(root, _metadata(multiscale["name"], axes, outer, _version(root)))


def _holds_chunks_alone(folder: Path) -> bool:
    return all(name.isdigit() for name in names_in(folder) - _ARRAY_FILES)


def _folder(path: Path, inside: str, number: int) -> Path:
    return path / inside / str(number) if inside else path / str(number)


def _array(
    node: Any,
    number: int,
    shape: tuple[int, ...],
    dtype: Any,
    axes: Any,
    walked: int,
    thickness: int,
) -> Any:
    version = _version(node)
    sides = [thickness if i == walked % _SPATIAL else _SIDE for i in range(_SPATIAL)]
    sides = [1] * (len(shape) - _SPATIAL) + sides
    chunks = tuple(min(n, side) for n, side in zip(shape, sides, strict=True))
    names = {} if version == 2 else {"dimension_names": [a["name"] for a in axes]}
    # OME-Zarr 0.4 wants nested chunk folders, which Zarr 2 does not do by itself
    keys = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == 2 else {}
    return node.create_array(
        str(number), shape=shape, dtype=dtype, chunks=chunks, fill_value=0, **names, **keys
    )


def _subsample(large: Any, small: Any, factors: npt.NDArray[np.int_], walked: int) -> None:
    """Keep every second voxel, a row of chunks at a time."""
    walked += small.ndim - _SPATIAL
    step, factor = small.chunks[walked], int(factors[walked])
    for volume in np.ndindex(small.shape[:-_SPATIAL]):
        for start in range(0, small.shape[walked], step):
            stop = min(start + step, small.shape[walked])
            where: list[slice | int] = [slice(None)] * small.ndim
            where[walked] = slice(start, stop)
            source: list[slice | int] = [slice(None, None, int(f)) for f in factors]
            source[walked] = slice(start * factor, min(stop * factor, large.shape[walked]), factor)
            where[: len(volume)] = source[: len(volume)] = volume
            small[tuple(where)] = large[tuple(source)]


def _metadata(
    name: str,
    axes: list[dict[str, Any]],
    levels: list[dict[str, Any]],
    version: int,
    source: str | None = None,
) -> dict[str, Any]:
    """Metadata of an image, or of labels whose image is `source`."""
    multiscale: dict[str, Any] = {"name": name, "axes": axes, "datasets": levels}
    told: dict[str, Any] = {"multiscales": [multiscale]}
    if len(levels) > 1:
        multiscale["type"] = "nearest"
    if source is not None:
        told["image-label"] = {"source": {"image": source}}
    if version == 2:
        multiscale["version"] = "0.4"
        if source is not None:
            told["image-label"]["version"] = "0.4"
    return told


def _describe(group: Any, told: Mapping[str, Any]) -> None:
    if _version(group) == 2:
        group.attrs.update(told)
    else:
        group.attrs.update({"ome": {"version": "0.5", **told}})


def _version(group: Any) -> int:
    return int(group.metadata.zarr_format)
