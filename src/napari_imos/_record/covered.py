"""Covered: what a run had left under a stroke that was painted while it ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._record.left import within
from napari_imos._record.probes import held_at, in_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_imos._record.changes import Change
    from napari_imos._walk import Walk


@dataclass(frozen=True, eq=False)
class Covered:
    """Voxels of one slice; the stroke's own undo brings back what the run had left there."""

    index: int
    """Slice of the walk."""
    voxels: npt.NDArray[np.int32]
    """`(N,)` positions in the flattened slice."""
    old: npt.NDArray[Any]
    """`(N,)` labels before the run."""
    new: npt.NDArray[Any]
    """`(N,)` labels that it had left."""

    def lift(self, data: Any, walk: Walk) -> bool:
        """Take away what the run had left where a stroke was just taken back; whether it was there.

        Parameters
        ----------
        data : array-like
            Of the layer.
        walk : Walk
            Of the run.
        """
        where = walk.at(self.index)
        lifted = held_at(data, where, self.voxels) == self.new
        if not lifted.any():
            return False
        rows, columns, box = in_box(data, where, self.voxels[lifted])
        part = np.array(data[within(where, box)])
        part[rows, columns] = self.old[lifted]
        data[within(where, box)] = part
        return True


def covered_parts(changes: Sequence[Change], which: npt.NDArray[np.bool_]) -> list[Covered]:
    """Return the parts of changes that lie under strokes.

    Parameters
    ----------
    changes : sequence of Change
        Changes.
    which : ndarray
        `(N,)` where, of all their voxels.
    """
    ends = np.cumsum([change.voxels.size for change in changes])[:-1]
    return [
        Covered(change.index, change.voxels[there], change.old[there], change.new[there])
        for change, there in zip(changes, np.split(which, ends), strict=True)
        if there.any()
    ]
