"""Confidence layer: how sure the engine is of every pixel, as an Image layer that fills up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import Colormap

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_imos._walk import Walk

_KEY = "napari-imos confidence of"
_EVERY = 0.2  # seconds between two refreshes
# unsure pixels glow, sure ones let the picture through
_GLOW = [(1.0, 0.85, 0.2, 1.0), (0.9, 0.4, 0.05, 0.8), (0.2, 0.0, 0.3, 0.0)]


class ConfidenceLayer:
    """Image layer beside a Labels layer: 0 is unsure, 1 is sure; slices not reached are 1.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer; the layer of an earlier run is used again.
    labels : Labels
        Labels.
    walk : Walk
        Where slices lie.
    visible : callable
        Whether the viewer shows a slice.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        labels: Labels,
        walk: Walk,
        visible: Callable[[int], bool] = lambda index: True,
    ) -> None:
        self._viewer, self._walk, self._visible = viewer, walk, visible
        self.layer = _find(viewer, labels) or _add(viewer, labels)
        self._next_refresh, self._dirty = 0.0, False

    def write(self, index: int, confidence: npt.NDArray[Any], *, joins: bool = False) -> None:
        """Write one slice.

        Parameters
        ----------
        index : int
            Slice.
        confidence : ndarray
            `(H, W)`, 0..1.
        joins : bool
            Whether the slice was written before, for other labels: the least sure one counts.
        """
        data: Any = self.layer.data
        where = self._walk.at(index)
        sure = np.multiply(confidence, 255, dtype=np.float32).astype(data.dtype)
        data[where] = np.minimum(data[where], sure) if joins else sure
        self._dirty |= self._visible(index)
        now = time.monotonic()
        if self._dirty and now >= self._next_refresh:
            self._next_refresh = now + _EVERY
            self.finish()

    def finish(self) -> None:
        """Draw what was not drawn yet."""
        if self._dirty and self.layer in self._viewer.layers:
            self._dirty = False
            self.layer.refresh(thumbnail=False, extent=False)


def is_confidence(layer: Layer) -> bool:
    """Whether a layer shows how sure the engine is."""
    return _KEY in layer.metadata


def _find(viewer: ViewerModel, labels: Labels) -> Image | None:
    for layer in viewer.layers:
        if layer.metadata.get(_KEY) == id(labels) and layer.data.shape == labels.data.shape:
            return layer
    return None


def _add(viewer: ViewerModel, labels: Labels) -> Image:
    active = viewer.layers.selection.active
    layer: Image = viewer.add_image(
        # bytes: a float volume would take four times as much
        np.full(labels.data.shape, 255, np.uint8),
        name=f"{labels.name} confidence",
        contrast_limits=(128, 255),
        colormap=Colormap(_GLOW, name="imos unsure"),
        blending="translucent",
        opacity=0.7,
        scale=labels.scale,
        translate=labels.translate,
        rotate=labels.rotate,
        shear=labels.shear,
        units=labels.units,
        axis_labels=labels.axis_labels,
        metadata={_KEY: id(labels)},
    )
    viewer.layers.selection.active = active
    return layer
