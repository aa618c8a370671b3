"""Arrays: propagation without layers, of three axes or of a whole series, with chosen channels."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.axes import held
from imos_core.channels import pick_channels
from imos_core.errors import PromptError
from imos_core.prompt import read_prompts

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from napari_imos._series_job import SeriesJob

_VOLUME = 3
"""So many painted slices beside each other are a volume, which is taken as it is in a series."""


def propagate_arrays(
    image: Any,
    labels: Any,
    axis: int | str,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
    series: int | str | None = None,
    channels: Iterable[int] | None = None,
) -> npt.NDArray[Any]:
    """Do what `propagate` does with arrays.

    Raises
    ------
    ImosError
        If something does not serve.
    """
    given = np.asarray(labels)
    for name in (axis, series):
        if isinstance(name, str):
            raise PromptError(f"Arrays have no axis {name!r}: give its number.")
    if channels is not None:
        image = _channels(image, given.shape, list(channels))
        keywords = {**keywords, "channels_last": image.ndim > given.ndim}
    if series is not None:
        return _series(image, given, int(axis), int(series), anchors, keywords)
    return _walk(image, given, int(axis), anchors, keywords)


def _walk(
    image: Any,
    given: npt.NDArray[Any],
    axis: int,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
) -> npt.NDArray[Any]:
    from napari.utils import progress

    import imos_core

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
                _put(into[item.index], item.labels, ids)
    return result


def _series(
    image: Any,
    given: npt.NDArray[Any],
    axis: int,
    series: int,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
) -> npt.NDArray[Any]:
    from napari.utils import progress

    from napari_imos._engine import Control
    from napari_imos._series_engine import segment_series

    if given.ndim != 4 or not (-4 <= axis < 4 and -4 <= series < 4) or axis % 4 == series % 4:
        raise PromptError(
            "A whole series needs labels with four axes, and two different ones to walk: give "
            f"axis and series, 0 to 3; the labels have shape {given.shape}."
        )
    job, options = _series_job(image, given, axis % 4, series % 4, anchors, dict(keywords))
    result = np.array(given)
    with closing(segment_series(job, options, Control())) as slices:
        for item in progress(slices, desc="iMOS", total=job.expected(options)):
            step, k = divmod(item.index, job.walk.length)
            if item.index not in job.prompts:
                where = job.walk.at(step * job.walk.length + k)
                _put(result[where], item.labels, job.ids)
    return result


def _series_job(
    image: Any,
    given: npt.NDArray[Any],
    axis: int,
    series: int,
    anchors: Iterable[int] | None,
    options: dict[str, Any],
) -> tuple[SeriesJob, dict[str, Any]]:
    """Make the steps of a series from arrays, and say which keywords are left."""
    from napari_imos._layers import Job, Rules
    from napari_imos._series_job import SeriesJob, SeriesWalk, Step, order_of
    from napari_imos._walk import Walk, ids_on

    if tuple(image.shape[:4]) != given.shape:
        raise PromptError(f"Labels have shape {given.shape}, but the image {tuple(image.shape)}.")
    wanted = options.pop("labels", None)
    walks = [Walk(4, axis, ((series, t),)) for t in range(given.shape[series])]
    length = given.shape[axis]
    prompts = {}
    for t, walk in enumerate(walks):
        volume = np.moveaxis(given[walk.at(slice(None))], walk.engine_axis, 0)
        painted = np.flatnonzero(volume.any(axis=(1, 2))).tolist()
        prompts[t] = {k: volume[k] for k in painted}
    shown = {t: {i for p in planes.values() for i in ids_on(p)} for t, planes in prompts.items()}
    chosen = {int(i) for i in wanted or set().union(*shown.values())}
    main = max(shown, key=lambda t: (len(shown[t] & chosen), -t))
    if not shown[main] & chosen:
        raise PromptError("Nothing is painted: paint an object on one slice first.")
    if anchors is not None:
        volume = np.moveaxis(given[walks[main].at(slice(None))], walks[main].engine_axis, 0)
        prompts[main] = {_index(k, length): volume[_index(k, length)] for k in anchors}
    prompts = {
        t: {k: plane for k, plane in planes.items() if chosen & {*ids_on(plane)}}
        for t, planes in prompts.items()
    }
    volumes = {t for t, planes in prompts.items() if _is_volume(planes)}
    if anchors is not None:
        volumes.discard(main)
    ids = tuple(sorted(chosen))
    size = tuple(n for a, n in enumerate(given.shape) if a not in (axis, series))
    read_prompts(prompts[main], length, size, shown[main] & chosen)
    inner = {**options, "axis": walks[0].engine_axis, "labels": ids}
    for name in ("start", "stop", "direction", "model", "adapter", "device"):
        inner.pop(name, None)
    for name in inner.keys() & options.keys():
        options.pop(name)
    sources = {t for t in shown if chosen <= shown[t]} | {main}
    steps = tuple(
        Step(
            t,
            source,
            Job(
                held(image, {series: t}),
                {} if t in volumes else prompts[t],
                ids,
                walks[t],
                length,
                dict(inner),
            ),
            taken=t in volumes,
            volume=t in volumes,
        )
        for t, source in order_of(len(walks), main, sources, options.get("direction", "both"))
    )
    over = {**inner, "axis": Walk(4, series, ((axis, 0),)).engine_axis}
    over.pop("spacing", None)
    job = SeriesJob(
        steps,
        main,
        ids,
        ids,
        SeriesWalk(4, axis, (), series, length),
        lambda k: held(image, {axis: k}),
        lambda t, k: given[walks[t].at(k)],
        over,
        Rules(),
    )
    return job, options


def _is_volume(planes: Iterable[int]) -> bool:
    painted = set(planes)
    return any({k + i for i in range(_VOLUME)} <= painted for k in painted)


def _channels(image: Any, shape: tuple[int, ...], picked: list[int]) -> Any:
    """Stack channels of the one axis that the labels do not have."""
    whole = tuple(image.shape)
    axis = next((a for a in range(len(whole)) if whole[:a] + whole[a + 1 :] == shape), None)
    if axis is None:
        raise PromptError(
            f"The image has shape {whole} and the labels {shape}: with channels, the image has one "
            "axis more."
        )
    return pick_channels(image, axis, picked, 0, [shape[0] // 2])


def _put(into: npt.NDArray[Any], labels: npt.NDArray[Any], ids: Iterable[int]) -> None:
    """Write a slice where it is empty or holds labels that are propagated."""
    ours = (into == 0) | np.isin(into, list(ids))
    np.copyto(into, labels, where=ours, casting="same_kind")


def _index(k: int, length: int) -> int:
    if not -length <= k < length:
        raise PromptError(
            f"The prompt slice {k} is outside the image, which has slices 0 to {length - 1}."
        )
    return int(k) % length
