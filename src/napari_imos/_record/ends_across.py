"""Ends across: where objects have ended, by a person's word, along other axes than a walk's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imos_core.walking.ending import unreached
from napari_imos._record.crossing import crossed
from napari_imos._record.other_axes import across

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt
    from napari.layers import Labels

    from napari_imos._record.ledger import Ledger
    from napari_imos._walk import Walk

    Prompts = Mapping[int, npt.NDArray[Any]]
    """Slice -> `(H, W)` labels."""


class EndAcross(NamedTuple):
    """A label that has ended along another axis."""

    label: int
    side: int
    """Which side of the slices of the walk lies along that axis: 0 or 1."""
    beyond: npt.NDArray[np.bool_]
    """`(N,)` positions along it where the label has ended."""


def ends_across(
    ledger: Ledger, labels: Labels, walk: Walk, prompts: Prompts
) -> Iterator[EndAcross]:
    """Yield what has ended along the other axes of the volume that a walk goes through.

    Parameters
    ----------
    ledger : Ledger
        What is known of the layer.
    labels : Labels
        Layer.
    walk : Walk
        What is walked.
    prompts : mapping of int to ndarray
        Its prompts: who has painted an object beyond its end has moved that.
    """
    sides = [axis for axis in walk.kept if axis != walk.axis]
    for other in across(walk, ledger):
        record = ledger.records[other]
        for label in sorted({i for said in record.ended.values() for i in said}):
            shown = _shown(ledger, labels, other, label)
            shown |= _painted(ledger, labels, walk, prompts, other, label)
            if not shown and (most := shown_most(ledger, labels, other, label)) is not None:
                shown = {most}
            if not shown:
                continue
            places, beyond = sorted(shown), np.zeros(record.length, bool)
            for part in unreached(places, record.ends(label, places)):
                beyond[part.start : part.stop] = True
            if beyond.any():
                yield EndAcross(label, sides.index(other.axis), beyond)


def shown_most(ledger: Ledger, labels: Labels, walk: Walk, label: int) -> int | None:
    """Of the slices on which runs have left a label, the one that shows most of it; None if none.

    That is where it lies if no anchor of the walk shows it.
    """
    data: Any = labels.data
    areas = {
        k: np.count_nonzero(np.asarray(data[walk.at(k)]) == label)
        for k in ledger.left_on(walk, label)
    }
    return max(areas, key=lambda k: areas[k], default=None)


def _shown(ledger: Ledger, labels: Labels, walk: Walk, label: int) -> set[int]:
    """Anchors that show a label, as last seen."""
    known = ledger.known_anchors(labels, walk)
    return {k for k in known if label in ledger.ids_seen(labels, walk, k)}


def _painted(
    ledger: Ledger, labels: Labels, walk: Walk, prompts: Prompts, other: Walk, label: int
) -> set[int]:
    """Slices of another walk on which prompts show what was painted of a label."""
    found: set[int] = set()
    for k, plane in prompts.items():
        painted = (plane == label) & ~ledger.ours(walk.at(k), plane)
        voxels = np.flatnonzero(painted).astype(np.int32)
        found.update(crossed(walk, k, voxels, labels.data.shape, other))
    return found
