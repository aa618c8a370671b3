"""Ends in a series: objects of which a person says that they have ended at a time point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imos_core.errors import PromptError
from napari_imos._ends import End, comes_back, end_before, facts_of_end, goes_on, meant_label
from napari_imos._job import Job, Rules
from napari_imos._layers import check_writable
from napari_imos._record.ends_in_time import goes_on_in_time, painted_at, step_of, through_time
from napari_imos._record.ledger import Ledger
from napari_imos._series.job import SeriesJob, SeriesWalk, Step
from napari_imos._series.stream import SeriesStream, visible_in_series
from napari_imos._walk import axis_names
from napari_imos._words import place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_imos._walk import Walk


@dataclass(frozen=True)
class SeriesEnd:
    """An object that has ended at a time point, seen from those where it is painted."""

    labels: Labels
    walk: Walk
    """Through the volume of that time point."""
    label: int
    painted: tuple[int, ...]
    """Time points where it is painted, ascending."""
    beyond: tuple[int, ...]
    """Time points from there on where a run has left it."""

    @property
    def index(self) -> int:
        """First time point, on the way from where it is painted, that does not show it."""
        return self.walk.fixed[0][1]

    @property
    def sentence(self) -> str:
        """What a person has said, in words."""
        when = place(axis_names(self.labels)[self.walk.fixed[0][0]], self.index)
        if self.painted and self.index < self.painted[0]:
            return f"Label {self.label} begins after {when}."
        return f"Label {self.label} ends before {when}."

    @property
    def remark(self) -> str:
        """Nothing: what others have put there is not looked for at all time points."""
        return ""

    def note(self) -> None:
        """Put it into the records."""
        ledger = Ledger.of(self.labels)
        for walk in through_time(self.labels, self.walk):
            ledger.record(self.labels, walk).end(self.index, self.label)

    def open_stream(self, viewer: ViewerModel | None) -> SeriesStream:
        """Open the run that takes away what lies beyond; what a person painted stays.

        Parameters
        ----------
        viewer : ViewerModel, optional
            Viewer that shows it.
        """
        length = self.labels.data.shape[self.walk.axis]
        steps = tuple(self._step(t, length) for t in self.beyond)
        along = self.walk.fixed[0][0]
        walk = SeriesWalk(self.labels.ndim, self.walk.axis, (), along, length, self.beyond)
        job = SeriesJob(steps, (self.label,), walk, lambda k: None, {}, Rules())
        visible = visible_in_series(viewer, self.labels, job)
        through = through_time(self.labels, self.walk)
        ends = tuple((other, self.index, self.label) for other in through)
        record = Ledger.of(self.labels).record(self.labels, self.walk)
        facts = facts_of_end(record, self.label)
        return SeriesStream(self.labels, job, visible, facts, ends=ends)

    def _step(self, t: int, length: int) -> Step:
        """Return a step that nothing comes to, so that what was left there goes."""
        walk = step_of(self.walk, t)
        left = Ledger.of(self.labels).left_on(walk, self.label)
        job = Job(
            image=None,
            prompts={},
            ids=(self.label,),
            walk=walk,
            length=length,
            keywords={"labels": (self.label,)},
            spans=((left[0], left[-1] + 1),),
            layer=self.labels,
            basis={self.label: np.zeros(length, np.uint32)},
        )
        return Step(t, None, frozenset({self.label}), job)


def say_end(
    labels: Labels, walk: Walk, index: int, known: Sequence[int], *, in_series: bool
) -> End | SeriesEnd | str:
    """Follow a person who says that the object that is meant has ended, or, again, that it goes on.

    In a series it has ended in time if it is not painted at this time point.

    Parameters
    ----------
    labels, walk, index, known
        See `end_before`.
    in_series : bool
        Whether the whole series is meant.

    Returns
    -------
    End, SeriesEnd or str
        What has ended, checked, nothing is changed; or, of what may go on again, what a person is
        told.

    Raises
    ------
    PromptError
        If nobody can tell which object is meant, or it may not have ended; see `end_before`.
    """
    selected = int(labels.selected_label)
    if in_series and goes_on_in_time(labels, walk, selected):
        ((along, here),) = walk.fixed
        when = place(axis_names(labels)[along], here)
        return f"Label {selected} may go on: Propagate looks for it beyond {when}."
    label = meant_label(labels, walk, index, known)
    said = label in Ledger.of(labels).record(labels, walk).ended.get(index, ())
    if said and (again := comes_back(labels, walk, index, label, known)):
        return again  # slices were given back since
    if goes_on(labels, walk, index, label):
        return f"Label {label} may go on: Propagate looks for it beyond slice {index}."
    in_time = end_in_series(labels, walk, label, known) if in_series else None
    return in_time or end_before(labels, walk, index, label, known)


def end_in_series(labels: Labels, walk: Walk, label: int, known: Sequence[int]) -> SeriesEnd | None:
    """Check that an object may have ended at the time point of a walk; nothing is changed.

    Parameters
    ----------
    labels : Labels
        Layer with four axes.
    walk : Walk
        Through the volume of the time point.
    label : int
        Its label.
    known : sequence of int
        Anchors at this time point.

    Returns
    -------
    SeriesEnd or None
        None if it is painted at this time point: there it ends at a slice, not in time.

    Raises
    ------
    PromptError
        If nobody can tell on which side of the time point the object is.
    """
    check_writable(labels)
    ledger = Ledger.of(labels)
    if any(label in ledger.ids_seen(labels, walk, k) for k in known):
        return None
    ((along, here),) = walk.fixed
    _look_at_others(labels, walk, label)
    painted = painted_at(labels, walk, label)
    name = axis_names(labels)[along]
    if not painted:
        raise PromptError(
            f"Label {label} is painted at no {name} that says on which side of "
            f"{place(name, here)} it is: paint it, or select another label."
        )
    if painted[0] < here < painted[-1]:
        raise PromptError(
            f"Label {label} is painted on both sides of {place(name, here)}: erase it there if it "
            "is not on it."
        )
    count = labels.data.shape[along]
    steps = range(here, count) if here > painted[-1] else range(here, -1, -1)
    beyond = tuple(t for t in steps if ledger.left_on(step_of(walk, t), label))
    return SeriesEnd(labels, walk, label, tuple(painted), beyond)


def _look_at_others(labels: Labels, walk: Walk, label: int) -> None:
    """Look at time points that nobody has come to yet, as in labels from a file."""
    ledger, data = Ledger.of(labels), labels.data
    if not isinstance(data, np.ndarray):
        return
    for t in range(data.shape[walk.fixed[0][0]]):
        there = step_of(walk, t)
        if there not in ledger.records and (data[there.at(slice(None))] == label).any():
            for _ in ledger.examine_all(labels, there):
                pass
