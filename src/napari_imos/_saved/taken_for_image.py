"""Labels of a session that napari took for an image, as it does with most integers in TIFF."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image

from imos_core.files.sidecar import has_sidecar

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.viewer import Viewer


def is_taken_for_image(layer: Layer) -> bool:
    """Whether a layer is an image, but there is a session beside its file: it holds labels."""
    path = layer.source.path
    return (
        isinstance(layer, Image)
        and not layer.multiscale
        and np.dtype(layer.dtype).kind in "iu"
        and path is not None
        and os.path.isfile(path)
        and has_sidecar(path)
    )


def opened_as_labels(viewer: Viewer, image: Image) -> Labels:
    """Open the file of an image again, as labels, which take its place.

    Parameters
    ----------
    viewer : Viewer
        Where the image is.
    image : Image
        Layer of which `is_taken_for_image` says so.
    """
    (labels,) = viewer.open(image.source.path, plugin="napari", layer_type="labels")
    name = image.name
    viewer.layers.remove(image)
    labels.name = name
    return labels
