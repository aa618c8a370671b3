"""Which painted slices serve as prompts when nobody says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import PromptError
from imos_core.label_ids import ids_on
from napari_imos._record.other_axes import (
    axes_with_results,
    refuse_results,
    shows_only_results,
)
from napari_imos._record.provenance import Kind
from napari_imos._walk import axis_names, painted_slices, shown_slice
from napari_imos._words import numbers, place

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_imos._record.ledger import Ledger
    from napari_imos._record.provenance import Provenance
    from napari_imos._walk import Walk

_QUICK = 50_000_000
"""Voxels that are read within some hundredths of a second."""


@dataclass(frozen=True)
class Choice:
    """Which slices serve as prompts when nobody says."""

    main: int
    """Slice that the view starts from."""
    others: tuple[int, ...]
    """Further anchors."""
    ids: tuple[int, ...]
    """Labels that are propagated."""
    shown: bool = False
    """Whether `main` is no anchor, but serves because it is shown or the only one."""


def choose_anchors(
    labels: Labels, walk: Walk, viewer: ViewerModel, ledger: Ledger, *, look: bool = True
) -> Choice:
    """Choose the anchors.

    All anchors, with all their labels. Before the first run also the slice that the viewer shows,
    or else the only painted one, but none that shows only what was found along other axes; beside
    anchors, none of a labelled stack (`may_join`): it would end all that it does not show.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Its slices.
    viewer : ViewerModel
        Viewer.
    ledger : Ledger
        What was written into the layer before.
    look : bool
        Look at every slice now; otherwise rely on what was seen last, which is quick.

    Raises
    ------
    PromptError
        If no slice serves, or there is a choice.
    """
    known = ledger.anchors(labels, walk) if look else ledger.known_anchors(labels, walk)
    data: Any = labels.data
    ids_of = ledger.ids_on if look else ledger.ids_seen
    held = {k: ids_of(labels, walk, k) for k in known}
    record, shown = ledger.record(labels, walk), shown_slice(labels, walk, viewer)
    meant = [k for k, ids in held.items() if ids]
    ids: tuple[int, ...] = ()
    plane = None if meant and record.runs else np.asarray(data[walk.at(shown)])
    if meant and (
        plane is None
        or not ids_on(plane)
        or not (shown in meant or may_join(labels, walk, shown, record))
        or shows_only_results(labels, walk, shown, ledger, plane)
    ):
        main = min(meant, key=lambda k: (abs(k - shown), k))
    else:
        quick = isinstance(data, np.ndarray) and data.size <= _QUICK
        seen = None if look or quick else np.flatnonzero(record.kind != Kind.EMPTY).tolist()
        main, ids = main_anchor(labels, walk, viewer, ledger, seen, plane)
        refuse_results(labels, walk, main, viewer, ledger, plane if main == shown else None)
    union = {*ids, *(i for k in meant for i in held[k])}
    if min(union, default=0) < 0:
        worst = next((k for k in meant if held[k][0] < 0), main)
        raise PromptError(f"Slice {worst} holds negative labels: use ids from 1 up.")
    # one that holds nothing was checked to be empty: labels end there
    others = tuple(k for k in known if k != main)
    return Choice(main, others, tuple(sorted(union)), main not in known)


def may_join(labels: Labels, walk: Walk, k: int, record: Provenance) -> bool:
    """Whether a slice that is only shown may be meant beside anchors.

    A brush was on it, or nothing is on the slices beside it, so that it is no part of a stack that
    came labelled, and nobody has given it back.
    """
    data: Any = labels.data
    beside = (n for n in (k - 1, k + 1) if 0 <= n < record.length)
    if record.painted[k] or record.written[k]:
        return bool(record.painted[k])
    return not any(np.asarray(data[walk.at(n)]).any() for n in beside)


def main_anchor(
    labels: Labels,
    walk: Walk,
    viewer: ViewerModel,
    ledger: Ledger,
    seen: list[int] | None = None,
    plane: npt.NDArray[Any] | None = None,
) -> tuple[int, tuple[int, ...]]:
    """Slice that serves as prompt when nobody says, and the labels on it.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Its slices.
    viewer : ViewerModel
        Viewer.
    ledger : Ledger
        What was written into the layer before.
    seen : list of int, optional
        Slices that are painted, as far as they were looked at; by default all are looked at now.
    plane : ndarray, optional
        `(H, W)` labels on the shown slice, if they have been read.

    Raises
    ------
    PromptError
        If the shown slice is not painted, and not exactly one other is.
    """
    data: Any = labels.data
    shown = shown_slice(labels, walk, viewer)
    if ids := ids_on(data[walk.at(shown)] if plane is None else plane):
        return shown, ids
    painted = painted_slices(labels, walk) if seen is None else seen
    # of labels on disk hardly any slice was looked at
    unsure = seen is not None and not isinstance(data, np.ndarray)
    if not painted and not unsure:
        names = axis_names(labels)
        here = " and ".join(place(names[axis], at) for axis, at in walk.fixed)
        raise PromptError(
            f"Nothing is painted{f' at {here}' if here else ''}: paint an object on one slice "
            f"first{', or move the sliders' if here else ''}."
        )
    if len(painted) != 1:
        instead = f"go to a painted slice{f' ({numbers(painted)})' if painted else ''}"
        if found := axes_with_results(labels, walk, viewer, ledger):
            # most of what is on those slices, if not all, is no prompt
            instead = f"walk {' or '.join(found)}, along which something was found"
        raise PromptError(f"Nothing is painted on slice {shown}: paint it, or {instead}.")
    return painted[0], ids_on(data[walk.at(painted[0])])
