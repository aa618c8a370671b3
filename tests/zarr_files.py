"""OME-Zarr files by hand, as other programs write them."""

from __future__ import annotations

import zarr


def write_ome_zarr(
    path, array, version, axes="zyx", scale=None, unit="micrometer", axes_told=None, **extra
):
    """Write a two-level OME-Zarr by hand, as other programs do."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    kinds = {"t": "time", "c": "channel"}
    steps = [{"type": "scale", "scale": list(scale or [1.0] * array.ndim)}]
    spatial = [a for a in axes if a in "zyx"]
    own = dict(zip(spatial, [unit] * 3 if isinstance(unit, str) else unit, strict=False))
    multiscale = {
        "axes": axes_told
        or [
            {
                "name": a,
                "type": kinds.get(a, "space"),
                **({"unit": own[a]} if a in own else {}),
            }
            for a in axes
        ],
        "datasets": [
            {"path": "s0", "coordinateTransformations": steps},
            {"path": "s1", "coordinateTransformations": steps},
        ],
        **extra,
    }
    group.create_array("s0", data=array, chunks=(1,) * (array.ndim - 2) + array.shape[-2:])
    group.create_array("s1", data=array[..., ::2, ::2])
    if version == "0.4":
        group.attrs["multiscales"] = [{**multiscale, "version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
