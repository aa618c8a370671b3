"""Newcomers: objects that came to a predicted slice without a brush that was seen on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import carries, ids_on
from napari_imos._record.crossing import meeting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from napari_imos._record.provenance import Provenance
    from napari_imos._walk import Walk


def is_painted(
    data: Any,
    walk: Walk,
    k: int,
    plane: npt.NDArray[Any],
    left: npt.NDArray[Any] | None,
    records: Mapping[Walk, Provenance],
    crossing: Iterable[Walk],
) -> bool:
    """Whether somebody has painted an object on a slice that runs know nothing of.

    Either a brush was seen on it while the layer was looked at along another axis, or it is on
    neither neighbour: a script, or another plugin, that writes it on all slices gives no prompt.
    What the slices across hold of it must not be all: a line of an object is no prompt, and would
    have all other objects of the slice stay as they are.

    Parameters
    ----------
    data : array-like
        Of the layer.
    walk, k : Walk, int
        Slice, which a run has delivered.
    plane : ndarray
        `(H, W)` labels that the layer holds there.
    left : ndarray or None
        `(H, W)` what runs have left there; None: nothing.
    records : mapping
        Walk -> what is known of its slices.
    crossing : iterable of Walk
        Those that cross it.
    """
    theirs = plane if left is None else np.where(plane != left, plane, 0)
    for other in crossing:
        lines = np.zeros(theirs.shape, bool)
        for m in np.flatnonzero(records[other].painted).tolist():
            if (part := meeting(walk, k, other, m)) is not None:
                lines[part] = True
        if carries(theirs[~lines], ids_on(theirs[lines])).any():
            return True
    record = records[walk]
    if k in record.foreign:
        return False  # nobody can tell what is new among what lay there when a run came by
    new = set(ids_on(theirs)).difference(record.ids)
    beside = [n for n in (k - 1, k + 1) if 0 <= n < record.length]
    return bool(new) and not any(new & set(ids_on(data[walk.at(n)])) for n in beside)
