"""Other axes: what slices of a walk show of what was done along another axis of the same volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import PromptError
from napari_imos._record.crossing import meeting
from napari_imos._record.provenance import Kind, beside
from napari_imos._walk import slider_names

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_imos._record.ledger import Ledger
    from napari_imos._record.provenance import Provenance
    from napari_imos._walk import Walk


def shows_only_results(
    labels: Labels,
    walk: Walk,
    k: int,
    ledger: Ledger,
    plane: npt.NDArray[Any] | None = None,
) -> bool:
    """Whether all that a slice shows was found along other axes, beside lines of what was painted.

    Such a slice is no prompt that anybody meant, unless something was painted or erased there.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk, k : Walk, int
        Slice.
    ledger : Ledger
        What was written into the layer before.
    plane : ndarray, optional
        `(H, W)` labels that the layer holds there, if they have been read.
    """
    others = across(walk, ledger)
    if ledger.record(labels, walk).written[k] or not any(ledger.records[o].runs for o in others):
        return False
    data: Any = labels.data
    plane = np.asarray(data[walk.at(k)]) if plane is None else plane
    left = ledger.noted(walk.at(k), plane)
    theirs = plane != left
    for other in others:
        for m in _made(ledger.records[other]):
            if (part := meeting(walk, k, other, m)) is not None:
                theirs[part] = False
    return not theirs.any() and bool((plane[plane == left] != 0).any())


def refuse_results(
    labels: Labels,
    walk: Walk,
    k: int,
    viewer: ViewerModel,
    ledger: Ledger,
    plane: npt.NDArray[Any] | None = None,
) -> None:
    """Refuse a slice as a prompt that shows only results; see `shows_only_results`.

    Raises
    ------
    PromptError
        If it does.
    """
    if not shows_only_results(labels, walk, k, ledger, plane):
        return
    found = axes_with_results(labels, walk, viewer, ledger)
    raise PromptError(
        f"Slice {k} along {slider_names(labels, viewer)[walk.axis]} only shows what was found "
        f"along {' and '.join(found)}: walk {' or '.join(found)}, or correct or check this slice "
        "(Shift+C) first."
    )


def axes_with_results(labels: Labels, walk: Walk, viewer: ViewerModel, ledger: Ledger) -> list[str]:
    """Name the other axes along which something was found in the same volume."""
    names = slider_names(labels, viewer)
    ran = {other.axis for other in across(walk, ledger) if ledger.records[other].runs}
    return [names[axis] for axis in sorted(ran)]


def name_if_several(labels: Labels, walk: Walk, viewer: ViewerModel, ledger: Ledger) -> str:
    """Name the axis of a walk if something was painted or found along another one; else nothing."""
    known = (ledger.records[other] for other in across(walk, ledger))
    if any(record.runs or record.painted.any() for record in known):
        return slider_names(labels, viewer)[walk.axis]
    return ""


def across(walk: Walk, ledger: Ledger) -> list[Walk]:
    """Known walks through the same volume, along its other axes: not through a series."""
    return [other for other in ledger.crossing(walk) if other.fixed == walk.fixed]


def _made(record: Provenance) -> set[int]:
    """Slices on which a person has painted something, as last seen.

    Of slices with labels beside each other, as labels come from elsewhere, those that were brushed.
    """
    drawn = record.kind == Kind.DRAWN
    alone = drawn & ~beside(drawn)
    made = record.checked | record.painted | alone | (record.kind == Kind.CORRECTED)
    anchors = (k for run in record.runs for k in run["anchors"])
    return {*np.flatnonzero(made).tolist(), *record.dropped, *anchors}
