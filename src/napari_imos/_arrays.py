"""Arrays: propagation without layers, of three axes or of a whole series, with chosen channels."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.axes import held
from imos_core.arrays.channels import limits_of, pick_channels
from imos_core.arrays.painted import fill, refuse_across, warn_if_all
from imos_core.errors import PromptError
from imos_core.label_ids import ids_on
from imos_core.prompt import check_ends, inside, without_mask
from imos_core.series.plan import plan_series
from imos_core.series.volumes import SeriesImages, SeriesRules, fill_series
from imos_core.whole_numbers import axis_of, whole_numbers
from napari_imos._activity import bar
from napari_imos._record.filled import refuse_in_series

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt


def propagate_arrays(
    image: Any,
    labels: Any,
    axis: int | str,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
    series: int | str | None = None,
    channels: int | Iterable[int] | None = None,
    *,
    shown: bool = True,
) -> npt.NDArray[Any]:
    """Do what `propagate` does with arrays.

    Raises
    ------
    ImosError
        If something does not serve.
    """
    given = np.asarray(without_mask(labels))
    if given.dtype.kind not in "bui":
        raise PromptError(
            f"Labels must be integers, but these are {given.dtype}: convert them with .astype(int)."
        )
    if not hasattr(image, "shape"):
        image = np.asarray(image)
    for name in (axis, series):
        if isinstance(name, str):
            raise PromptError(f"Arrays have no axis {name!r}: give its number.")
    walked, stepped = _axes(given, int(axis), None if series is None else int(series))
    if channels is not None:
        picked = whole_numbers(channels, "channels")
        image = _channels(image, given, walked, stepped, anchors, picked)
        keywords = {**keywords, "channels_last": image.ndim > given.ndim}
    elif tuple(image.shape[:-1]) == given.shape and image.shape[-1] in (3, 4):
        keywords = {"channels_last": True, **keywords}
    if stepped is not None:
        return _series(image, given, walked, stepped, anchors, keywords, shown)
    return _walk(image, given, walked, anchors, keywords, shown)


def _axes(given: npt.NDArray[Any], axis: int, series: int | None) -> tuple[int, int | None]:
    """Check the axes that are walked, and count them from the first."""
    if series is None:
        if given.ndim != 3:
            raise PromptError(f"Labels must have three axes, but their shape is {given.shape}.")
        return axis_of(axis), None
    if given.ndim != 4 or not (-4 <= axis < 4 and -4 <= series < 4) or axis % 4 == series % 4:
        raise PromptError(
            "A whole series needs labels with four axes, and two different ones to walk: give "
            f"axis and series, 0 to 3; the labels have shape {given.shape}."
        )
    return axis % 4, series % 4


def _walk(
    image: Any,
    given: npt.NDArray[Any],
    axis: int,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
    shown: bool,
) -> npt.NDArray[Any]:
    import imos_core

    _check_shape(image, given)
    slices = np.moveaxis(given, axis, 0)
    by_default = anchors is None
    if anchors is None:
        anchors = np.flatnonzero(slices.any(axis=(1, 2))).tolist()
        refuse_across({k: slices[k] for k in anchors}, axis)
    chosen = sorted(inside(anchors, len(slices)))
    prompts = {k: slices[k] for k in chosen}
    result = np.array(given)
    into = np.moveaxis(result, axis, 0)
    ids = keywords["labels"] or ids_on(slices[chosen])
    found = imos_core.propagate(image, prompts, axis=axis, **keywords)
    if by_default and not keywords.get("through"):
        warn_if_all(prompts, len(slices), ids)
    if getattr(keywords.get("checkpoint"), "finished", ()):
        raise PromptError(
            "The checkpoint holds finished slices that do not come again, so that the array would "
            "lack them: start without resume, or use imos_core.propagate."
        )
    start, stop = keywords.get("start") or 0, keywords.get("stop")
    ahead = (len(slices) if stop is None else stop) - start
    total = ahead if keywords.get("direction", "both") == "both" else None
    with bar(found, total, shown=shown) as segmented:
        for item in segmented:
            if item.source != "anchor":
                fill(into[item.index], item.labels, ids)
    return result


def _check_shape(image: Any, given: npt.NDArray[Any]) -> None:
    """Refuse labels that do not fit the image, whose last axis may be colours."""
    shape = tuple(image.shape)
    if shape[: given.ndim] != given.shape:
        raise PromptError(
            f"Labels have shape {given.shape}, but the image {shape}: give labels of its size."
        )


def _series(
    image: Any,
    given: npt.NDArray[Any],
    axis: int,
    series: int,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
    shown: bool,
) -> npt.NDArray[Any]:
    _check_shape(image, given)
    options = dict(keywords)
    refuse_in_series(options)
    result = np.array(given)
    into = np.moveaxis(result, (series, axis), (0, 1))
    count, length = into.shape[:2]
    painted = {
        t: {int(k): np.array(volume[k]) for k in np.flatnonzero(volume.any(axis=(1, 2)))}
        for t, volume in enumerate(into)
        if volume.any()
    }
    plan = plan_series(
        painted,
        count,
        labels=options.pop("labels", None),
        anchors=None if anchors is None else sorted(inside(anchors, length)),
        direction=options.pop("direction", "both"),
    )
    if (ends := options.get("ends")) is not None:
        # the engine hears, at each time point, only of labels that are painted there
        check_ends(ends, set(ids_on(given)))
    start, stop = options.pop("start", None), options.pop("stop", None)
    within = (start or 0, length if stop is None else stop)
    images = SeriesImages(
        lambda t: held(image, {series: t}),
        lambda k: held(image, {axis: k}),
        axis=axis - (series < axis),
        through=series - (axis < series),
        spacing=options.pop("spacing", None),
    )
    cancel = options.pop("cancel", None)
    total = sum(not step.taken for step in plan.steps) * (within[1] - within[0])
    found = fill_series(into, images, plan, options, SeriesRules(within), cancel)
    with closing(found) as slices, bar(slices, total, shown=shown) as segmented:
        for _ in segmented:
            pass
    return result


def _channels(
    image: Any,
    given: npt.NDArray[Any],
    axis: int,
    series: int | None,
    anchors: Iterable[int] | None,
    picked: list[int],
) -> Any:
    """Stack channels of the one axis that the labels do not have, as bright as prompts show them.

    Of a series, those of the first time point that is painted.
    """
    shape, whole = given.shape, tuple(image.shape)
    at = next((a for a in range(len(whole)) if whole[:a] + whole[a + 1 :] == shape), None)
    if at is None:
        raise PromptError(
            f"The image has shape {whole} and the labels {shape}: with channels, the image has one "
            "axis more."
        )
    step, along, volume = {}, axis, given
    if series is not None:
        steps = np.moveaxis(given, series, 0)
        step = {series: next((t for t, one in enumerate(steps) if one.any()), 0)}
        along, volume = axis - (series < axis), steps[step[series]]
    volume = np.moveaxis(volume, along, 0)
    painted = np.flatnonzero(volume.any(axis=(1, 2))) if anchors is None else anchors
    planes = {k: volume[k] for k in inside(painted, len(volume))}
    limits: list[tuple[float, float]] = []
    if step and len(picked) > 1:
        parts = (held(held(image, {at: one % whole[at]}), step) for one in picked)
        limits = [limits_of(part, along, planes) for part in parts]
    return pick_channels(image, at, picked, axis, planes, limits)
