"""Tally: what a layer holds by now where runs left labels, counted for many of them in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import carries, heads

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from napari_imos._record.left import LeftLabels

NEARLY_WHOLE = 0.99  # share of the voxels: a fill bucket leaves those that are not connected
MOSTLY = 0.9  # share of the voxels: others may have been painted over before


class Tally:
    """Voxels where runs left labels, counted by what was left and what the layer holds.

    Parameters
    ----------
    data : array-like
        Of the layer.
    left : LeftLabels
        What runs left.
    labels : collection of int
        Those that are counted.
    """

    def __init__(self, data: Any, left: LeftLabels, labels: Collection[int]) -> None:
        none: npt.NDArray[Any] = np.zeros(0, data.dtype)
        parts = [(none, none, np.zeros(0, np.int64))]
        for key, plane in left.planes():
            there = plane.reshape(-1)
            if carries(there[heads(there)], labels).any():
                held = np.asarray(data[key]).reshape(-1)
                starts = heads(there, held)
                which = carries(there[starts], labels)
                sizes = np.diff(starts, append=there.size)
                parts.append(_summed(*(x[which] for x in (there[starts], held[starts], sizes))))
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._left, self._held, self._count = _summed(*columns)
        self._now = self._left.copy()

    def has_become(self, label: int, other: int) -> bool:
        """Whether a label is nowhere any more: most of its voxels hold another one, or nothing."""
        mine = self._now == label
        if (self._held[mine] == label).any():
            return False
        return 0 < MOSTLY * self._sum(mine) <= self._sum(mine & (self._held == other))

    def is_whole(self, label: int, other: int) -> bool:
        """Whether all voxels where a label was left hold another one, or nothing."""
        return bool((self._held[self._left == label] == other).all())

    def is_renamed(self, old: int, new: int, *, back: bool = False) -> bool:
        """Whether voxels of a label hold another one, which was left nowhere, instead.

        Most of all, and nearly all of those that were not painted over.

        Parameters
        ----------
        old, new : int
            Labels.
        back : bool
            Whether it was the other one before: what was not renamed then is still there.
        """
        mine = self._now == old
        was, now = self._sum(mine), self._sum(mine & (self._held == new))
        still = self._sum(mine & (self._held == old))
        before = self._sum(self._now == new)
        if (before and not back) or now < MOSTLY * was:
            return False
        return now >= NEARLY_WHOLE * (now + still) and before <= (1 - NEARLY_WHOLE) * (before + was)

    def rename(self, old: int, new: int) -> None:
        """Let another label have been left wherever one was, but where the layer still holds it."""
        self._now[(self._now == old) & (self._held != old)] = new

    def write(self, left: LeftLabels, data: Any) -> None:
        """Let labels have been left as they were renamed."""
        names: dict[int, int] = {}
        but: dict[int, dict[int, int]] = {}
        for label in np.unique(self._left[self._now != self._left]).tolist():
            rows = np.flatnonzero(self._left == label)
            names[label] = int(self._now[rows[self._count[rows].argmax()]])
            for row in rows[self._now[rows] != names[label]]:
                but.setdefault(label, {})[int(self._held[row])] = int(self._now[row])
        if names:
            left.rename(names, but, data)

    def _sum(self, rows: npt.NDArray[np.bool_]) -> int:
        return int(self._count[rows].sum())


def _summed(
    left: npt.NDArray[Any], held: npt.NDArray[Any], count: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Sum up the voxels of the same labels, left and held; all `(N,)`."""
    order = np.lexsort((held, left))
    left, held, count = left[order], held[order], count[order]
    starts = heads(left, held)
    # reduceat knows no empty sums
    sums = np.add.reduceat(count, starts) if starts.size else count
    return left[starts], held[starts], sums
