"""Ends in time: at which time points objects of a series have ended, by a person's word.

An object has ended in time where it has on all walks through time, so that each of these heeds it;
on a single one it has ended on that slice only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.walking.ending import unreached
from napari_imos._record.ledger import Ledger
from napari_imos._walk import Walk

if TYPE_CHECKING:
    from napari.layers import Labels


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
    # this is asked for every label at every time point
    ends = _ends(labels, walk, label) if len(walk.fixed) == 1 else set()
    painted = painted_at(labels, walk, label) if ends else []
    if not painted:
        return False
    beyond = sorted(t for t in ends if not painted[0] <= t <= painted[-1])
    return any(walk.fixed[0][1] in r for r in unreached(painted, beyond))


def goes_on_in_time(labels: Labels, walk: Walk, label: int) -> bool:
    """Take back that a label has ended at the time point of a walk; whether one had said so."""
    here = walk.fixed[0][1]
    said = here in _ends(labels, walk, label)
    if said:
        ledger = Ledger.of(labels)
        for through in through_time(labels, walk):
            ledger.record(labels, through).end(here, label, on=False)
    return said


def through_time(labels: Labels, walk: Walk) -> list[Walk]:
    """Walks through time on the slices of a volume, one for each.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Through the volume of any time point.
    """
    along, slices = walk.fixed[0][0], range(labels.data.shape[walk.axis])
    return [Walk(walk.ndim, along, ((walk.axis, k),)) for k in slices]


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


def _ends(labels: Labels, walk: Walk, label: int) -> set[int]:
    """Time points before which a label has ended on all slices."""
    records = Ledger.of(labels).records
    ends: set[int] | None = None
    for through in through_time(labels, walk):
        record = records.get(through)
        here = {} if record is None else record.ended
        said = {t for t, ended in here.items() if label in ended}
        ends = said if ends is None else ends & said
        if not ends:
            return set()
    return ends or set()
