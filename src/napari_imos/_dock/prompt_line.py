"""Prompt line: what Propagate would start from, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import ImosError
from imos_core.label_ids import ids_on
from napari_imos import _words as words
from napari_imos._anchor_choice import choose_anchors, may_join
from napari_imos._layers import check_reached, that_say_something
from napari_imos._new_labels import why_flat
from napari_imos._picture import Picture
from napari_imos._record.ledger import Ledger
from napari_imos._record.other_axes import name_if_several, refuse_results
from napari_imos._record.provenance import Kind
from napari_imos._series.steps import anchors_elsewhere, is_looped
from napari_imos._walk import find_walk, shown_slice, slider_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_imos._record.provenance import Provenance
    from napari_imos._walk import Walk

_NOTHING = "Nothing is painted"
_ONE_SLICE = "There is only one slice along this axis: choose another one under Axis."


@dataclass(frozen=True)
class Asked:
    """What a person has chosen."""

    image: Image | None
    labels: Labels | None
    axis: int
    """Axis that is walked."""
    channels: list[Any] | None
    """Channels that are ticked."""
    series: int | None
    """Axis of a series if all of it is asked for."""
    way: str
    """Direction."""
    wanted: list[int] | None
    """Labels; None: all that are painted."""


def prompt_line(asked: Asked, viewer: ViewerModel, obstacle: str, *, looking: bool) -> str | None:
    """Say what Propagate would start from, or what is in its way.

    Parameters
    ----------
    asked : Asked
        What was chosen.
    viewer : ViewerModel
        Viewer.
    obstacle : str
        Why the labels cannot be used with the image; empty if they can.
    looking : bool
        Whether slices are still being looked at.

    Returns
    -------
    str or None
        None while nothing is known yet.
    """
    image, labels = asked.image, asked.labels
    if image is None:
        return "Open an image: a volume or a video."
    if flat := why_flat(image):
        return flat
    if labels is None:
        return "Add a Labels layer and paint an object on one slice."
    try:
        if labels.multiscale or labels.ndim < 3:
            return obstacle
        walk = find_walk(labels, asked.axis, viewer)
        if obstacle:
            return obstacle
        text = _on_walk(asked, image, labels, walk, viewer, looking=looking)
    except ImosError as error:
        text = str(error)
    if text is None or asked.series is None:
        return text
    return _in_series(labels, find_walk(labels, asked.axis, viewer), viewer, text, asked.way)


def _on_walk(
    asked: Asked, image: Image, labels: Labels, walk: Walk, viewer: ViewerModel, *, looking: bool
) -> str | None:
    """Say it of the walk that is shown."""
    if labels.data.shape[walk.axis] == 1:
        return _ONE_SLICE
    picture = Picture(image, labels, viewer, asked.channels)
    ledger, shown = Ledger.of(labels), shown_slice(labels, walk, viewer)
    known = ledger.known_anchors(labels, walk)
    along = name_if_several(labels, walk, viewer, ledger)
    if looking or not known:
        # not all slices were looked at yet, or they live on disk
        record = ledger.record(labels, walk)
        new = shown not in known and not _is_predicted(record, shown)
        new = new and (not known or may_join(labels, walk, shown, record))
        data: Any = labels.data
        plane = np.asarray(data[walk.at(shown)]) if new else None
        if plane is not None and (ids := ids_on(plane)):
            check_reached(picture, walk, [shown])
            refuse_results(labels, walk, shown, viewer, ledger, plane)
            return _wanted(asked, shown, (), ids, along)
        if looking and not known:
            return None
    choice = choose_anchors(labels, walk, viewer, ledger, look=False)
    others = that_say_something(picture, labels, walk, choice.others, ledger)
    check_reached(picture, walk, [choice.main, *others])
    return _wanted(asked, choice.main, others, choice.ids, along)


def _is_predicted(record: Provenance, index: int) -> bool:
    """Whether a slice is known to be what a run has left, and no brush was on it since."""
    return bool(record.kind[index] == Kind.PREDICTED and not record.painted[index])


def _wanted(asked: Asked, index: int, others: Sequence[int], ids: Sequence[int], along: str) -> str:
    """Say which slices and labels are propagated, as far as a person wants them."""
    meant = [i for i in ids if asked.wanted is None or i in asked.wanted]
    if not ids and asked.wanted is None:  # of labels on disk, what was undone is not seen at once
        return f"{_NOTHING} on slice {index}: paint it, or go to a painted slice."
    if not meant:
        missing = words.numbers(asked.wanted or ())
        return f"The selected label {missing} is not painted on any prompt slice."
    return words.prompt(index, others, meant, along)


def _in_series(labels: Labels, walk: Walk, viewer: ViewerModel, text: str, way: str) -> str:
    """Say it of a series, seen from the step that is shown.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Through the step that is shown.
    viewer : ViewerModel
        Viewer.
    text : str
        What would be said of this step alone.
    way : {"both", "forward", "backward"}
        Direction of the series.
    """
    if not walk.fixed or not text.startswith(("Prompt", _NOTHING)):
        return text
    ((axis, t),) = walk.fixed
    name = slider_names(labels, viewer)[axis]
    then = {
        "both": f"all of {name}",
        "forward": f"on along {name}",
        "backward": f"back along {name}",
    }
    ledger = Ledger.of(labels)
    record, known = ledger.record(labels, walk), set(ledger.known_anchors(labels, walk))
    drawn = set(np.flatnonzero(record.kind == Kind.DRAWN).tolist()) - set(record.dropped)
    if drawn - known:
        return f"Prompt: the volume at {words.place(name, t)}, then {then[way]}"
    looped, others = is_looped(ledger, walk), sorted(anchors_elsewhere(labels, ledger, walk))
    where = words.place(name, words.numbers(others))
    # what runs have found is no prompt of a person
    if text.startswith("Prompt") and (known or not looped):
        return f"{text}{f', with {where}' if others else ''}, then {then[way]}"
    if others:
        return f"Prompt: what is painted at {where}, then {then[way]}"
    return f"{_NOTHING}: paint an object on one slice first." if looped else text
