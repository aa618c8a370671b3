"""How large a TIFF says that its voxels are, and how long the time between its frames."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import tifffile

from imos_core.errors import FileWarning
from imos_core.formats.ome_xml import attributes_of
from imos_core.formats.units import length_unit, time_unit, to_one
from imos_core.formats.volume import positive, usable, usable_interval

if TYPE_CHECKING:
    from imos_core.formats.volume import Interval, Spacing


class Sizes(NamedTuple):
    """Size of a voxel."""

    spacing: Spacing | None = None
    """Along the three axes, or None if the file does not say; a distance of slices that it does
    not say is taken to be that of rows."""
    unit: str | None = None
    """Unit of the spacing."""
    depth: bool = False
    """Whether the distance of slices is written down."""


def sizes_of(tif: tifffile.TiffFile, name: str) -> Sizes:
    """Return what a TIFF says of its voxels.

    Parameters
    ----------
    tif : TiffFile
        The file, opened.
    name : str
        Its name, for warnings.
    """
    if tif.is_ome:
        return _of_ome(tif, name)
    if tif.is_imagej:
        return _of_imagej(tif, name)
    for metadata in tif.shaped_metadata or ():
        if "voxel" in metadata:
            return Sizes(usable(metadata["voxel"]), length_unit(metadata.get("unit")))
    # the resolution of other files is that of paper, and says nothing of slices
    return Sizes()


def interval_of(tif: tifffile.TiffFile) -> Interval | None:
    """Time between frames, as ImageJ and OME say it."""
    if tif.is_ome:
        told = _pixels(tif)
        unit = time_unit(told.get("TimeIncrementUnit", "s"))
        return usable_interval(told.get("TimeIncrement", 0), unit)
    metadata = (tif.imagej_metadata if tif.is_imagej else None) or {}
    step = metadata.get("finterval", 0)
    return usable_interval(step, time_unit(metadata.get("tunit", "sec")))


def _pixels(tif: tifffile.TiffFile) -> dict[str, str]:
    return next(iter(attributes_of(tif, "Pixels")), {})


def _of_ome(tif: tifffile.TiffFile, name: str) -> Sizes:
    told = _pixels(tif)
    if "PhysicalSizeY" not in told or "PhysicalSizeX" not in told:
        return Sizes()
    z = _depth(told.get("PhysicalSizeZ"), name)
    axes = "YYX" if z is None else "ZYX"
    rows, columns = told["PhysicalSizeY"], told["PhysicalSizeX"]
    spacing = usable([rows if z is None else z, rows, columns])
    if spacing is None:
        _warn(name, "their size is")
    unit, factors = to_one([length_unit(told.get(f"PhysicalSize{a}Unit", "µm")) for a in axes])
    return Sizes(_times(spacing, factors), unit, z is not None)


def _of_imagej(tif: tifffile.TiffFile, name: str) -> Sizes:
    metadata = tif.imagej_metadata or {}
    tags = tif.pages.first.tags
    in_plane = []
    for tag_name in ("YResolution", "XResolution"):
        tag = tags.get(tag_name)
        over, under = tag.value if tag is not None else (0, 0)
        if not over or not under:
            return Sizes()
        in_plane.append(under / over)
    text = str(metadata.get("unit", "")).strip()
    if "spacing" not in metadata and text in ("", "pixel", "inch"):
        resolution = tags.get("ResolutionUnit")
        of_paper = text == "inch" or resolution is None or resolution.value != tifffile.RESUNIT.NONE
        if of_paper or in_plane == [1, 1]:
            return Sizes()
    z = _depth(metadata.get("spacing"), name)
    # y and z have a unit of their own only where it is another one
    own = [str(metadata.get(f"{axis}unit", text)) for axis in ("yy" if z is None else "zy")]
    unit, factors = to_one([length_unit(unit) for unit in (*own, text)])
    spacing = usable([in_plane[0] if z is None else z, *in_plane])
    return Sizes(_times(spacing, factors), unit, z is not None)


def _depth(told: Any, name: str) -> float | None:
    """Distance of slices, or None if it is not said, or is none."""
    try:
        # ImageJ has it negative where slices go down
        return positive(abs(float(told or 0)))
    except ValueError:
        _warn(name, "the distance of its slices is")
        return None


def _times(spacing: Spacing | None, factors: list[float]) -> Spacing | None:
    return spacing and usable([s * f for s, f in zip(spacing, factors, strict=True)])


def _warn(name: str, what: str) -> None:
    warnings.warn(
        FileWarning(
            f"{name} says how large its voxels are in numbers that cannot be: {what} taken as "
            "unknown; correct it in its metadata, or give the spacing."
        ),
        stacklevel=4,
    )
