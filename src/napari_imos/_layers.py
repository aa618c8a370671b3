"""From layers to a job for the engine: everything is checked here, nothing is written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.painted import refuse_across
from imos_core.errors import ImageError, PromptError
from imos_core.formats.volume import in_time
from imos_core.intensity import as_float32, finite
from imos_core.prompt import inside, read_prompts
from imos_core.sweep import Sweep
from napari_imos._anchor_choice import choose_anchors
from napari_imos._confidence import is_confidence
from napari_imos._job import Job, Rules
from napari_imos._picture import Picture, channel_axis, shape_of
from napari_imos._placement import steps_of
from napari_imos._record.ends_in_time import ended_in_time
from napari_imos._record.filled import goes_through, whole_where_alone
from napari_imos._record.split import cut_from
from napari_imos._units import factors, units_of
from napari_imos._walk import Walk, find_walk, is_time, painted_slices
from napari_imos._words import numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_imos._record.ledger import Ledger


def read_job(
    image: Image,
    labels: Labels,
    axis: int | str,
    anchors: Iterable[int] | None,
    wanted: Iterable[int] | None,
    viewer: ViewerModel | None,
    ledger: Ledger,
    rules: Rules | None = None,
    channels: Iterable[Any] | None = None,
) -> Job:
    """Read what is to be propagated.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers.
    axis : int or str
        Axis of the Labels layer, by number or name.
    anchors : iterable of int, optional
        Prompt slices; by default those of `choose_anchors`, or without a viewer all painted ones.
    wanted : iterable of int, optional
        Only these labels.
    viewer : ViewerModel, optional
        Viewer that shows the layers.
    ledger : Ledger
        What was written into the layer before.
    rules : Rules, optional
        What may be written.
    channels : iterable, optional
        See `Picture`.

    Returns
    -------
    Job
        Checked.

    Raises
    ------
    PromptError
        If the layers do not fit together or the prompt does not serve.
    ImageError
        If the image does not serve.
    """
    check_writable(labels)
    walk = find_walk(labels, axis, viewer)
    picture = Picture(image, labels, viewer, channels)
    picture.check(walk)
    ids = None if wanted is None else tuple(int(i) for i in wanted)
    named: Collection[int] = ()
    if anchors is not None:
        named = slices = inside(anchors, labels.data.shape[walk.axis])
    elif viewer is None and ledger.record(labels, walk).runs:
        slices = tuple(ledger.anchors(labels, walk))
    elif viewer is None:
        slices = tuple(painted_slices(labels, walk))
    else:
        choice = choose_anchors(labels, walk, viewer, ledger)
        slices = (choice.main, *choice.others)
        named = (choice.main,) if choice.shown else ()
        if ids is None:
            ids = choice.ids
    if anchors is None:
        slices = that_say_something(picture, labels, walk, slices, ledger)
    if not slices:
        raise PromptError("Nothing is painted: paint an object on one slice first.")
    rules = rules or Rules()
    job = job_on(picture, labels, walk, slices, ids, ledger, rules, named)
    if wanted is not None and (cut := cut_from(labels, job, ledger)):
        # those that they were cut from compete, but keep all that the others do not take
        rules = replace(rules, locked=(*rules.locked, *cut))
        job = job_on(picture, labels, walk, slices, (*(ids or ()), *cut), ledger, rules, named)
        job = replace(job, cut_from=cut)
    if anchors is None and viewer is None and not ledger.record(labels, walk).runs:
        refuse_across(job.prompts, walk.engine_axis)
    if anchors is None and wanted is None:
        gone = ledger.gone(labels, walk, job.prompts)
        job = replace(job, ids=(*job.ids, *(i for i in gone if i not in job.rules.locked)))
    return job


def job_on(
    picture: Picture,
    labels: Labels,
    walk: Walk,
    slices: Sequence[int],
    ids: tuple[int, ...] | None,
    ledger: Ledger,
    rules: Rules,
    named: Collection[int] = (),
) -> Job:
    """Make a job of slices that serve as prompts, some of them because they are `named` or shown.

    See `read_job`.
    """
    covered = check_reached(picture, walk, slices)
    planes = {k: ledger.meant(labels, walk, k) for k in slices}
    whole_where_alone(planes, {k: np.asarray(labels.data[walk.at(k)]) for k in named})
    pixels = picture.on(walk, planes)
    sweep = Sweep(pixels, walk.engine_axis, channels_last=picture.colours)
    given = read_prompts(planes, len(sweep), sweep.plane_shape, ids)
    free = tuple(i for i in given.anchors if i not in rules.locked)
    if not free:
        raise PromptError(
            f"All painted labels are locked ({numbers(sorted(given.anchors))}): unlock one."
        )
    _check_visible(sweep, slices[0])
    keywords = keywords_on(picture, labels, walk, ids)
    absent = absent_on(labels, walk, sorted(planes), set(given.anchors), ledger)
    return Job(
        pixels,
        planes,
        free,
        walk,
        len(sweep),
        keywords,
        rules,
        layer=labels,
        absent=absent,
        through=goes_through(ledger.record(labels, walk), planes, free, absent),
        covered=None if len(covered) == len(sweep) else covered,
        elsewhere=picture.elsewhere(walk),
        grid=picture.grid(walk),
        files=picture.files,
    )


def keywords_on(
    picture: Picture, labels: Labels, walk: Walk, ids: tuple[int, ...] | None
) -> dict[str, Any]:
    """Return the keywords of `imos_core.propagate` that follow from the layers."""
    kept = list(walk.kept)
    units = [units_of(labels, labels.ndim)[a] for a in kept]
    spacing = steps_of(labels)[kept] * factors(units, units[-1:] * len(units))
    sizes = tuple(float(s) for s in spacing)
    for number, axis in enumerate(kept):
        if is_time(labels, axis):
            sizes = in_time(sizes, number)
    keywords: dict[str, Any] = {
        "axis": walk.engine_axis,
        "spacing": sizes,
        "channels_last": picture.colours,
        "labels": ids,
    }
    if picture.contrast is not None:
        keywords["contrast"] = picture.contrast
    return keywords


def absent_on(
    labels: Labels, walk: Walk, slices: Sequence[int], ids: set[int], ledger: Ledger
) -> dict[int, list[int]]:
    """Label -> those of the slices from which a person erased it, and those where it has ended.

    All slices, if it has ended in time.
    """
    absent: dict[int, list[int]] = {}
    for k in slices:
        for label in ledger.absent(labels, walk, k, ids) & ids:
            absent.setdefault(label, []).append(k)
    record = ledger.record(labels, walk)
    if record.ended:
        held = {k: ledger.ids_on(labels, walk, k) for k in slices}
        for label in ids:
            shown = [k for k, here in held.items() if label in here]
            if ends := record.ends(label, shown):
                absent[label] = sorted({*absent.get(label, ()), *ends})
    for label in ids:
        if ended_in_time(labels, walk, label):
            # but where it is painted, if a script has named slices that are no anchors
            shown = [k for k in slices if label in ledger.ids_seen(labels, walk, k)]
            absent[label] = [k for k in range(record.length) if k not in shown]
    return absent


def images_of(layers: Iterable[Layer]) -> list[Image]:
    """Return the Image layers that show something, not how sure the engine is of it."""
    from napari.layers import Image

    return [layer for layer in layers if isinstance(layer, Image) and not is_confidence(layer)]


def fitting_image(layers: Iterable[Layer], labels: Labels) -> Image | None:
    """Return the first image of the shape of a Labels layer, or else the first."""
    images = images_of(layers)
    for image in images:
        shape, axis = shape_of(image), channel_axis(image, labels)
        if axis is not None and image.ndim > labels.ndim:
            shape = shape[:axis] + shape[axis + 1 :]
        if shape[-3:] == shape_of(labels)[-3:]:
            return image
    return images[0] if images else None


def check_writable(labels: Labels) -> None:
    """Refuse Labels layers that cannot be written.

    Raises
    ------
    PromptError
        If it is multiscale, read-only or locked.
    """
    data: Any = labels.data
    if labels.multiscale:
        raise PromptError(
            f"The Labels layer {labels.name!r} is multiscale, which napari cannot edit: paint on a "
            "new Labels layer."
        )
    flags = getattr(data, "flags", None)
    read_only = getattr(data, "read_only", False) or (
        flags is not None and not getattr(flags, "writeable", True)
    )
    if read_only or not labels.editable:
        raise PromptError(
            f"The Labels layer {labels.name!r} is read-only: duplicate it and paint on the copy."
        )


def that_say_something(
    picture: Picture, labels: Labels, walk: Walk, slices: Iterable[int], ledger: Ledger
) -> tuple[int, ...]:
    """Leave out anchors without labels that the image does not reach: nothing could end there."""
    covered = picture.covered(walk)
    return tuple(k for k in slices if k in covered or ledger.ids_seen(labels, walk, k))


def check_reached(picture: Picture, walk: Walk, slices: Sequence[int]) -> range:
    """Return the slices on which the image, which lies on the labels, has something to show.

    Raises
    ------
    PromptError
        If one of `slices`, which are painted, is none of them.
    """
    covered = picture.covered(walk)
    beyond = [k for k in slices if k not in covered]
    if not beyond:
        return covered
    advice = f"paint on one that it has ({numbers(covered)})"
    if len(beyond) < len(slices):
        advice = "drop the anchor there (Shift+A), or choose an image that has it"
    raise PromptError(
        f"The image does not reach slice {beyond[0]}, where something is painted: {advice}."
    )


def _check_visible(sweep: Sweep, index: int) -> None:
    """Refuse an image with nothing to see on the prompt slice."""
    # in the image's own type: float32 may not tell apart what is far from 0
    raw = sweep.raw(index)
    if finite(as_float32(raw)).size == raw.size and raw.min() == raw.max():
        raise ImageError(
            f"The image is constant on slice {index}: check that the right image is chosen."
        )
