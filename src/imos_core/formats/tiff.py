"""TIFF: plain, ImageJ and OME, with the spacing that each of them writes."""

from __future__ import annotations

import logging
import re
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from imos_core.errors import FileError
from imos_core.formats.volume import (
    LOADED_AT_ONCE,
    FileAxes,
    Spacing,
    Volume,
    arrange,
    ordered,
    rescaled,
    time_point,
    usable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Place

_UNITS = {
    "nm": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",  # micro sign
    "\u03bcm": "micrometer",  # Greek mu
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "m": "meter",
}
_OME_UNITS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm", "meter": "m"}
_IMAGEJ_UNITS = {**_OME_UNITS, "micrometer": "micron"}


def read(path: Path, time: Place | None = None) -> Volume:
    """Read a TIFF, or one time point of it; uncompressed files are mapped, not loaded."""
    with _damage_is_an_error(path), tifffile.TiffFile(path) as tif:
        if not tif.series:
            raise FileError(f"{path} holds no image.")
        series = tif.series[0]
        kind = "ome" if tif.is_ome else "imagej" if tif.is_imagej else "plain"
        spacing, unit = _spacing(tif)
        at = time_point(series.axes, series.shape, time, path.name)
        axes, channels_last = arrange(series.axes, series.shape, path.name, at)
        array = _pixels(path, tif, series)
    if isinstance(array, np.ndarray):
        array = ordered(array, axes, at)
    else:
        array = FileAxes(array, axes, path.name, at)
    return Volume(array, spacing, channels_last, unit, "tiff", {"kind": kind})


def write(path: Path, labels: npt.NDArray[Any], like: Volume) -> None:
    """Write labels as ImageJ or OME-TIFF, whichever `like` was and can hold the dtype.

    Labels with four axes are a series of volumes.
    """
    extra = like.extra if like.format == "tiff" else {}
    named_ome = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    kind = "ome" if named_ome else extra.get("kind", "imagej")
    if kind == "imagej" and (labels.dtype not in ("uint8", "uint16", "float32")):
        kind = "ome"
    if kind == "imagej" and labels.nbytes > 2**31:
        kind = "ome"
    if kind == "plain" and like.spacing is not None:
        kind = "ome"
    if kind == "ome" and labels.dtype.kind in "iu" and labels.dtype.itemsize == 8:
        kind = "plain"  # OME knows no 64-bit integers
    metadata: dict[str, Any] = {"axes": "TZYX"[-labels.ndim :]}
    options: dict[str, Any] = {"imagej": kind == "imagej", "ome": kind == "ome"}
    unit = like.unit
    if like.spacing is not None and kind == "ome":
        for axis, size in zip("ZYX", like.spacing, strict=True):
            metadata[f"PhysicalSize{axis}"] = size
            # OME reads a missing unit as micrometres, and "pixel" as what it is
            metadata[f"PhysicalSize{axis}Unit"] = _OME_UNITS.get(unit or "", "pixel")
    elif like.spacing is not None:
        metadata["spacing"] = like.spacing[0]
        metadata["unit"] = _IMAGEJ_UNITS.get(unit or "", "pixel")
        options["resolution"] = (1 / like.spacing[2], 1 / like.spacing[1])
    if kind == "plain" and like.spacing is not None:
        metadata["voxel"] = list(like.spacing)
    if kind != "imagej":
        # most of a label volume is one value, so this shrinks it a hundredfold
        options["compression"] = "zlib"
    pixels: Any = labels
    if labels.nbytes > LOADED_AT_ONCE:
        # plane by plane, so that labels on disk need not fit into memory
        places = np.ndindex(*labels.shape[:-2])
        pixels = (np.ascontiguousarray(labels[place]) for place in places)
        options |= {"shape": labels.shape, "dtype": labels.dtype}
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack",
        metadata=metadata,
        bigtiff=labels.nbytes > 2**32,
        **options,
    )


def _pixels(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Any:
    if any(page is None for page in series.pages):
        raise FileError(f"{path} lacks some of its slices: it is damaged, copy it again.")
    size = path.stat().st_size
    for page in series.pages:
        assert page is not None  # as seen above
        ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if isinstance(page, tifffile.TiffPage) and "ImageDescription" in page.tags:
            # OME-TIFF keeps the spacing there, often after all the pixels
            text = page.tags["ImageDescription"]
            ends.append(text.valueoffset + text.valuebytecount)
        if max(ends, default=0) > size:
            raise FileError(f"{path} is cut short: copy it again.")
    if series.dataoffset is not None:
        # a file of more than one part cannot be mapped, which tifffile says by dataoffset None
        order = tif.byteorder
        dtype = series.dtype.newbyteorder(order)
        return np.memmap(path, dtype, "r", series.dataoffset, tuple(series.shape))
    if series.nbytes > LOADED_AT_ONCE:
        try:
            import zarr
        except ImportError:
            pass
        else:
            store = tifffile.imread(path, aszarr=True, series=0, level=0)
            array = zarr.open(store, mode="r")
            weakref.finalize(array, store.close)
            return array
    return series.asarray()


def _spacing(tif: tifffile.TiffFile) -> tuple[Spacing | None, str | None]:
    if tif.is_ome:
        return _ome_spacing(tif)
    if tif.is_imagej:
        return _imagej_spacing(tif)
    for metadata in tif.shaped_metadata or ():
        if "voxel" in metadata:
            unit = _unit(metadata.get("unit"))
            return usable(metadata["voxel"]), unit
    # the resolution of other files is that of paper, and says nothing of slices
    return None, None


def _ome_spacing(tif: tifffile.TiffFile) -> tuple[Spacing | None, str | None]:
    text = tif.ome_metadata or ""
    found = re.search(r"<Pixels\b[^>]*>", text)
    attributes = dict(re.findall(r'(\w+)="([^"]*)"', found.group())) if found else {}
    sizes: dict[str, float] = {}
    first_unit: str | None = None
    for axis in "XYZ":
        if f"PhysicalSize{axis}" not in attributes:
            continue
        unit = _unit(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
        size = float(attributes[f"PhysicalSize{axis}"])
        first_unit = first_unit or unit
        sizes[axis] = rescaled((size, size, size), unit, first_unit)[0]
    if "X" not in sizes or "Y" not in sizes:
        return None, None
    # a distance of slices that nobody wrote down is taken to be that of rows
    return usable((sizes.get("Z", sizes["Y"]), sizes["Y"], sizes["X"])), first_unit


def _imagej_spacing(tif: tifffile.TiffFile) -> tuple[Spacing | None, str | None]:
    metadata = tif.imagej_metadata or {}
    tags = tif.pages.first.tags
    in_plane = []
    for name in ("YResolution", "XResolution"):
        tag = tags.get(name)
        over, under = tag.value if tag is not None else (0, 0)
        if not over or not under:
            return None, None
        in_plane.append(under / over)
    unit = str(metadata.get("unit", "")).strip()
    if "spacing" not in metadata and unit in ("", "pixel", "inch"):
        return None, None
    return usable((metadata.get("spacing", in_plane[0]), *in_plane)), _unit(unit)


def _unit(text: Any) -> str | None:
    name = str(text or "").replace("\\u00B5", "µ").strip()
    return _UNITS.get(name.lower() if name not in _UNITS else name)


@contextmanager
def _damage_is_an_error(path: Path) -> Iterator[None]:
    """Turn what tifffile merely logs about cut files into an error, and keep it off stderr."""
    seen: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logger = logging.getLogger("tifffile")
    collector, propagated = Collector(), logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated
    if any("invalid page offset" in m or "corrupted file" in m for m in seen):
        raise FileError(f"{path} is cut short or damaged: copy it again.")
