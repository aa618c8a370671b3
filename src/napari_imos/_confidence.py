"""Confidence layer: how sure the engine is of every pixel, as an Image layer that fills up."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import Colormap

from napari_imos._pace import Pace
from napari_imos._placed import place_of
from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_imos._job import Job
    from napari_imos._series.job import SeriesJob
    from napari_imos._walk import Walk

_KEY = "napari-imos confidence"
_SURE = 255
_EVERY = 0.2  # seconds between two refreshes at least
# unsure pixels glow, sure ones let the picture through
_GLOW = [(1.0, 0.85, 0.2, 1.0), (0.9, 0.4, 0.05, 0.8), (0.2, 0.0, 0.3, 0.0)]


@dataclass
class _Written:
    """What was written on a slice."""

    confidence: float
    """What the record says of the slice as a whole, by which it is known again."""
    hidden: bytes | None = None
    """Its plane, compressed, while the slice is another one."""


@dataclass
class _Kept:
    """What a layer keeps in its metadata."""

    labels: Hashable
    """Id of its Labels layer."""
    slices: dict[tuple[Walk, int], _Written] = field(default_factory=dict)


class ConfidenceLayer:
    """Image layer beside a Labels layer: 0 is unsure, 1 is sure; slices not reached are 1.

    So are those that a person has made.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer; the layer of an earlier run is used again.
    labels : Labels
        Labels.
    job : Job or SeriesJob
        What is done.
    visible : callable
        Whether the viewer shows a slice.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        labels: Labels,
        job: Job | SeriesJob,
        visible: Callable[[int], bool] = lambda index: True,
    ) -> None:
        self._viewer, self._labels, self._job, self._visible = viewer, labels, job, visible
        self.layer = _find(viewer, labels) or _add(viewer, labels)
        self._pace, self._dirty = Pace(_EVERY), False

    def write(self, index: int, confidence: npt.NDArray[Any]) -> None:
        """Write one slice, once the record knows of it.

        Parameters
        ----------
        index : int
            Slice.
        confidence : ndarray
            `(H, W)`, 0..1; where a slice is done again for other labels, the least sure one counts.
        """
        data: Any = self.layer.data
        job, k = self._job.place(index)
        walk, where, kept = job.walk, job.walk.at(k), self.layer.metadata[_KEY].slices
        sure = np.multiply(confidence, _SURE, dtype=np.float32).astype(data.dtype)
        data[where] = np.minimum(data[where], sure) if self._job.again(index) else sure
        record = Ledger.of(self._labels).record(self._labels, walk)
        kept[walk, k] = _Written(float(record.confidence[k]))
        self._dirty |= self._visible(index)
        if self._dirty:
            self._pace.redraw(self.finish)

    def finish(self) -> None:
        """Draw what was not drawn yet."""
        if self._dirty and self.layer in self._viewer.layers:
            self._dirty = False
            self.layer.refresh(thumbnail=False, extent=False)


def follow_record(viewer: ViewerModel, labels: Labels, walk: Walk) -> None:
    """Let those slices of a walk glow that are as they were written, and no others.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer.
    labels : Labels
        Labels; what they hold was looked at.
    walk : Walk
        Slices.
    """
    layer = _find(viewer, labels)
    if layer is None:
        return
    data: Any = layer.data
    record, changed = Ledger.of(labels).record(labels, walk), False
    for (other, k), written in layer.metadata[_KEY].slices.items():
        if other != walk:
            continue
        as_it_was = record.kind[k] == Kind.PREDICTED and record.confidence[k] == written.confidence
        if as_it_was == (written.hidden is None):
            continue
        changed, where = True, walk.at(k)
        if written.hidden is None:
            plane = np.ascontiguousarray(data[where])
            written.hidden = zlib.compress(plane, 1)
            data[where] = _SURE
        else:
            plane = np.frombuffer(zlib.decompress(written.hidden), data.dtype)
            data[where], written.hidden = plane.reshape(data[where].shape), None
    if changed:
        layer.refresh(thumbnail=False, extent=False)


def is_confidence(layer: Layer) -> bool:
    """Whether a layer shows how sure the engine is."""
    return _KEY in layer.metadata


def _find(viewer: ViewerModel, labels: Labels) -> Image | None:
    for layer in viewer.layers:
        kept = layer.metadata.get(_KEY)
        same = isinstance(kept, _Kept) and kept.labels == labels.unique_id
        if same and layer.data.shape == labels.data.shape:
            return layer
    return None


def _add(viewer: ViewerModel, labels: Labels) -> Image:
    active = viewer.layers.selection.active
    layer: Image = viewer.add_image(
        # bytes: a float volume would take four times as much
        np.full(labels.data.shape, _SURE, np.uint8),
        name=f"{labels.name} confidence",
        contrast_limits=(128, 255),
        colormap=Colormap(_GLOW, name="imos unsure"),
        blending="translucent",
        opacity=0.7,
        metadata={_KEY: _Kept(labels.unique_id)},
        **place_of(labels),
    )
    viewer.layers.selection.active = active
    return layer
