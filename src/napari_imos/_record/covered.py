"""Covered: what a run had left under a stroke that was painted while it ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._record.left import within
from napari_imos._record.probes import held_at, in_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_imos._record.changes import Change
    from napari_imos._walk import Walk


@dataclass(eq=False)
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
    over: npt.NDArray[Any]
    """`(N,)` labels that were painted over them."""
    _waits: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.wait()

    def wait(self) -> None:
        """Wait for the stroke's undo: the run was just taken back."""
        self._waits = np.ones(self.voxels.size, bool)

    def lift(self, data: Any, walk: Walk, *, undone: bool, latest: bool) -> bool:
        """Take away what the run had left where the stroke was taken back since the last look.

        Only then: whoever writes the same label there later on means it.

        Parameters
        ----------
        data : array-like
            Of the layer.
        walk : Walk
            Of the run.
        undone : bool
            Whether what is there now may be what Ctrl+Z has left.
        latest : bool
            Whether no step below the run was taken back since: these leave 0, too.

        Returns
        -------
        bool
            Whether anything was.
        """
        where = walk.at(self.index)
        held = held_at(data, where, self.voxels)
        back = held == self.new
        lifted = back & self._waits & (latest | (self.new != 0))
        # a stroke that is made again is waited for again
        self._waits = (self._waits & ~back) | (held == self.over)
        if not undone or not lifted.any():
            return False
        rows, columns, box = in_box(data, where, self.voxels[lifted])
        part = np.array(data[within(where, box)])
        part[rows, columns] = self.old[lifted]
        data[within(where, box)] = part
        return True


def covered_parts(
    changes: Sequence[Change], held: npt.NDArray[Any], which: npt.NDArray[np.bool_]
) -> list[Covered]:
    """Return the parts of changes that lie under strokes.

    Parameters
    ----------
    changes : sequence of Change
        Changes.
    held : ndarray
        `(N,)` what the layer holds at all their voxels.
    which : ndarray
        `(N,)` where that is a stroke.
    """
    ends = np.cumsum([change.voxels.size for change in changes])[:-1]
    return [
        Covered(c.index, c.voxels[there], c.old[there], c.new[there], now[there])
        for c, now, there in zip(changes, np.split(held, ends), np.split(which, ends), strict=True)
        if there.any()
    ]
