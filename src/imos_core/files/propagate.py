"""One propagation from files to files: read, computed and written slice by slice, resumable."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.channels import pick_channels
from imos_core.arrays.painted import Painted, fill, warn_if_all
from imos_core.errors import FileError, PromptError
from imos_core.file_identity import identity
from imos_core.files.budget import SURE, budget_of, read_limit, written_limit
from imos_core.files.job import FileJob
from imos_core.files.one_run import only_run
from imos_core.files.results import SliceWriter, discard, kept_if_interrupted, work_folder
from imos_core.files.unchanged import ReadFiles
from imos_core.formats import tiff
from imos_core.formats.affines import check_affines
from imos_core.formats.frame_names import check_numbers, on_frames
from imos_core.formats.images import is_slice_name
from imos_core.heap import give_back
from imos_core.io import check_output, read_labels, read_volume, write_all
from imos_core.label_ids import ids_on
from imos_core.prompt import ends_of_painted
from imos_core.through import through_of_painted, unrelated, without_through
from imos_core.walking.checkpoint import OTHER, Checkpoint
from imos_core.walking.patience import patience_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from imos_core.arrays.channels import Limits
    from imos_core.formats.volume import Volume
    from imos_core.segmented import SegmentedSlice

    Watch = Callable[[Iterator[SegmentedSlice], int, int], Iterator[SegmentedSlice]]
    """Slices, how many there will be in all, how many are there already -> the same slices."""

__all__ = [
    "FileJob",
    "check_place",
    "contrast_of",
    "keep_inputs",
    "propagate_files",
    "read_inputs",
    "seen",
    "spaced_like",
    "spatial_shape",
    "told_spacing",
]

_WHOLE = (0.0, 1.0)
_TIDY = 16
"""Slices after which free memory goes back to the system: a few milliseconds each time."""


def propagate_files(
    job: FileJob,
    *,
    resume: bool = False,
    restart: bool = False,
    every: int = 50,
    watch: Watch | None = None,
) -> None:
    """Propagate painted slices of a file through an image file.

    Memory does not depend on the number of slices. Beside the output, a hidden folder holds what
    is done; it survives any end of the process once a checkpoint is written.

    Parameters
    ----------
    job : FileJob
        What and where.
    resume : bool
        Go on with an interrupted run of the same job; without one, begin.
    restart : bool
        Throw an interrupted run away.
    every : int
        Slices after which a checkpoint is written.
    watch : callable, optional
        Shows progress: gets the slices, their number and how many are done, yields the slices.

    Raises
    ------
    ImosError
        If something does not fit, or the disk is full; what a checkpoint holds is kept.
    """
    for path in job.outputs():
        check_output(path)
    keep_inputs(job.outputs(), job.inputs())
    with only_run(job.outputs()):
        _propagate(job, resume, restart, every, watch)


def _propagate(job: FileJob, resume: bool, restart: bool, every: int, watch: Watch | None) -> None:
    import imos_core

    folders = [work_folder(path) for path in job.outputs()]
    checkpoint = Checkpoint(folders[0], every, resume=resume and not restart)
    if checkpoint.exists and not resume and not restart:
        raise FileError(
            f"{job.output} has an interrupted run that can go on: resume it (--resume), or start "
            "anew (--restart)."
        )
    # first, as labels may be replaced as soon as they were read
    read = ReadFiles({"image": (job.image, job.level), "labels": (job.painted, 0)})
    image, painted, prompts, like = read_inputs(job)
    painted.let_go()
    sure = "" if job.confidence is None else job.confidence.name
    checkpoint.compare({**read.marks, "confidence": sure})
    through = _through(job, prompts)
    engine: Any = imos_core.propagate(
        image.array,
        prompts,
        axis=job.axis,
        start=job.start,
        stop=job.stop,
        labels=job.labels,
        spacing=told_spacing(job, like),
        channels_last=image.channels_last,
        checkpoint=checkpoint,
        # what a session recorded may be of labels that are gone
        ends=ends_of_painted(job.absent, prompts) if job.session else job.absent,
        through=through,
        **{
            **patience_of(job.stop_when_gone),
            **job.options,
            **contrast_of(job),
            **budget_of(job, painted),
        },
    )
    if job.anchors is None and not through:
        warn_if_all(prompts, painted.length, job.labels)
    done = checkpoint.finished
    if not checkpoint.goes_on:
        discard(folders)
    elif not all(folder.is_dir() for folder in folders):
        raise FileError(OTHER["confidence"])
    first, last = job.start or 0, painted.length if job.stop is None else job.stop
    shape = tuple(image.array.shape)[:3]
    with kept_if_interrupted(folders, checkpoint, "what is done is"), closing(engine):
        slices = engine
        writers = _writers(job, folders, shape, painted, like, range(first, last), done)
        checkpoint.flush = _all_of([read.refuse_changed, *(w.flush for w in writers)])
        if watch is not None:
            slices = watch(slices, last - first, len(done))
        _collect(slices, _wanted(job, prompts), writers)
        _put_in_place(writers, read, like)


def _put_in_place(writers: Sequence[SliceWriter], read: ReadFiles, like: Volume) -> None:
    """Let results become the outputs; nobody else has what they map of their folders of work."""
    finished = [(w.output, w.finish()) for w in writers]
    read.refuse_changed()
    # arrays may fail to be written; stores only move
    finished.sort(key=lambda pair: isinstance(pair[1], Path))
    write_all(finished, like)


def _through(
    job: FileJob, prompts: Mapping[int, npt.NDArray[Any]]
) -> Mapping[int, Sequence[int]] | None:
    """Which painted slices say nothing of labels."""
    if job.fill_anchors:
        return unrelated({k: ids_on(plane) for k, plane in prompts.items()})
    # what a session recorded may be of labels that are gone
    goes = through_of_painted(job.through, prompts) if job.session else job.through
    return goes or None


def read_inputs(
    job: FileJob,
) -> tuple[Volume, Painted, dict[int, npt.NDArray[Any]], Volume]:
    """Read what a job works on.

    Parameters
    ----------
    job : FileJob
        What and where.

    Returns
    -------
    image : Volume
        The image, of it the chosen channels.
    painted : Painted
        Its labels.
    prompts : dict of int to ndarray
        Painted slices.
    like : Volume
        What says the spacing of the result.

    Raises
    ------
    FileError, PromptError
        If something cannot be read or does not fit.
    """
    image = read_volume(job.image, job.level, job.time)
    labels = read_labels(job.painted, job.time)
    if not job.session:  # sessions know by place which slices belong together
        if job.anchors is None or labels.array.shape[0] > 1:  # one goes where a person says
            labels = on_frames(image, labels)
        check_numbers(job.image, image, job.painted, labels)
    painted = Painted(
        labels.array,
        spatial_shape(job, image, labels),
        job.axis,
        job.anchors,
        erased={k for ks in job.absent.values() for k in ks},
        limit=read_limit(job),
    )
    check_place(job, image, labels)
    prompts = painted.prompts()
    meant = prompts
    if job.channels is not None:  # which are as bright as what is painted there
        meant = without_through(prompts, _through(job, prompts) or {})
    image = seen(job, image, labels, painted.axis, meant)
    return image, painted, prompts, spaced_like(job, image, labels)


def spatial_shape(job: FileJob, image: Volume, labels: Volume) -> tuple[int, ...]:
    """Shape of an image without its channels; on another grid, that of the labels.

    Raises
    ------
    PromptError
        If the image is not the one that a grid was made for.
    """
    if job.session and image.extra.get("turned"):
        # what was painted lies on the voxels as they are stored
        raise PromptError(
            f"{job.image} has its axes in another order than z, y, x, in which files are read: "
            "write it anew in that order, and propagate labels of it with imos propagate."
        )
    channels = _channel_axis(job, image, labels)
    shape = tuple(n for a, n in enumerate(image.array.shape) if a != channels)
    if job.grid is None:
        return shape
    if shape != job.grid.image_shape:
        raise PromptError(
            f"{job.image} has shape {shape}, and the labels were painted on an image of shape "
            f"{job.grid.image_shape}: name that one."
        )
    return tuple(labels.array.shape)


def check_place(job: FileJob, image: Volume, labels: Volume) -> None:
    """Refuse labels whose file says that they lie elsewhere, unless it is known where they lie.

    Raises
    ------
    FileError
        If they do.
    PromptError
        If they have other time points than the image.
    """
    if labels.places not in (1, image.places):
        raise PromptError(
            f"{job.painted} has {labels.places} time points, but {job.image} has {image.places}: "
            "give labels of the same series, or of one volume of it."
        )
    if job.grid is None and not job.by_index:
        check_affines(job.image, image, job.painted, labels, job.axis, job.spacing, job.anchors)


def seen(
    job: FileJob,
    image: Volume,
    labels: Volume,
    axis: int,
    painted: Mapping[int, npt.NDArray[Any]],
    limits: Sequence[Limits] = (),
) -> Volume:
    """Return the image as the network sees it: chosen channels, on the voxels of the labels.

    Parameters
    ----------
    job : FileJob
        What and where.
    image, labels : Volume
        As read.
    axis : int
        Axis of the painted slices.
    painted, limits
        See `pick_channels`.
    """

    def on_labels(array: Any) -> Any:
        return array if job.grid is None else job.grid.on(array, labels.array.shape, axis)

    channels = _channel_axis(job, image, labels)
    if channels is None or job.channels is None:
        return image if job.grid is None else replace(image, array=on_labels(image.array))
    array = pick_channels(image.array, channels, job.channels, axis, painted, limits, on_labels)
    return replace(image, array=array, channels_last=len(job.channels) > 1)


def spaced_like(job: FileJob, image: Volume, labels: Volume) -> Volume:
    """Return what tells the result its spacing, unit and names."""
    # who knows the spacing tells the result: the person, the image, else the labels
    theirs = job.grid is not None or (image.spacing is None and labels.spacing is not None)
    like = image
    if theirs:
        step = labels.interval or image.interval
        like = replace(labels, film=labels.film or image.film, interval=step)
    if job.session and job.spacing == (1.0, 1.0, 1.0) and like.spacing is not None:
        return like  # the window counted voxels, as napari's own readers do: the file knows more
    if job.spacing is not None and job.frames:
        thickness = (like.spacing or job.spacing)[0]
        like = replace(like, spacing=(thickness, *job.spacing[1:]), film=True)
    elif job.spacing is not None:
        # of a film in a TIFF, the first number is said, too, and not that of rows
        like = replace(like, spacing=job.spacing, extra={**like.extra, "depth": True})
    return like


def told_spacing(job: FileJob, like: Volume) -> tuple[float, ...] | None:
    """Return what the engine is told of voxels: what a person says of them, else `spaced_like`."""
    return like.engine_spacing if job.spacing is None or job.frames else job.spacing


def contrast_of(job: FileJob) -> dict[str, Any]:
    """Contrast where several channels are brought to 0..1 before the engine sees them."""
    if job.channels is None or len(job.channels) < 2:
        return {}
    if tuple(job.options.get("contrast") or _WHOLE) != _WHOLE:
        raise PromptError("Each of several channels has a contrast of its own: give none.")
    return {"contrast": _WHOLE}


def _channel_axis(job: FileJob, image: Volume, labels: Volume) -> int | None:
    """Axis of the image that holds channels; of four axes without names, the labels tell."""
    shape = tuple(image.array.shape)
    if image.channels_last:
        return len(shape) - 1
    if job.channels is None:
        return None
    if len(shape) == 3:
        raise PromptError(f"{job.image} has no channels: choose none.")
    wanted = labels.array.shape if job.grid is None else job.grid.image_shape
    extra = [a for a in range(len(shape)) if shape[:a] + shape[a + 1 :] == wanted]
    if not extra:
        raise PromptError(
            f"{job.image} has shape {shape}, and nothing says which axis holds the channels: give "
            "labels of a whole volume, or save the image with named axes."
        )
    return extra[0]


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to overwrite what is read, or one result by another."""
    given = [part.resolve() for path in inputs for part in tiff.files_of(path)]
    read = {identity(path) for path in given}
    around = {identity(folder) for path in given for folder in path.parents}
    taken = set()
    for path in outputs:
        place = identity(path)
        if place in read:
            raise FileError(f"{path} is an input and would be overwritten: choose another name.")
        if place in around:
            raise FileError(f"{path} holds an input, which would be lost: choose another name.")
        # a link leads out of its folder, but stands in it as a slice
        folders = {identity(path.resolve().parent), identity(path.parent)}
        if is_slice_name(path) and folders & read:
            raise FileError(
                f"{path} lies in {path.parent}, which is an input and would change: write it to "
                "another folder."
            )
        if place in taken:
            raise FileError(f"{path} is to be two results at once: choose another name for one.")
        taken.add(place)


def _writers(
    job: FileJob,
    folders: Sequence[Path],
    shape: tuple[int, int, int],
    painted: Painted,
    like: Volume,
    expected: range,
    done: Sequence[int],
) -> list[SliceWriter]:
    def nothing(start: int, stop: int) -> npt.NDArray[Any]:
        return np.zeros((stop - start, *painted.plane_shape), SURE)

    kinds = [(painted.dtype, painted.planes), (SURE, nothing)]
    return [
        SliceWriter(
            folder,
            output,
            shape=shape,
            dtype=dtype,
            axis=painted.axis,
            like=like,
            initial=initial,
            expected=expected,
            done=done,
            limit=written_limit(job),
        )
        for folder, output, (dtype, initial) in zip(folders, job.outputs(), kinds, strict=False)
    ]


def _wanted(job: FileJob, prompts: Mapping[int, npt.NDArray[Any]]) -> list[int]:
    """Labels that are propagated: those of the job, or all that are painted."""
    if job.labels is not None:
        return list(job.labels)
    return sorted({i for plane in prompts.values() for i in ids_on(plane)})


def _collect(
    slices: Iterator[SegmentedSlice],
    ids: Collection[int],
    writers: Sequence[SliceWriter],
) -> None:
    """Write slices: anchors and labels that are not asked for stay as they are."""
    for count, item in enumerate(slices, 1):
        if count % _TIDY == 0:
            give_back()
        # as painted: so it was before anything was written, and holds no more memory
        plane = writers[0].plane(item.index)
        if item.source != "anchor":
            fill(plane, item.labels, ids)
        writers[0].write(item.index, plane)
        for writer in writers[1:]:
            writer.write(item.index, item.confidence)


def _all_of(actions: Sequence[Callable[[], None]]) -> Callable[[], None]:
    def act() -> None:
        for action in actions:
            action()

    return act
