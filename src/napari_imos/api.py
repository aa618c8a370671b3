"""Propagation of arrays and of layers, for scripts, notebooks and the napari console."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from imos_core.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_imos._worker import PropagationWorker


@overload
def propagate(
    image: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    axis: int | str = ...,
    anchors: SupportsIndex | Iterable[SupportsIndex] | None = ...,
    ids: SupportsIndex | Iterable[SupportsIndex] | None = ...,
    series: int | str | None = ...,
    channels: int | Image | Iterable[Any] | None = ...,
    progress: bool = ...,
    **keywords: Any,
) -> npt.NDArray[Any]: ...


@overload
def propagate(
    image: Image,
    labels: Labels,
    *,
    axis: int | str = ...,
    anchors: SupportsIndex | Iterable[SupportsIndex] | None = ...,
    ids: SupportsIndex | Iterable[SupportsIndex] | None = ...,
    series: int | str | None = ...,
    channels: int | Image | Iterable[Any] | None = ...,
    progress: bool = ...,
    **keywords: Any,
) -> Labels: ...


def propagate(
    image: Any,
    labels: Any,
    *,
    axis: int | str = 0,
    anchors: SupportsIndex | Iterable[SupportsIndex] | None = None,
    ids: SupportsIndex | Iterable[SupportsIndex] | None = None,
    series: int | str | None = None,
    channels: int | Image | Iterable[Any] | None = None,
    progress: bool = True,
    **keywords: Any,
) -> Any:
    """Carry painted slices through a volume or video: arrays or layers in, the same kind out.

    Arrays need neither Qt nor a viewer. Layers are written slice by slice while this call blocks;
    one Ctrl+Z takes it back. `start_propagation` does not block.

    Parameters
    ----------
    image : array-like or Image layer
        Three spatial axes; numpy, dask and zarr are read one slice at a time.
    labels : array-like or Labels layer
        Integer labels of the same shape, painted on some slices.
    axis : int or str
        Axis that is walked; by name only if the Labels layer names its axes.
    anchors : int or iterable of int, optional
        Prompt slices, or one. By default, of arrays, and of layers in no viewer or not in the one
        that was active last, before their first run: every slice that is not empty. Of a layer in
        that viewer: the slice that is shown, or else the only painted one, together with earlier
        prompts and corrected slices.
    ids : int or iterable of int, optional
        Only these labels, or this one; by default all on the prompt slices, of a shown slice all
        on it.
    series : int or str, optional
        Of labels with four axes: the axis of time steps that are all to be done, each prompted by
        the one before. It starts at the time point that the viewer shows, or at the first painted
        one; `direction` is then that of the series. Three neighbouring painted slices of an array
        are a volume, which is taken as it is.
    channels : int, Image layer or iterable of them, optional
        One to three channels: positions along the axis that only the image has, or Image layers.
        Each is scaled by itself: an Image layer as it is shown, others by what prompt slices hold.
    progress : bool
        Whether a bar shows how far it is.
    **keywords
        Keywords of `imos_core.propagate`: `start`, `stop`, `direction`, `model`, `adapter`,
        `device`, `contrast`, ... With layers, `contrast`, `spacing` and
        `channels_last` follow from the image layer unless given; of arrays, a last axis of three
        or four that the labels do not have holds colours.

    Returns
    -------
    ndarray or Labels layer
        Of arrays: a new array with the labels' shape and dtype. Prompt slices and labels that are
        not propagated are as given; the propagated labels are replaced on every other slice of
        the range. Of layers: the Labels layer, in which only empty voxels and earlier results were
        written.

    Raises
    ------
    ImosError
        If the input does not serve; nothing has been written then.
    """
    slices = _checked(axis, anchors, ids, series, keywords)
    if _are_layers(image, labels):
        return _propagate_layers(image, labels, axis, slices, keywords, series, channels, progress)
    from napari_imos._arrays import propagate_arrays

    return propagate_arrays(image, labels, axis, slices, keywords, series, channels, shown=progress)


def start_propagation(
    image: Image,
    labels: Labels,
    *,
    axis: int | str = 0,
    anchors: SupportsIndex | Iterable[SupportsIndex] | None = None,
    ids: SupportsIndex | Iterable[SupportsIndex] | None = None,
    series: int | str | None = None,
    channels: int | Image | Iterable[Any] | None = None,
    **keywords: Any,
) -> PropagationWorker:
    """Start a propagation of layers in a thread and return at once.

    Slices are written by Qt's event loop, which napari and Jupyter's ``%gui qt`` run.

    Parameters
    ----------
    image : Image layer
        Image.
    labels : Labels layer
        Labels, painted on some slices.
    axis, anchors, ids, series, channels, **keywords
        See `propagate`.

    Returns
    -------
    PropagationWorker
        Running worker: `quit` stops it and keeps what is done; signals `yielded`
        (`imos_core.SegmentedSlice`) and `finished`; `error` then says what went wrong, if
        anything did.

    Raises
    ------
    ImosError
        If the layers or the prompt do not serve; the layer is untouched then.
    """
    from napari.utils.notifications import show_error
    from qtpy.QtWidgets import QApplication

    from napari_imos._saved.session import taken_over
    from napari_imos._series.stream import open_any
    from napari_imos._worker import make_worker

    if not _are_layers(image, labels):
        raise PromptError("start_propagation takes layers: use propagate for arrays.")
    if QApplication.instance() is None:
        raise PromptError(
            "start_propagation needs Qt's event loop to write slices, and there is none: use "
            "propagate."
        )
    slices = _checked(axis, anchors, ids, series, keywords)
    taken_over(labels)
    stream, options = open_any(
        image, labels, axis, series, slices, keywords, _viewer_of(labels), channels=channels
    )
    worker = make_worker(stream, options)

    def say_error() -> None:
        worker.finished.disconnect(say_error)  # else Qt keeps the worker
        if worker.error is not None:
            show_error(str(worker.error))

    worker.finished.connect(say_error)
    worker.start()
    return worker


def _checked(
    axis: int | str,
    anchors: SupportsIndex | Iterable[SupportsIndex] | None,
    ids: SupportsIndex | Iterable[SupportsIndex] | None,
    series: int | str | None,
    keywords: dict[str, Any],
) -> list[int] | None:
    """Check what is given by number, before any work: prompt slices; ids go into `keywords`."""
    from imos_core.config import check_memory
    from imos_core.intensity import read_contrast
    from imos_core.segmented import check_cancel
    from imos_core.whole_numbers import whole, whole_numbers

    check_memory(keywords.get("memory"))
    check_cancel(keywords.get("cancel"))
    for name, value in (("axis", axis), ("series", series)):
        if not isinstance(value, str) and (value is not None or name == "axis"):
            whole(value, name)
    if series is not None and keywords.get("checkpoint") is not None:
        raise PromptError("A checkpoint is for one volume: leave it out with series.")
    for name in ("start", "stop"):
        if keywords.get(name) is not None:
            keywords[name] = whole(keywords[name], name)
    if keywords.get("contrast") is not None:
        keywords["contrast"] = read_contrast(keywords["contrast"])
    keywords["labels"] = None if ids is None else whole_numbers(ids, "ids")
    if keywords["labels"] == []:
        raise PromptError("No label was chosen: give the ids to propagate, or leave ids out.")
    slices = None if anchors is None else whole_numbers(anchors, "anchors")
    if slices == []:
        raise PromptError("No prompt slice was chosen: give painted ones, or leave anchors out.")
    return slices


def _propagate_layers(
    image: Image,
    labels: Labels,
    axis: int | str,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
    series: int | str | None,
    channels: int | Image | Iterable[Any] | None,
    shown: bool,
) -> Labels:
    from napari_imos._activity import bar
    from napari_imos._engine import Control
    from napari_imos._saved.session import taken_over
    from napari_imos._series.engine import segment_any
    from napari_imos._series.stream import open_any

    taken_over(labels)
    stream, options = open_any(
        image, labels, axis, series, anchors, keywords, _viewer_of(labels), channels=channels
    )
    job, control = stream.job, Control()
    try:
        slices = segment_any(job, options, control)
        with bar(slices, job.expected(options), shown=shown) as segmented:
            for item in segmented:
                score = control.scores[item.index]
                stream.write(item.index, item.labels, score, item.source)
    finally:
        # also after an error or Ctrl+C: what is done stays, and is one step back
        stream.tell(control.facts)
        stream.commit()
    return labels


def _are_layers(image: Any, labels: Any) -> bool:
    if "napari.layers" not in sys.modules:
        return False  # then nobody can have made one, and the import is not cheap
    from napari.layers import Image, Labels, Layer

    if isinstance(image, Image) and isinstance(labels, Labels):
        return True
    if isinstance(image, Layer) or isinstance(labels, Layer):
        raise PromptError("Give an Image layer and a Labels layer, or two arrays.")
    return False


def _viewer_of(labels: Labels) -> ViewerModel | None:
    """Return the viewer that shows a layer, if it is the current one: napari names no others."""
    from napari import current_viewer

    viewer = current_viewer()
    return viewer if viewer is not None and labels in viewer.layers else None
