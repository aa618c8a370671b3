"""New Labels layer: the next best thing where the chosen one cannot be written or does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import ImosError
from napari_imos._layers import check_fits, check_writable

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_imos._walk import Walk


def needs_new(image: Image, labels: Labels, walk: Walk | None, viewer: ViewerModel) -> str:
    """Say why a Labels layer cannot be used with an image; empty if it can.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers.
    walk : Walk, optional
        Slices of the labels, if they have any.
    viewer : ViewerModel
        Viewer.
    """
    try:
        check_writable(labels)
        if walk is not None:
            check_fits(image, labels, walk, viewer)
    except ImosError as error:
        return str(error)
    return ""


def add_labels_for(viewer: ViewerModel, image: Image, like: Labels | None = None) -> Labels:
    """Add a Labels layer that lies on an image, with the labels of another one where they fit.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer.
    image : Image
        Image that is labelled.
    like : Labels, optional
        Layer that could not be used; copied if it has the image's shape.

    Returns
    -------
    Labels
        The active layer from now on.
    """
    pixels: Any = image.data[0] if image.multiscale else image.data
    shape = tuple(pixels.shape[: image.ndim])
    data: Any = None
    if like is not None:
        held: Any = like.data[0] if like.multiscale else like.data
        if tuple(held.shape) == shape:
            data = np.array(held)
    if data is None:
        data = np.zeros(shape, np.uint16)
    return viewer.add_labels(
        data,
        name=f"{image.name} labels" if like is None else f"{like.name} (editable)",
        scale=image.scale,
        translate=image.translate,
        rotate=image.rotate,
        shear=image.shear,
        units=image.units,
        axis_labels=image.axis_labels,
    )
