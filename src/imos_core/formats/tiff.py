"""TIFF: plain, ImageJ and OME, with the spacing that each of them writes."""

from __future__ import annotations

import logging
import weakref
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from imos_core.arrays.slabs import in_passing
from imos_core.errors import FileError
from imos_core.formats.tiff_series import meant, parts_of
from imos_core.formats.tiff_sizes import interval_of, sizes_of
from imos_core.formats.units import converted, symbol
from imos_core.formats.volume import (
    LOADED_AT_ONCE,
    Spacing,
    Volume,
    arrange,
    in_order,
    places_held,
    time_first,
    time_point,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Interval, Place

_LETTERS = {**{a: a.lower() for a in "TCZYX"}, "S": "c"}
"""What tifffile calls an axis -> its letter."""
_OME_OWN = ("reference frame",)
"""Units of OME that are no length, beside the pixel."""


def read(path: Path, time: Place | None = None, *, series: bool = False) -> Volume:
    """Read a TIFF, or one time point of it; uncompressed files are mapped, not loaded."""
    with _damage_is_an_error(path), tifffile.TiffFile(path) as tif:
        first = meant(path, tif)
        kind = "ome" if tif.is_ome else "imagej" if tif.is_imagej else "plain"
        sizes = sizes_of(tif, path.name)
        at = time_point(first.axes, first.shape, time, path.name)
        stored, channels_last = arrange(first.axes, first.shape, path.name, at, series=series)
        axes = time_first(stored, first.axes)
        film = first.axes[axes[: len(axes) - channels_last][-3:][0]] == "T"
        interval = interval_of(tif)
        array = _pixels(path, first)
    array = in_order(array, axes, path.name, at)
    extra = {"kind": kind, "depth": sizes.depth}
    names = "".join(_LETTERS.get(first.axes[a], "n") for a in axes)
    return Volume(
        array,
        sizes.spacing,
        channels_last,
        sizes.unit,
        "tiff",
        extra,
        film,
        interval,
        names,
        places=places_held(first.shape, at),
    )


def axes_of(path: Path) -> tuple[str, tuple[int, ...]]:
    """Return the axes of a TIFF, one letter each as in ``tczyxs``, and its shape; no pixels.

    Raises
    ------
    FileError
        If it holds no image, or several, or is cut short; tifffile has errors of its own.
    """
    with _damage_is_an_error(path), tifffile.TiffFile(path) as tif:
        first = meant(path, tif)
        return first.axes.lower(), tuple(int(n) for n in first.shape)


def files_of(path: Path) -> list[Path]:
    """Return the files that a TIFF is read from: more than one of OME-TIFF in parts.

    One that is none is itself, as who reads it says what is wrong.
    """
    parts: list[Path] = []
    with suppress(Exception), _damage_is_an_error(path), tifffile.TiffFile(path) as tif:
        parts = [path.parent / name for name in parts_of(tif)]
    # of a file that was renamed, its own name is not there
    return [path, *(part for part in parts if part != path and part.is_file())]


def write(path: Path, labels: npt.NDArray[Any], like: Volume) -> None:
    """Write labels as ImageJ or OME-TIFF, whichever `like` was and can hold the dtype.

    Labels with four axes are a series of volumes.
    """
    kind = _kind_of(path, labels, like)
    axes = "TYX" if like.film and labels.ndim == 3 else "TZYX"[-labels.ndim :]
    metadata: dict[str, Any] = {"axes": axes, **_told_interval(kind, like.interval)}
    options: dict[str, Any] = {"imagej": kind == "imagej", "ome": kind == "ome"}
    if like.spacing is not None:
        metadata |= _told_spacing(kind, like.spacing, like.unit, depth=_has_depth(like))
        if kind != "ome" and _is_ratio(like.spacing):
            options["resolution"] = (1 / like.spacing[2], 1 / like.spacing[1])
    if kind != "imagej":
        # most of a label volume is one value, so this shrinks it a hundredfold
        options["compression"] = "zlib"
    pixels: Any = labels
    if labels.nbytes > LOADED_AT_ONCE:
        # plane by plane, so that labels on disk need not fit into memory
        pixels = in_passing(labels)
        options |= {"shape": labels.shape, "dtype": labels.dtype}
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack",
        metadata=metadata,
        bigtiff=labels.nbytes > 2**32,
        **options,
    )


def _kind_of(path: Path, labels: npt.NDArray[Any], like: Volume) -> str:
    """What is written: ``ome``, ``imagej`` or ``plain``."""
    named_ome = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    wanted = like.extra.get("kind", "imagej") if like.format == "tiff" else "imagej"
    beyond_imagej = (
        labels.dtype not in ("uint8", "uint16", "float32")
        or labels.nbytes > 2**31
        or labels.shape[-1] == 1  # which would be a colour
        or not (like.spacing is None or _is_ratio(like.spacing))
    )
    says_more = (like.spacing, like.interval) != (None, None)
    if named_ome or (wanted == "imagej" and beyond_imagej) or (wanted == "plain" and says_more):
        wanted = "ome"
    if wanted == "ome" and labels.dtype.kind in "iu" and labels.dtype.itemsize == 8:
        return "plain"  # OME knows no 64-bit integers
    return str(wanted)


def _is_ratio(spacing: Spacing) -> bool:
    """Whether a resolution can say how large pixels are: two numbers of 32 bits."""
    return all(2**-31 <= size <= 2**31 for size in spacing[1:])


def _has_depth(like: Volume) -> bool:
    """Whether a distance of slices is known, and not taken to be that of rows."""
    # that of a film is a time; where a volume says none, it was taken to be that of rows
    taken = like.film or (like.spacing is not None and like.spacing[0] == like.spacing[1])
    said = like.extra.get("depth") if like.format == "tiff" else None
    return bool(not taken or (not like.film if said is None else said))


def _told_spacing(kind: str, spacing: Spacing, unit: str | None, *, depth: bool) -> dict[str, Any]:
    """Say the size of a voxel, that of slices only if `depth`."""
    if kind == "ome":
        # OME reads a missing unit as micrometres, and "pixel" as what it is
        known = (unit if unit in _OME_OWN else symbol(unit)) or "pixel"
        told: dict[str, Any] = {}
        for axis, size in zip("ZYX", spacing, strict=True):
            if axis != "Z" or depth:
                told |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": known}
        return told
    told = {"spacing": spacing[0]} if depth else {}
    if kind == "imagej":
        return {**told, "unit": _imagej_unit(unit)}
    return {**told, "unit": _imagej_unit(unit) if unit is None else unit, "voxel": list(spacing)}


def check_codecs(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Refuse pixels whose compression cannot be undone here.

    Parameters
    ----------
    path : Path
        Name, for the message.
    series : TiffPageSeries
        What is to be read.

    Raises
    ------
    FileError
        If it needs another package, or nothing knows it.
    """
    page = series.keyframe
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError:
        pass
    else:
        return
    name = getattr(page.compression, "name", f"number {page.compression}")
    if find_spec("imagecodecs") is None:
        raise FileError(
            f"{path} is compressed ({name}), which takes one more package to read: pip install "
            "imagecodecs."
        )
    raise FileError(f"{path} is compressed in a way nobody knows ({name}): save it uncompressed.")


def _pixels(path: Path, series: tifffile.TiffPageSeries) -> Any:
    if any(page is None for page in series.pages):
        raise FileError(f"{path} lacks some of its slices: it is damaged, copy it again.")
    check_codecs(path, series)
    for page in series.pages:
        assert page is not None  # as seen above
        ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if isinstance(page, tifffile.TiffPage) and "ImageDescription" in page.tags:
            # OME-TIFF keeps the spacing there, often after all the pixels
            text = page.tags["ImageDescription"]
            ends.append(text.valueoffset + text.valuebytecount)
        part = page.parent.filehandle  # of OME-TIFF in several files, another one
        if max(ends, default=0) > part.size:
            raise FileError(f"{path.with_name(part.name)} is cut short: copy it again.")
    if series.dataoffset is not None:
        # a file of more than one part cannot be mapped, which tifffile says by dataoffset None
        order = series.keyframe.parent.byteorder
        dtype = series.dtype.newbyteorder(order)
        return np.memmap(path, dtype, "r", series.dataoffset, tuple(series.shape))
    if series.nbytes > LOADED_AT_ONCE:
        try:
            import zarr
        except ImportError:
            pass
        else:
            store = series.aszarr(level=0)
            array = zarr.open(store, mode="r")
            weakref.finalize(array, store.close)
            return array
    return series.asarray()


def _told_interval(kind: str, interval: Interval | None) -> dict[str, Any]:
    """Say the time between frames; without a unit, both would take it for seconds."""
    step, unit = interval or (0.0, None)
    if kind == "ome" and unit is not None and symbol(unit) is not None:
        return {"TimeIncrement": step, "TimeIncrementUnit": symbol(unit)}
    seconds = converted(step, unit, "second") if unit is not None else None
    return {"finterval": seconds} if kind == "imagej" and seconds is not None else {}


def _imagej_unit(unit: str | None) -> str:
    """Return what ImageJ calls a unit: plain letters, and what else there is as Java writes it."""
    plain = {"micrometer": "micron", "angstrom": "angstrom", "inch": "inch"}
    name = plain.get(unit or "") or symbol(unit) or unit or "pixel"
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in " ".join(name.split()))


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
