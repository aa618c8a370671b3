"""Series engine: `imos_core.series.steps` on the layers of a viewer; in the worker."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from imos_core.files.model_checksum import model_checksum
from imos_core.prompt import ends_of_painted, joined_ends
from imos_core.series.steps import Step, walk_series
from imos_core.series.volumes import with_model
from napari_imos._engine import Control, score_of, segment
from napari_imos._record.ledger import Ledger
from napari_imos._series.job import SeriesJob

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping

    import numpy.typing as npt

    from imos_core import SegmentedSlice
    from imos_core.series.steps import Found
    from napari_imos._job import Job


def segment_any(
    job: Job | SeriesJob, options: dict[str, Any], control: Control
) -> Generator[SegmentedSlice, None, None]:
    """Yield the slices of a walk, or those of a series.

    Raises
    ------
    ImosError
        If something does not serve, or fails, or files have changed while they were read: of Zarr,
        what is gone looks like an image of zeros.
    """
    from imos_core.files.unchanged import ReadFiles

    options = dict(options)
    control.cancel.given = options.pop("cancel", None)
    read = ReadFiles(
        {str(path): (path, 0) for path in job.files},
        "take it back (Ctrl+Z), and open the image again",
    )
    series = isinstance(job, SeriesJob)
    slices = segment_series(job, options, control) if series else segment(job, options, control)
    with closing(slices):
        yield from slices
    read.refuse_changed()


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
    # where nothing is prompted, everything goes, which needs no model
    if any(not step.taken and (step.source is not None or step.job.prompts) for step in job.steps):
        options = _loaded(options, control)
    volumes = _LayerVolumes(job, options, control)
    steps = [Step(step.index, step.source, step.labels, step.taken) for step in job.steps]
    with closing(walk_series(steps, volumes, control.cancel)) as slices:
        for found in slices:
            flat = found.number * job.walk.length + found.slice.index
            control.scores[flat] = volumes.score(found)
            yield replace(found.slice, index=flat)


class _LayerVolumes:
    """Volumes of a series as layers hold them; what `imos_core.series.steps.Volumes` asks for."""

    def __init__(self, job: SeriesJob, options: dict[str, Any], control: Control) -> None:
        self._job, self._options, self._control = job, options, control
        self._inner = Control(cancel=control.cancel)
        # what differs between them is what is written, and what prompts them
        self._jobs = {step.index: step.job for step in reversed(job.steps)}
        self.length = job.walk.length

    def painted(self, step: int) -> Mapping[int, npt.NDArray[Any]]:
        return self._jobs[step].prompts

    def absent(self, step: int) -> Mapping[int, Collection[int]]:
        return self._jobs[step].absent

    def current(self, step: int, index: int) -> npt.NDArray[Any]:
        return self._jobs[step].held(index)

    def merged(self, number: int, index: int, found: npt.NDArray[Any]) -> npt.NDArray[Any]:
        job = self._job.steps[number].job
        held = job.held(index)
        return job.merge(held, Ledger.of(job.layer).ours(job.walk.at(index), held), found)

    def wanted(self, step: int) -> Iterator[int]:
        for start, stop in self._jobs[step].ranges(self._options):
            yield from range(start, stop)

    def walk(
        self,
        step: int,
        prompts: Mapping[int, npt.NDArray[Any]],
        labels: Collection[int],
        *,
        away: int = 0,
        within: tuple[int, int] | None = None,
    ) -> Generator[SegmentedSlice, None, None]:
        job = self._jobs[step]
        here = replace(
            job,
            prompts=dict(prompts),
            keywords={**job.keywords, "labels": tuple(sorted(labels))},
        )
        if within is not None:
            here = replace(here, spans=(within,), ended={})
        self._inner = Control(cancel=self._control.cancel, away=away)
        ends = ends_of_painted(joined_ends({}, self._options.get("ends")), prompts)
        return segment(here, {**self._options, "ends": ends}, self._inner)

    def across(self, index: int) -> tuple[Any, Mapping[str, Any]]:
        # slices where a label has ended are no time points
        options = {name: value for name, value in self._options.items() if name != "ends"}
        return self._job.across(index), {**self._job.keywords, **options}

    def score(self, found: Found) -> float:
        """Jaccard index to be expected of a slice that was just found."""
        if found.origin == "empty":
            return 1.0
        if found.origin == "carried":
            return score_of(found.slice, found.carried, self._inner.away)
        return self._inner.scores[found.slice.index]


def _loaded(options: dict[str, Any], control: Control) -> dict[str, Any]:
    """Load the model once for all steps, and note which one it is."""
    name = options.get("model", "imos-compact")
    if isinstance(name, str | PathLike):
        control.facts["sha256"] = model_checksum(name)
    return with_model(options)
