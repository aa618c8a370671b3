"""Opening: from what a person has chosen to a stream into the layer, and to facts of its run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_imos._image_file import file_on_record
from napari_imos._layers import read_job
from napari_imos._made_with import made_with, name_of_model, names_of
from napari_imos._reader import CHANNEL
from napari_imos._record.filled import facts_of, given_through
from napari_imos._record.ledger import Ledger
from napari_imos._record.plan import bases, find_stale
from napari_imos._stream import LabelsStream
from napari_imos._walk import ids_on, shown_slice, shows_across

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_imos._job import Job, Rules
    from napari_imos._record.plan import Stale
    from napari_imos._walk import Walk


def open_stream(
    image: Image,
    labels: Labels,
    axis: int | str,
    anchors: Iterable[int] | None,
    keywords: dict[str, Any],
    viewer: ViewerModel | None,
    rules: Rules | None = None,
    channels: Iterable[Any] | None = None,
) -> tuple[LabelsStream, dict[str, Any]]:
    """Check layers and open a stream into them; until then nothing is touched.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers.
    axis : int or str
        Axis of the Labels layer.
    anchors : iterable of int, optional
        Prompt slices.
    keywords : dict
        Keywords of `imos_core.propagate`.
    viewer : ViewerModel, optional
        Viewer that shows the layers.
    rules : Rules, optional
        What may be written.
    channels : iterable, optional
        See `Picture`.

    Returns
    -------
    stream : LabelsStream
        With the job.
    options : dict
        Keywords that the job does not hold.

    Raises
    ------
    ImosError
        If something does not serve.
    """
    options = dict(keywords)
    wanted = options.pop("labels", None)
    ledger = Ledger.of(labels)
    job = read_job(image, labels, axis, anchors, wanted, viewer, ledger, rules, channels)
    for given in job.keywords.keys() & options.keys():
        job.keywords[given] = options.pop(given)
    if "through" in options:
        given = given_through(options.pop("through"), job.prompts, job.ids, job.length)
        job = replace(job, through=given)
    made = made_with(options, channels)
    basis = bases(job.prompts, job.ids, job.length, made, job.absent)
    job = replace(job, basis=basis)
    stale = None if anchors is not None else _stale(labels, job, options)
    if stale is not None:
        job = replace(job, spans=stale.spans, ended=stale.ended)
    ranges = [list(r) for r in job.ranges(options)]
    facts = {**run_facts(image, job, options, channels), **facts_of(job.through)}
    facts["ranges"] = ranges
    if job.cut_from:
        facts["cut_from"] = list(job.cut_from)
    return LabelsStream(labels, job, visible_in(viewer, labels, job.walk), facts), options


def visible_in(viewer: ViewerModel | None, labels: Labels, walk: Walk) -> Callable[[int], bool]:
    """Return what says whether a viewer shows a slice; without a viewer, every one counts."""

    def visible(index: int) -> bool:
        if viewer is None or shows_across(labels, walk, viewer):
            return True
        return index == shown_slice(labels, walk, viewer)

    return visible


def run_facts(
    image: Image, job: Job, options: Mapping[str, Any], channels: Iterable[Any] | None
) -> dict[str, Any]:
    """Return what a record says of a run, so that it can be done again."""
    contrast, precision = job.keywords.get("contrast"), options.get("precision")
    facts = {name: name_of_model(options.get(name)) for name in ("model", "adapter")}
    if channels:
        facts["channels"] = names_of(channels)
    elif CHANNEL in image.metadata:
        # layers were made of the channels of a file
        facts["channels"] = str(image.metadata[CHANNEL])
    return {
        **facts,
        "image": image.name,
        "image_path": file_on_record(image),
        "contrast": None if contrast is None else list(contrast),
        **{name: options.get(name) for name in ("direction", "window")},
        "precision": precision and str(precision),
        "stop_when_gone": job.rules.stop_when_gone,
        "elsewhere": job.elsewhere,
        "grid": None if job.grid is None else job.grid.plain(),
    }


def _stale(labels: Labels, job: Job, options: Mapping[str, Any]) -> Stale | None:
    """What the anchors can improve, of what the options allow; None if these do not serve."""
    start, stop = job.ranges(options)[0]
    direction = options.get("direction", "both")
    first = max(start, min(job.prompts)) if direction == "forward" else start
    last = min(stop, max(job.prompts) + 1) if direction == "backward" else stop
    if not 0 <= first < last <= job.length:
        return None  # the engine says what is wrong with it
    ledger = Ledger.of(labels)
    record = ledger.record(labels, job.walk)
    painted = {label: anchors for label, anchors in job.painted.items() if label in job.basis}
    within, there, kept = (first, last), filled_on(job, ledger), job.prompts
    return find_stale(record, job.basis, painted, job.absent, within, kept, there, job.through)


def filled_on(job: Job, ledger: Ledger) -> dict[int, set[int]]:
    """Prompt slice -> labels that were filled in there, as far as a run may take them away."""
    if job.rules.only_empty:
        return {}
    found = {}
    for k in job.prompts:
        held = job.held(k)
        if there := ledger.filled(job.walk, k, held) & {*ids_on(held)}:
            found[k] = there
    return found
