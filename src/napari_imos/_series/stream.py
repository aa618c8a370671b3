"""SeriesStream: slices of a series on their way into a layer, one stream for every time step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_imos._job import Rules
from napari_imos._opening import open_stream, run_facts
from napari_imos._picture import several
from napari_imos._record.filled import facts_of, refuse_in_series
from napari_imos._series.steps import read_series
from napari_imos._stream import LabelsStream, commit_together
from napari_imos._walk import position, shown_slice, shows_across

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_imos._record.changes import Change
    from napari_imos._series.job import SeriesJob
    from napari_imos._walk import Walk


class SeriesStream:
    """Stands in for a `LabelsStream`: slices are numbered through, all of it is one step of undo.

    Parameters
    ----------
    labels : Labels
        Layer that is written.
    job : SeriesJob
        What is done.
    visible : callable, optional
        Whether the viewer shows a slice, numbered through.
    facts : dict, optional
        What the records should say of the run.
    ends : tuple of (Walk, int, int)
        See `LabelsStream`.

    Raises
    ------
    PropagationError
        If another run is writing into the layer.
    """

    def __init__(
        self,
        labels: Labels,
        job: SeriesJob,
        visible: Callable[[int], bool] | None = None,
        facts: dict[str, Any] | None = None,
        *,
        ends: tuple[tuple[Walk, int, int], ...] = (),
    ) -> None:
        self.labels, self.job, self._ends = labels, job, ends
        self.slices = 0
        """Slices that have arrived, prompts included."""
        self._visible = visible or (lambda index: True)
        self._facts = facts or {}
        self._streams: dict[int, LabelsStream] = {}
        # at once, so that no other run begins
        self._open(next((n for n, step in enumerate(job.steps) if not step.taken), 0))

    @property
    def changes(self) -> list[Change]:
        """What was written so far."""
        return [change for stream in self._streams.values() for change in stream.changes]

    @property
    def hindered(self) -> tuple[int, int]:
        """See `LabelsStream.hindered`."""
        slices, voxels = zip(*(s.hindered for s in self._streams.values()), strict=True)
        return sum(slices), sum(voxels)

    @property
    def undoable(self) -> bool:
        """After `commit`: whether Ctrl+Z takes the run back."""
        return all(stream.undoable for stream in self._streams.values())

    def is_visible(self, index: int) -> bool:
        """Whether the viewer shows a slice."""
        return self._visible(index)

    def write(
        self,
        index: int,
        result: npt.NDArray[Any],
        confidence: float = math.nan,
        source: str = "",
    ) -> None:
        """Write one finished slice; see `LabelsStream.write`."""
        next(iter(self._streams.values())).check_array()
        self.slices += 1
        number, k = divmod(index, self.job.walk.length)
        stream = self._streams.get(number) or self._open(number)
        if self.job.again(index):
            confidence = min(confidence, stream.confidence(k))
        stream.write(k, result, confidence, source)

    def witness(self) -> Callable[[], bool]:
        """Return what says whether the run stands, or was taken back."""
        streams = list(self._streams.values())
        return next((s for s in streams if s.changes), streams[0]).witness()

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Add to what the records say of the run."""
        for stream in self._streams.values():
            stream.tell(facts)

    def commit(self) -> None:
        """End the run and make it one step of the layer's undo history."""
        for _ in self.commit_slowly():
            pass

    def commit_slowly(self) -> Iterator[None]:
        """Do what `commit` does, bit by bit."""
        yield from commit_together(list(self._streams.values()))

    def _open(self, number: int) -> LabelsStream:
        step = self.job.steps[number]
        facts = {
            **self._facts,
            **facts_of(step.job.through),
            "ranges": [list(r) for r in step.job.ranges(self._facts)],
            "series": self._facts.get("series")
            or {
                "axis": self.job.walk.along,
                "start": self.job.start.index,
                "from": step.source,
            },
        }
        first = number * self.job.walk.length
        stream = self._streams[number] = LabelsStream(
            self.labels,
            step.job,
            lambda k: self._visible(first + k),
            facts,
            joins=bool(self._streams),
            ends=self._ends,
        )
        return stream


def open_series(
    image: Image,
    labels: Labels,
    axis: int | str,
    series: int | str,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
    viewer: ViewerModel | None,
    rules: Rules | None = None,
    channels: int | Image | Iterable[Any] | None = None,
) -> tuple[SeriesStream, dict[str, Any]]:
    """Check layers and open a stream for a series; see `open_stream` and `read_series`.

    Raises
    ------
    ImosError
        If something does not serve.
    """
    options = dict(keywords)
    refuse_in_series(options)
    rules = rules or Rules()
    picked = [] if channels is None else several(channels)
    job = read_series(image, labels, axis, series, anchors, options, viewer, rules, picked)
    options.pop("labels", None)
    for name in job.start.job.keywords.keys() & options.keys():
        given = options.pop(name)
        for step in job.steps:
            step.job.keywords[name] = given
        if name != "spacing":
            job.keywords[name] = given
    ranges = {name: options.get(name) for name in ("start", "stop")}
    facts = {**run_facts(image, job.start.job, options, picked), **ranges}

    return SeriesStream(labels, job, visible_in_series(viewer, labels, job), facts), options


def visible_in_series(
    viewer: ViewerModel | None, labels: Labels, job: SeriesJob
) -> Callable[[int], bool]:
    """Return what says whether a viewer shows a slice, numbered through; see `visible_in`."""

    def visible(index: int) -> bool:
        if viewer is None:
            return True
        (_, step), (_, k) = job.walk.positions(index)
        if position(labels, viewer)[job.walk.along] != step:
            return _shows_steps(labels, job, viewer)
        walk = job.start.job.walk
        return shows_across(labels, walk, viewer) or k == shown_slice(labels, walk, viewer)

    return visible


def open_any(
    image: Image,
    labels: Labels,
    axis: int | str,
    series: int | str | None,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
    viewer: ViewerModel | None,
    rules: Rules | None = None,
    channels: int | Image | Iterable[Any] | None = None,
) -> tuple[LabelsStream | SeriesStream, dict[str, Any]]:
    """Open a stream for a series if there is one, and else for a walk; see `open_stream`."""
    picked = None if channels is None else several(channels)
    if series is None:
        return open_stream(image, labels, axis, anchors, keywords, viewer, rules, picked)
    return open_series(image, labels, axis, series, anchors, keywords, viewer, rules, picked)


def _shows_steps(labels: Labels, job: SeriesJob, viewer: ViewerModel) -> bool:
    """Whether the viewer displays the axis of the series."""
    return job.walk.along + viewer.dims.ndim - labels.ndim in viewer.dims.displayed
