"""Engine: `imos_core.propagate` for a job, range by range, cut where labels have ended."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, field
from os import PathLike
from threading import Event, Semaphore
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.files.model_checksum import model_checksum
from imos_core.label_ids import carries
from imos_core.prompt import ends_of_painted, joined_ends
from imos_core.series.volumes import with_model
from imos_core.through import through_unshown
from imos_core.walking.patience import patience_of

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

    from imos_core import SegmentedSlice
    from imos_core.errors import ImosError
    from imos_core.segmented import Cancel
    from napari_imos._job import Job


_AHEAD = 4
"""Slices that may wait for the main thread; what waits is in memory, and is written after Stop."""


class Stop(Event):
    """Says stop when it is set, or when what the caller has given does."""

    given: Cancel | None = None
    """The caller's own."""

    def is_set(self) -> bool:
        return super().is_set() or (self.given is not None and self.given.is_set())


@dataclass
class Control:
    """What the main thread and the one that computes tell each other."""

    cancel: Stop = field(default_factory=Stop)
    """Set by the main thread to stop; `Stop.given` by the caller of `propagate`."""
    room: Semaphore = field(default_factory=lambda: Semaphore(_AHEAD))
    """Acquired for every slice that is handed over, released by the main thread once it has it."""
    error: ImosError | None = None
    """Set by the worker when it fails."""
    scores: dict[int, float] = field(default_factory=dict)
    """Slice -> Jaccard index to be expected of it; set before the slice is yielded."""
    away: int = 0
    """How far the prompts themselves are from what a person made, in slices."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was found out of the model."""


def segment(
    job: Job, options: dict[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    """Yield the slices of a job.

    Parameters
    ----------
    job : Job
        From the layers.
    options : dict
        Further keywords of `imos_core.propagate`.
    control : Control
        To stop, and for what is found out.

    Raises
    ------
    ImosError
        If something does not serve, or fails.
    """
    if job.ended:
        yield from _take_away(job, control)
        if control.cancel.is_set():
            return
    with closing(_ranges(job, options, control)) as slices:
        for item in slices:
            control.scores[item.index] = score_of(item, job.prompts, control.away)
            yield item
            if control.cancel.is_set():
                return


def _ranges(
    job: Job, options: dict[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    # torch is imported here, in the thread: a menu must open at once
    import imos_core

    patience = patience_of(job.rules.stop_when_gone)
    keywords = {**patience, **job.keywords, **options}
    known = ends_of_painted(job.absent, job.prompts)
    keywords["ends"] = joined_ends(known, options.get("ends"))
    if goes := through_unshown(job.through, job.prompts):
        keywords["through"] = goes
    name = keywords.get("model", "imos-compact")
    ranges = job.ranges(options)
    unread = isinstance(name, str | PathLike) and bool(ranges)
    if unread:
        control.facts["sha256"] = model_checksum(name)
    if len(ranges) > 1:
        # once for all ranges
        keywords = with_model(keywords)
    whole = job.spans is None and job.covered is None
    for start, stop in ranges:
        span = {} if whole else {"start": start, "stop": stop}
        slices: Any = imos_core.propagate(
            job.image, job.prompts, cancel=control.cancel, **{**keywords, **span}
        )
        with closing(slices):
            yield from slices
        if control.cancel.is_set():
            return


def _take_away(job: Job, control: Control) -> Generator[SegmentedSlice, None, None]:
    """Yield slices without the labels that have ended before them, without asking the engine."""
    from imos_core.segmented import SegmentedSlice

    for k, labels in job.ended.items():
        if control.cancel.is_set():
            return
        plane = job.held(k)
        plane[carries(plane, labels)] = 0
        side: Any = "backward" if k < min(job.prompts, default=0) else "forward"
        sure = np.ones(plane.shape, np.float16)
        # of other labels nothing new is known
        control.scores[k] = math.nan if plane.any() else 1.0
        yield SegmentedSlice(k, plane, sure, side)


def score_of(item: SegmentedSlice, prompts: Collection[int], away: int = 0) -> float:
    """Return how good a slice as a whole is expected to be.

    Parameters
    ----------
    item : SegmentedSlice
        From the engine.
    prompts : collection of int
        Slices that served as prompts.
    away : int
        How far they are from what a person made.
    """
    confidence = getattr(item, "confidence", None)
    if confidence is None:
        return math.nan
    from imos_core.review import anchor_distance, expected_jaccard

    distance = anchor_distance(item.index, prompts) + away
    return float(expected_jaccard(confidence, item.labels, distance))
