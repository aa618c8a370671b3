"""File axes: names of an image's axes that its TIFF has, and napari's own reader drops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_imos._walk import are_unnamed, shape_of

if TYPE_CHECKING:
    from napari.layers import Image

_KNOWN = frozenset("tczyx")


def name_axes(image: Image) -> None:
    """Give an image the names that its axes have in its file; a person's own names stay.

    Without them, nobody knows channels from slices. A file that cannot be read, or that has other
    axes than the layer, changes nothing.

    Parameters
    ----------
    image : Image
        Layer, as it was opened.
    """
    path = Path(image.source.path or "")
    if path.suffix.lower() not in (".tif", ".tiff") or not are_unnamed(image):
        return
    from imos_core.formats.tiff import axes_of

    try:
        letters, shape = axes_of(path)
    except Exception:  # addresses, files that are gone or damaged: napari has said so
        return
    if image.rgb:
        letters, shape = letters.removesuffix("s"), shape[:-1]
    # slices that nobody named may be called channels, where nothing else is there to walk along
    volume = len(letters.replace("c", "")) >= 3
    if volume and shape == shape_of(image) and _KNOWN.issuperset(letters):
        image.axis_labels = tuple(letters)
