"""Ends in time: at which time points objects of a series have ended, by a person's word.

It is kept in the records of walks through time, whichever slice these go through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.ending import unreached
from napari_imos._ledger import Ledger
from napari_imos._walk import Walk

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_imos._provenance import Provenance


def ended_in_time(labels: Labels, walk: Walk, label: int) -> bool:
    """Whether a label has ended at the time point of a walk, seen from where it is painted.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Through the volume of that time point; of others, nothing is known.
    label : int
        Label.
    """
    if len(walk.fixed) != 1:
        return False
    said = [record for record in _through_time(labels, walk) if record.ended]
    painted = painted_at(labels, walk, label) if said else []
    ends = sorted({t for record in said for t in record.ends(label, painted)})
    return bool(painted) and any(walk.fixed[0][1] in r for r in unreached(painted, ends))


def goes_on_in_time(labels: Labels, walk: Walk, label: int) -> bool:
    """Take back that a label has ended at the time point of a walk; whether one had said so."""
    here, said = walk.fixed[0][1], False
    for record in _through_time(labels, walk):
        if label in record.ended.get(here, ()):
            record.end(here, label, on=False)
            said = True
    return said


def painted_at(labels: Labels, walk: Walk, label: int) -> list[int]:
    """Time points with anchors that show a label, ascending, as last seen.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Through the volume of any time point.
    label : int
        Label.
    """
    ledger, found = Ledger.of(labels), []
    for other in list(ledger.records):
        if other.fixed and other == step_of(walk, other.fixed[0][1]):
            known = ledger.known_anchors(labels, other)
            if any(label in ledger.ids_seen(labels, other, k) for k in known):
                found.append(other.fixed[0][1])
    return sorted(found)


def step_of(walk: Walk, t: int) -> Walk:
    """Return the walk through another time point that goes the same way."""
    return Walk(walk.ndim, walk.axis, ((walk.fixed[0][0], t),))


def _through_time(labels: Labels, walk: Walk) -> list[Provenance]:
    """Records of the walks through time on the slices of a volume."""
    along = walk.fixed[0][0]
    return [
        record
        for other, record in Ledger.of(labels).records.items()
        if other.axis == along and [axis for axis, _ in other.fixed] == [walk.axis]
    ]
