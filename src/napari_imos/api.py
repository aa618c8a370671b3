"""Propagation of arrays and of layers, for scripts, notebooks and the napari console."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_imos._worker import PropagationWorker


def propagate(
    image: Any,
    labels: Any,
    *,
    axis: int | str = 0,
    anchors: Iterable[int] | None = None,
    ids: Iterable[int] | None = None,
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
    anchors : iterable of int, optional
        Prompt slices. By default, of arrays: every slice that is not empty. Of a layer in a
        viewer: the slice that is shown, or else the only painted one, together with earlier
        prompts and corrected slices.
    ids : iterable of int, optional
        Only these labels; by default all on the prompt slices, of a shown slice all on it.
    **keywords
        Keywords of `imos_core.propagate`: `start`, `stop`, `direction`, `model`, `adapter`,
        `device`, `contrast`, ... With layers, `contrast`, `spacing` and
        `channels_last` follow from the image layer unless given.

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
    keywords["labels"] = None if ids is None else [int(i) for i in ids]
    if _are_layers(image, labels):
        return _propagate_layers(image, labels, axis, anchors, keywords)
    return _propagate_arrays(image, labels, axis, anchors, keywords)


def start_propagation(
    image: Image,
    labels: Labels,
    *,
    axis: int | str = 0,
    anchors: Iterable[int] | None = None,
    ids: Iterable[int] | None = None,
    **keywords: Any,
) -> PropagationWorker:
    """Start a propagation of layers in a thread and return at once.

    Parameters
    ----------
    image : Image layer
        Image.
    labels : Labels layer
        Labels, painted on some slices.
    axis, anchors, ids, **keywords
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

    from napari_imos._stream import open_stream
    from napari_imos._worker import make_worker

    if not _are_layers(image, labels):
        raise PromptError("start_propagation takes layers: use propagate for arrays.")
    keywords["labels"] = ids
    stream, options = open_stream(image, labels, axis, anchors, keywords, _viewer_of(labels))
    worker = make_worker(stream, options)
    worker.finished.connect(lambda: worker.error and show_error(str(worker.error)))
    worker.start()
    return worker


def _propagate_layers(
    image: Image,
    labels: Labels,
    axis: int | str,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
) -> Labels:
    from napari.utils import progress

    from napari_imos._engine import Control, segment
    from napari_imos._stream import open_stream

    stream, options = open_stream(image, labels, axis, anchors, keywords, _viewer_of(labels))
    job, control = stream.job, Control()
    try:
        slices = segment(job, options, control)
        with progress(slices, desc="iMOS", total=job.expected(options)) as bar:
            for item in bar:
                score = control.scores[item.index]
                stream.write(item.index, item.labels, score, item.source)
    finally:
        # also after an error or Ctrl+C: what is done stays, and is one step back
        stream.tell(control.facts)
        stream.commit()
    return labels


def _propagate_arrays(
    image: Any,
    labels: Any,
    axis: int | str,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
) -> npt.NDArray[Any]:
    from napari.utils import progress

    import imos_core

    given = np.asarray(labels)
    if isinstance(axis, str):
        raise PromptError(f"Arrays have no axis {axis!r}: give its number.")
    if given.ndim != 3:
        raise PromptError(f"Labels must have three axes, but their shape is {given.shape}.")
    if not -3 <= axis < 3:
        raise PromptError(f"Axis {axis} is out of range: give 0, 1 or 2.")
    slices = np.moveaxis(given, axis, 0)
    if anchors is None:
        anchors = np.flatnonzero(slices.any(axis=(1, 2))).tolist()
    chosen = sorted({_index(k, len(slices)) for k in anchors})
    prompts = {k: slices[k] for k in chosen}
    result = np.array(given)
    into = np.moveaxis(result, axis, 0)
    ids = keywords["labels"] or np.unique(slices[chosen]).tolist()
    with progress(
        imos_core.propagate(image, prompts, axis=axis, **keywords), desc="iMOS"
    ) as segmented:
        for item in segmented:
            if item.index not in prompts:
                ours = (into[item.index] == 0) | np.isin(into[item.index], ids)
                np.copyto(into[item.index], item.labels, where=ours, casting="same_kind")
    return result


def _index(k: int, length: int) -> int:
    if not -length <= k < length:
        raise PromptError(
            f"The prompt slice {k} is outside the image, which has slices 0 to {length - 1}."
        )
    return int(k) % length


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
    """Return the viewer that shows a layer, if it is the current one."""
    from napari import current_viewer

    viewer = current_viewer()
    return viewer if viewer is not None and labels in viewer.layers else None
