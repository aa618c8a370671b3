"""Which of the images in a TIFF is meant, and in which files its pages are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tifffile

from imos_core.errors import FileError
from imos_core.formats.ome_xml import attributes_of

if TYPE_CHECKING:
    from pathlib import Path


def meant(path: Path, tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the image that a TIFF is read for.

    Pages that were written one by one are images of their own to tifffile; they become one stack.
    Beside the first image there may be pictures that show it (whole slides have a label and a
    thumbnail); levels of a pyramid are none. Of the positions of a microscope, one file each, it is
    that of the file.

    Parameters
    ----------
    path : Path
        Name, for messages.
    tif : TiffFile
        The file, opened.

    Raises
    ------
    FileError
        If there is none, or several and nothing says which.
    """
    if not tif.series:
        raise FileError(f"{path} holds no image.")
    images = [s for s in tif.series if not s.keyframe.is_reduced] or list(tif.series)
    if tif.is_ome:  # which names the images of other files as well
        images = [s for s in images if _is_here(s, tif)] or images
    first, *others = images
    if all(_shows(other, first) for other in others):
        return first
    # OME says that they are images, each with a place of its own
    if not tif.is_ome and all(_is_next(other, first) for other in others):
        return tifffile.TiffPageSeries(
            [series.keyframe for series in images],
            (len(images), *first.shape),
            first.dtype,
            f"I{first.axes}",
            parent=tif,
        )
    shapes = ", ".join(sorted({str(tuple(map(int, s.shape))) for s in images}))
    raise FileError(
        f"{path} holds {len(images)} images ({shapes}), and nothing says which of them is "
        "meant: save that one as a file of its own."
    )


def _is_here(series: tifffile.TiffPageSeries, tif: tifffile.TiffFile) -> bool:
    """Whether an image has pages in a file itself, which may be opened twice."""
    here = tif.filehandle.path
    return any(page is not None and page.parent.filehandle.path == here for page in series.pages)


def _is_page(series: tifffile.TiffPageSeries) -> bool:
    return bool(series.size == series.keyframe.size)


def _shows(series: tifffile.TiffPageSeries, first: tifffile.TiffPageSeries) -> bool:
    """Whether an image is no more than a picture of the first: smaller, or unlike its slices."""
    own, page = series.keyframe, first.keyframe
    smaller = own.imagewidth * own.imagelength < page.imagewidth * page.imagelength
    unlike = not _is_page(first) and own.samplesperpixel != page.samplesperpixel
    return _is_page(series) and (smaller or unlike)


def _is_next(series: tifffile.TiffPageSeries, first: tifffile.TiffPageSeries) -> bool:
    """Whether two images are single pages that are stored alike."""
    both = (series, first)
    alike = len({(s.shape, s.axes, s.keyframe.hash) for s in both}) == 1
    return alike and all(map(_is_page, both))


def parts_of(tif: tifffile.TiffFile) -> list[str]:
    """Return the names of the files in which OME says that the pages are; they lie side by side.

    Parameters
    ----------
    tif : TiffFile
        One of them, opened.
    """
    return sorted({told["FileName"] for told in attributes_of(tif, "UUID") if "FileName" in told})
