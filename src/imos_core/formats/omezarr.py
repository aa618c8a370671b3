"""OME-Zarr 0.4 and 0.5, and plain Zarr arrays: the full-resolution level, read chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError
from imos_core.formats.volume import (
    AxesView,
    Volume,
    arrange,
    guess_channels,
    usable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

MARKS = ("zarr.json", ".zgroup", ".zarray")
"""Files of which one is in every Zarr folder."""

_CHUNKS = (16, 256, 256)


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise FileError('OME-Zarr needs zarr: pip install "napari-imos[all]".') from error
    return zarr


def read(path: Path) -> Volume:
    """Read a Zarr folder lazily."""
    zarr = _zarr()
    if not path.is_dir() or not any((path / mark).is_file() for mark in MARKS):
        raise FileError(f"{path} is no Zarr folder: it lacks zarr.json, .zgroup and .zarray.")
    node: Any = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return _plain(node, path)
    attributes = _ome(node)
    if "multiscales" not in attributes and "0" in node and isinstance(node["0"], zarr.Group):
        node = node["0"]  # what bioformats2raw writes: one group per image
        attributes = _ome(node)
    if "multiscales" not in attributes:
        arrays = [a for _, a in node.arrays()]
        if len(arrays) == 1:
            return _plain(arrays[0], path)
        raise FileError(
            f"{path} is no OME-Zarr image: give the folder that has the multiscales metadata."
        )
    multiscale = attributes["multiscales"][0]
    dataset = multiscale["datasets"][0]
    array = node[dataset["path"]]
    axes: list[dict[str, Any]] = [
        a if isinstance(a, dict) else {"name": a}
        for a in multiscale.get("axes") or _old_axes(array.ndim)
    ]
    names = "".join("c" if a.get("type") == "channel" else a["name"][0] for a in axes)
    order, channels_last = arrange(names, array.shape, path.name)
    spatial = order[: len(order) - channels_last]
    scale = np.ones(array.ndim)
    offset = np.zeros(array.ndim)
    for step in (
        *dataset.get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ):
        if step["type"] == "scale":
            scale, offset = scale * step["scale"], offset * step["scale"]
        elif step["type"] == "translation":
            offset = offset + step["translation"]
    told = any("coordinateTransformations" in part for part in (dataset, multiscale))
    spacing = usable([scale[a] for a in spatial]) if told and len(spatial) == 3 else None
    extra = {
        "zarr_format": node.metadata.zarr_format,
        "translation": [float(offset[a]) for a in spatial],
        "axes": [axes[a] for a in spatial],
    }
    unit = next((axes[a]["unit"] for a in reversed(spatial) if "unit" in axes[a]), None)
    view = AxesView(array, order, path.name)
    return Volume(view, spacing, channels_last, unit, "zarr", extra)


def write(path: Path, labels: npt.NDArray[Any], like: Volume) -> None:
    """Write labels as one-level OME-Zarr: 0.4 if `like` was, else 0.5."""
    zarr = _zarr()
    extra = like.extra if like.format == "zarr" else {}
    version = extra.get("zarr_format", 3)
    axes: list[dict[str, Any]] = extra.get("axes") or [
        {"name": n, "type": "space", **({"unit": like.unit} if like.unit else {})} for n in "zyx"
    ]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(like.spacing or (1.0,) * 3)}]
    if any(extra.get("translation", ())):
        steps.append({"type": "translation", "translation": extra["translation"]})
    multiscale = {
        "name": path.name.split(".")[0],
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }
    if version == 2:
        ome: dict[str, Any] = {"multiscales": [{**multiscale, "version": "0.4"}]}
        if labels.dtype.kind in "bui":
            ome["image-label"] = {"version": "0.4"}
    else:
        ome = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
        if labels.dtype.kind in "bui":
            ome["ome"]["image-label"] = {}
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    chunks = tuple(min(n, c) for n, c in zip(labels.shape, _CHUNKS, strict=True))
    names = {} if version == 2 else {"dimension_names": [a["name"] for a in axes]}
    # OME-Zarr 0.4 wants nested chunk folders, which Zarr 2 does not do by itself
    keys = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == 2 else {}
    array = group.create_array(
        "0", shape=labels.shape, dtype=labels.dtype, chunks=chunks, fill_value=0, **names, **keys
    )
    array[...] = labels
    group.attrs.update(ome)


def _plain(array: Any, path: Path) -> Volume:
    channels_last = guess_channels(array.shape)
    view = AxesView(array, range(array.ndim), path.name)
    return Volume(
        view, None, channels_last, None, "zarr", {"zarr_format": array.metadata.zarr_format}
    )


def _ome(group: Any) -> Mapping[str, Any]:
    attributes = dict(group.attrs)
    ome: Mapping[str, Any] = attributes.get("ome", attributes)
    return ome


def _old_axes(ndim: int) -> list[str]:
    """Axes before OME-Zarr 0.3, which had no names for them."""
    return list("tczyx"[-ndim:])
