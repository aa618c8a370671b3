"""Series engine: one time step after another, each prompted by the one before; in the worker."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.sidecar import model_checksum
from napari_imos._engine import Control, score_of, segment
from napari_imos._series_job import SeriesJob
from napari_imos._walk import ids_on

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy.typing as npt

    from imos_core import SegmentedSlice
    from napari_imos._layers import Job
    from napari_imos._series_job import Step

    Planes = dict[int, npt.NDArray[Any]]

_THIN = 0.25  # share of its largest slice below which an object is cut too near to its end


@dataclass
class _Carried:
    """A prompt that comes from the step before."""

    labels: npt.NDArray[Any]
    """`(H, W)`."""
    confidence: Any
    """`(H, W)`, as the engine gave it."""


def segment_any(
    job: Job | SeriesJob, options: dict[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    """Yield the slices of a walk, or those of a series."""
    if isinstance(job, SeriesJob):
        return segment_series(job, options, control)
    return segment(job, options, control)


def segment_series(
    job: SeriesJob, options: dict[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    """Yield the slices of a series, numbered through.

    Parameters
    ----------
    job : SeriesJob
        From the layers.
    options : dict
        Further keywords of `imos_core.propagate`; `direction` was that of the series.
    control : Control
        To stop, and for what is found out.

    Raises
    ------
    ImosError
        If something does not serve, or fails.
    """
    options = {**options, "direction": "both"}
    if any(not step.taken for step in job.steps):
        options = _loaded(options, control)
    keys: dict[int, Planes] = {}
    for number, step in enumerate(job.steps):
        planes: Planes = {}
        if not step.taken:
            carried = {}
            if step.source is not None:
                carried = _carry(job, step, keys[step.source], options, control)
            if control.cancel.is_set():
                return
            for item in _through(job, step, carried, options, control):
                planes[item.index] = item.labels
                flat = step.index * job.walk.length + item.index
                yield replace(item, index=flat)
                if control.cancel.is_set():
                    return
        later = job.steps[number + 1 :]
        if any(other.source == step.index and not other.taken for other in later):
            keys[step.index] = _key_planes(job, step, planes)
        for t in [t for t in keys if not any(other.source == t for other in later)]:
            del keys[t]


def _loaded(options: dict[str, Any], control: Control) -> dict[str, Any]:
    """Load the model once for all steps."""
    import imos_core

    options = dict(options)
    name = options.get("model", "imos-compact")
    if not isinstance(name, str | PathLike):
        return options
    control.facts["sha256"] = model_checksum(name)
    options["model"] = imos_core.load_model(
        name, adapter=options.pop("adapter", None), device=options.get("device", "auto")
    )
    return options


def _through(
    job: SeriesJob,
    step: Step,
    carried: Mapping[int, _Carried],
    options: dict[str, Any],
    control: Control,
) -> Generator[SegmentedSlice, None, None]:
    """Walk through one time step."""
    inner = Control(cancel=control.cancel, away=_away(job, step))
    prompts = _prompts(step, carried)
    side = "forward" if step.source is None or step.index > step.source else "backward"
    held = {i for plane in prompts.values() for i in ids_on(plane)} & set(job.known)
    if not held:
        yield from _nothing(job, step, options, control)
        return
    keywords = {**step.job.keywords, "labels": tuple(sorted(held))}
    here = replace(step.job, prompts=prompts, keywords=keywords)
    with closing(segment(here, options, inner)) as slices:
        for item in slices:
            given, score = item, inner.scores[item.index]
            if item.index in carried and item.index not in step.job.prompts:
                made = carried[item.index]
                given = replace(item, source=side, confidence=made.confidence)
                score = score_of(given, carried, inner.away)
            control.scores[step.index * job.walk.length + item.index] = score
            yield given


def _away(job: SeriesJob, step: Step) -> int:
    """How many steps lie between this one and the one where its prompts were painted."""
    sources = {one.index: one.source for one in job.steps}
    away, source = 0, step.source
    while source is not None:
        away, source = away + 1, sources[source]
    return away


def _prompts(step: Step, carried: Mapping[int, _Carried]) -> Planes:
    """Put together what was painted and what was carried; what was painted goes first."""
    prompts = {k: plane.copy() for k, plane in step.job.prompts.items()}
    for k, made in carried.items():
        plane = prompts.setdefault(k, np.zeros_like(made.labels))
        np.copyto(plane, made.labels, where=plane == 0, casting="unsafe")
    return prompts


def _nothing(
    job: SeriesJob, step: Step, options: Mapping[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    """Yield a step in which no object is left, without asking the engine."""
    from imos_core import SegmentedSlice

    empty = np.zeros_like(job.current(step.index, 0))
    sure = np.ones(empty.shape, np.float16)
    for start, stop in step.job.ranges(options):
        for k in range(start, stop):
            control.scores[step.index * job.walk.length + k] = 1.0
            yield SegmentedSlice(k, empty, sure, "forward")


def _carry(
    job: SeriesJob, step: Step, keys: Mapping[int, Any], options: dict[str, Any], control: Control
) -> dict[int, _Carried]:
    """Carry key slices of the step before to this one, along time.

    Labels that a person painted in this step are not carried; they are walked first, so that they
    stand on the slices that are.
    """
    own = {i for plane in step.job.prompts.values() for i in ids_on(plane)} & set(job.known)
    wanted = set(job.known) - own
    chosen = {k: plane for k, plane in keys.items() if wanted & set(ids_on(plane))}
    if not chosen or step.source is None:
        return {}
    there = _painted_labels(job, step, own, chosen, options, control) if own else {}
    carried = {}
    for k, plane in chosen.items():
        if control.cancel.is_set():
            return carried
        item = _step_in_time(job, step, k, plane, options, control)
        if item is None:
            continue
        labels = np.where(np.isin(item.labels, list(wanted)), item.labels, 0)
        if k in there:
            labels = np.where(there[k] != 0, there[k], labels)
        carried[k] = _Carried(labels.astype(plane.dtype), item.confidence)
    return carried


def _step_in_time(
    job: SeriesJob,
    step: Step,
    k: int,
    plane: npt.NDArray[Any],
    options: dict[str, Any],
    control: Control,
) -> SegmentedSlice | None:
    """Carry one slice from one time step to the next."""
    import imos_core

    source = step.source
    assert source is not None, "a step that starts is not prompted"
    keywords = {
        **job.keywords,
        **options,
        "labels": tuple(sorted(set(ids_on(plane)) & set(job.known))),
        "start": min(source, step.index),
        "stop": max(source, step.index) + 1,
    }
    slices: Any = imos_core.propagate(
        job.across(k), {source: plane}, cancel=control.cancel, **keywords
    )
    with closing(slices):
        for item in slices:
            if item.index == step.index:
                found: SegmentedSlice = item
                return found
    return None


def _painted_labels(
    job: SeriesJob,
    step: Step,
    own: set[int],
    chosen: Mapping[int, Any],
    options: dict[str, Any],
    control: Control,
) -> Planes:
    """Find, on the slices that are carried, the labels that are painted elsewhere in the step."""
    open_ = [k for k in chosen if k not in step.job.prompts]
    if not open_:
        return {}
    keywords = {**step.job.keywords, "labels": tuple(sorted(own))}
    here = replace(step.job, keywords=keywords, spans=((min(open_), max(open_) + 1),))
    with closing(segment(here, options, Control(cancel=control.cancel))) as slices:
        return {
            item.index: np.where(np.isin(item.labels, list(own)), item.labels, 0)
            for item in slices
            if item.index in open_
        }


def _key_planes(job: SeriesJob, step: Step, planes: Planes) -> Planes:
    """Choose the slices of a finished step on which the next one is prompted."""

    def plane_of(k: int) -> npt.NDArray[Any]:
        plane = planes[k] if k in planes else job.current(step.index, k)
        return np.where(np.isin(plane, job.known), plane, plane.dtype.type(0))

    areas: dict[int, npt.NDArray[np.int64]] = {}
    for k in range(job.walk.length):
        ids, counts = np.unique(plane_of(k), return_counts=True)
        for label, count in zip(ids.tolist(), counts.tolist(), strict=True):
            if label:
                areas.setdefault(label, np.zeros(job.walk.length, np.int64))[k] = count
    chosen = {k for area in areas.values() for k in key_slices(area)}
    return {k: plane_of(k) for k in sorted(chosen)}


def key_slices(area: npt.NDArray[np.int64]) -> list[int]:
    """Slices on which an object is best seen.

    Parameters
    ----------
    area : ndarray
        `(Z,)` pixels of the object on every slice.

    Returns
    -------
    list of int
        The largest slice, and one halfway to either end where the object is not thin.
    """
    best = int(np.argmax(area))
    held = np.flatnonzero(area)
    # of equally large slices, the one in the middle of the object
    largest = np.flatnonzero(area == area[best])
    best = int(largest[np.argmin(np.abs(largest - held.mean()))])
    keys = [best]
    for end in (int(held[0]), int(held[-1])):
        half = round((best + end) / 2)
        if abs(half - best) > 1 and area[half] > _THIN * area[best]:
            keys.append(half)
    return sorted(keys)
