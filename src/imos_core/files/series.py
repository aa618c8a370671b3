"""A series of volumes from files to a file, volume by volume, resumable."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.painted import Painted, refuse_across
from imos_core.errors import FileError, PromptError
from imos_core.files.budget import read_limit
from imos_core.files.model_checksum import model_checksum
from imos_core.files.one_run import only_run
from imos_core.files.outdated import mark_done
from imos_core.files.propagate import (
    check_place,
    contrast_of,
    keep_inputs,
    propagate_files,
    seen,
    spaced_like,
    spatial_shape,
    told_spacing,
)
from imos_core.files.results import discard, kept_if_interrupted, work_folder
from imos_core.files.series_results import FinishedVolumes, SeriesResults
from imos_core.files.unchanged import ReadFiles
from imos_core.formats.volume import SingleVolumeError
from imos_core.io import check_output, read_labels, read_volume, write_all
from imos_core.series.plan import plan_series
from imos_core.series.volumes import SeriesImages, SeriesRules, fill_series
from imos_core.through import where_shown, without_through
from imos_core.walking.checkpoint import fingerprint
from imos_core.whole_numbers import axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.arrays.channels import Limits
    from imos_core.files.propagate import FileJob
    from imos_core.formats.volume import Place, Volume
    from imos_core.segmented import SegmentedSlice
    from imos_core.series.plan import Planes, SeriesPlan
    from imos_core.series.steps import Found

    Watch = Callable[[Iterator[SegmentedSlice], int, int], Iterator[SegmentedSlice]]
    """Slices, how many there will be in all, how many are there already -> the same slices."""

_SUFFIXES = (".tif", ".tiff", ".zarr", ".npy")
_ANYHOW = ("device", "batch", "memory_budget")  # say how, not what


@dataclass(frozen=True)
class FileSeries:
    """What is to be propagated through a series of volumes, and where the result goes."""

    job: FileJob
    """Files and options; `anchors` are slices of the step where it starts, `direction` is that of
    the series, `time` is not looked at."""
    main: int | None = None
    """Step where it starts; by default the first of those with most labels."""
    along: int = 0
    """Axis of four that is time."""
    anchors: Mapping[int, Sequence[int]] | None = None
    """Step -> its painted slices; by default all that are painted."""
    volumes: Collection[int] | None = None
    """Steps that are taken as they are; None: see `plan_series`."""
    absent: Mapping[int, Mapping[int, Sequence[int]]] = field(default_factory=dict)
    """Step -> label -> slices from which a person erased it."""
    through: Mapping[int, Mapping[int, Sequence[int]]] = field(default_factory=dict)
    """Step -> label -> painted slices that say nothing of it, onto which it is filled in."""

    @property
    def output(self) -> Path:
        """File that will be written."""
        return self.job.output

    def outputs(self) -> list[Path]:
        """Files that will be written."""
        return self.job.outputs()

    def inputs(self) -> list[Path]:
        """Files that are read, but for models."""
        return self.job.inputs()

    @property
    def start(self) -> FileJob:
        """Job of the step where it starts, alone."""
        return self.job if self.main is None else replace(self.job, time=self.at(self.main))

    @property
    def axis(self) -> int:
        """Axis of four that is walked within a step."""
        return self.job.axis + (self.job.axis >= self.along)

    def at(self, step: int) -> Place:
        """Place of a volume, as `read_volume` is told."""
        return (self.along, step) if self.along else step

    def across(self, index: int) -> Place:
        """Place of a slice through time."""
        return (self.axis, index) if self.axis else index


def series_of(job: FileJob, main: int | None) -> FileSeries:
    """Return the series that a command asks for.

    Parameters
    ----------
    job : FileJob
        Files and options.
    main : int or None
        Step where it starts.

    Raises
    ------
    PromptError
        If it says something that is said of one volume.
    """
    if job.fill_anchors:
        raise PromptError("--fill-anchors is for one volume: of a series, propagate in napari.")
    if job.absent:
        raise PromptError("--ended is for one volume: of a series, say it in napari.")
    return FileSeries(job, main)


def propagate_series_files(
    series: FileSeries,
    *,
    resume: bool = False,
    restart: bool = False,
    watch: Watch | None = None,
) -> None:
    """Propagate what is painted in some volumes of a file through all of its volumes.

    Labels of the whole series are kept in a hidden folder beside the output, which survives any end
    of the process once a volume is finished.

    Parameters
    ----------
    series : FileSeries
        What and where.
    resume : bool
        Go on with an interrupted run of the same series; without one, begin.
    restart : bool
        Throw an interrupted run away.
    watch : callable, optional
        Shows progress: gets the slices, their number and how many are done, yields the slices.

    Raises
    ------
    ImosError
        If something does not fit, or the disk is full; finished volumes are kept.
    """
    job = _checked(series.job)
    with only_run(job.outputs()):
        _propagate(replace(series, job=job), resume, restart, watch)


def _propagate(series: FileSeries, resume: bool, restart: bool, watch: Watch | None) -> None:
    job = series.job
    # first, as labels may be replaced as soon as they were read
    read = ReadFiles({"image": (job.image, job.level), "labels": (job.painted, 0)})
    files = _Files(series)
    plan = files.plan()
    folder = work_folder(job.output)
    record = FinishedVolumes(folder, _digest(files, plan), read)
    shape, sure = (files.count, *files.shape), job.confidence is not None
    results = SeriesResults(folder, shape, files.dtype, job.axis, confidence=sure)
    if record.exists and not resume and not restart:
        raise FileError(
            f"{job.output} has an interrupted run that can go on: resume it (--resume), or start "
            "anew (--restart)."
        )
    done = record.read() if resume and not restart else []
    if not done:
        discard([folder])
    steps = [replace(s, taken=s.taken or n in done) for n, s in enumerate(plan.steps)]
    plan = replace(plan, steps=tuple(steps))
    within = (files.start, files.stop)
    rules = SeriesRules(within, series.absent, series.through, job.stop_when_gone)
    options = {k: v for k, v in job.options.items() if k != "direction"}
    options |= {"channels_last": files.colours, **contrast_of(job)}
    each, todo = files.stop - files.start, sum(not step.taken for step in plan.steps)
    with kept_if_interrupted([folder], record, "finished volumes are"), closing(results):
        if not done:
            results.begin(files.painted, {step.index for step in plan.steps if step.taken})

        def fill() -> None:
            # what it holds of the results goes when it ends, however it does
            found = fill_series(results.labels, files.images, plan, options, rules)
            slices = _recorded(found, record, results, done)
            if watch is not None:
                slices = watch(slices, (todo + len(done)) * each, len(done) * each)
            for _ in slices:
                pass

        fill()
        read.refuse_changed()
        arrays = (np.moveaxis(array, 0, series.along) for array in results.volumes())
        write_all(list(zip(job.outputs(), arrays, strict=True)), files.like)


def propagate_any(
    job: FileJob | FileSeries,
    *,
    resume: bool = False,
    restart: bool = False,
    every: int = 50,
    watch: Watch | None = None,
) -> None:
    """Do as `propagate_files` with a job, and as `propagate_series_files` with a series."""
    if isinstance(job, FileSeries):
        propagate_series_files(job, resume=resume, restart=restart, watch=watch)
    else:
        propagate_files(job, resume=resume, restart=restart, every=every, watch=watch)
    mark_done(job.outputs())


def _recorded(
    found: Generator[Found, None, None],
    record: FinishedVolumes,
    results: SeriesResults,
    done: Sequence[int],
) -> Iterator[SegmentedSlice]:
    """Pass slices on, and note when a volume is finished, by its number in the plan."""
    finished, before = list(done), None
    with closing(found):
        for one in found:
            if before is not None and before != one.number:
                results.flush()
                finished.append(before)
                record.write(finished)
            before = one.number
            results.note(one)
            yield one.slice


class _Files:
    """The image and the painted labels of a series."""

    def __init__(self, series: FileSeries) -> None:
        self.series, job = series, series.job
        try:
            image = read_volume(job.image, job.level, series.at(0))
        except SingleVolumeError:
            raise PromptError(f"{job.image} is one volume, no series of them.") from None
        try:
            read_volume(job.painted, time=series.at(0))
            self._single = False
        except SingleVolumeError:
            self._single = True
        labels = read_labels(job.painted, series.at(0))
        self.shape = spatial_shape(job, image, labels)
        check_place(job, image, labels)
        self.like = spaced_like(job, image, labels)
        self._through = [a for a in range(4) if a != series.axis].index(series.along)
        across = read_volume(job.image, job.level, series.across(0))
        self.count = int(across.array.shape[self._through])
        self.dtype = np.dtype(labels.array.dtype)
        length = self.shape[job.axis]
        self.start, self.stop = job.start or 0, length if job.stop is None else job.stop
        if not 0 <= self.start < self.stop <= length:
            raise PromptError(
                f"There are no slices {self.start} to {self.stop} (excluded): the volumes have 0 "
                f"to {length - 1}."
            )
        self.colours = False
        self._limits: Sequence[Limits] = ()
        self.images = SeriesImages(
            lambda t: self._seen(t).array,
            lambda k: self._across(k).array,
            job.axis,
            self._through,
            told_spacing(job, self.like),
        )

    def plan(self) -> SeriesPlan:
        """Look for what is painted, and plan."""
        series, job = self.series, self.series.job
        if self._single and series.main is None:
            raise PromptError(
                f"{job.painted} is one volume: say with --time to which time point it belongs."
            )
        steps: Collection[int] = range(self.count)
        if series.anchors is not None:
            steps = series.anchors.keys() | set(series.volumes or ())
        found = {t: self._planes(t) for t in sorted(steps)}
        painted = {t: planes for t, planes in found.items() if planes}
        labels = job.labels
        if labels is not None and series.anchors is not None:
            # a person may have erased one everywhere since
            shown = {i for planes in painted.values() for i in where_shown(planes)}
            labels = [i for i in labels if i in shown]
        plan = plan_series(
            painted,
            self.count,
            labels=labels,
            main=series.main,
            anchors=job.anchors,
            volumes=series.volumes,
            direction=str(job.options.get("direction", "both")),
        )
        # channels are as bright everywhere as where it starts
        first = self._seen(plan.main, plan.prompts[plan.main])
        self.colours, self._limits = first.channels_last, getattr(first.array, "limits", ())
        return plan

    def _planes(self, step: int) -> dict[int, npt.NDArray[Any]]:
        """Slices of a step that prompt it: those that the record names, or all that are painted."""
        series, volume = self.series, self.painted(step)
        wanted: Sequence[int] = range(volume.length)
        if series.anchors is not None and step not in (series.volumes or ()):
            wanted = series.anchors.get(step, ())
        planes = {k: volume.plane(k) for k in wanted}
        planes = without_through(planes, series.through.get(step, {}))
        erased = {k for slices in series.absent.get(step, {}).values() for k in slices}
        planes = {k: plane for k, plane in planes.items() if k in erased or plane.any()}
        if series.anchors is None and series.job.anchors is None:
            refuse_across(planes, volume.axis)
        return planes

    def painted(self, step: int) -> Painted:
        """What is painted in a step."""
        job = self.series.job
        if self._single and step != self.series.main:
            nothing = np.broadcast_to(np.zeros((), self.dtype), self.shape)
            return Painted(nothing, self.shape, job.axis)
        array = read_labels(job.painted, self.series.at(step)).array
        anchors = job.anchors if self._single else None
        return Painted(array, self.shape, job.axis, anchors, limit=read_limit(job))

    def _seen(self, step: int, painted: Planes | None = None) -> Volume:
        """A step's image as the network sees it."""
        job, place = self.series.job, self.series.at(step)
        image = read_volume(job.image, job.level, place)
        return self._on_labels(job, image, place, job.axis, painted)

    def _across(self, index: int) -> Volume:
        """One slice of every step as the network sees it."""
        job, grid, k = self.series.job, self.series.job.grid, index
        if grid is not None:
            k = grid.index(job.axis, index)
            job = replace(job, grid=grid.across(job.axis, self._through, self.count))
        image = read_volume(job.image, job.level, self.series.across(k))
        return self._on_labels(job, image, self.series.across(index), self._through)

    def _on_labels(
        self, job: FileJob, image: Volume, place: Place, axis: int, painted: Planes | None = None
    ) -> Volume:
        if job.channels is None and job.grid is None:
            return image
        return seen(job, image, read_labels(job.painted, place), axis, painted or {}, self._limits)


def _checked(job: FileJob) -> FileJob:
    """Refuse what a series cannot have."""
    if any(path.suffix.lower() not in _SUFFIXES for path in job.outputs()):
        raise FileError("A series is written as .tif, .zarr or .npy: choose one of them.")
    axis = axis_of(job.axis)
    for path in job.outputs():
        check_output(path)
    keep_inputs(job.outputs(), job.inputs())
    return replace(job, axis=axis)


def _digest(files: _Files, plan: SeriesPlan) -> str:
    """Tell runs apart that would not find the same."""
    series = files.series
    options = {k: v for k, v in series.job.options.items() if k not in _ANYHOW}
    model = model_checksum(options.get("model", "imos-compact"))
    painted = [
        x for t, ps in sorted(plan.prompts.items()) for k in sorted(ps) for x in (t, k, ps[k])
    ]
    return fingerprint(
        series.along, series.job.axis, series.job.image.name, series.job.channels, series.job.level,
        series.job.grid, series.job.confidence is None,
        files.start, files.stop, series.absent, series.through, series.job.stop_when_gone,
        plan.main, plan.labels, plan.steps, sorted(options.items(), key=str), model, *painted,
    )  # fmt: skip
