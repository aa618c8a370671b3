"""Ledger: which voxels of a Labels layer hold our results; all others are the person's."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from napari.layers import Labels

    from napari_imos._walk import Index, Walk

_KEY = "napari-imos"


@dataclass(frozen=True)
class Change:
    """Voxels of one slice that a run changed."""

    index: int
    """Slice of the walk."""
    voxels: npt.NDArray[np.int32]
    """`(N,)` positions in the flattened slice."""
    old: npt.NDArray[Any]
    """`(N,)` labels before."""
    new: npt.NDArray[Any]
    """`(N,)` labels after."""
    noted: npt.NDArray[Any]
    """`(N,)` what the ledger said before."""


@dataclass(eq=False)
class Run:
    """One propagation into a layer."""

    walk: Walk
    anchors: tuple[int, ...]
    ids: tuple[int, ...]
    changes: list[Change] = field(default_factory=list)


class Ledger:
    """What runs have written into one Labels layer; it lives in the layer's metadata.

    A voxel is ours while it still holds what the last run left there. Anything else is the
    person's: painted, filled, loaded or corrected.
    """

    def __init__(self) -> None:
        self.busy = False
        """Whether a run is writing."""
        self._runs: list[Run] = []
        self._prompts: dict[Walk, set[int]] = {}
        # planes of the last two axes, by their position on the others: only where we wrote
        self._planes: dict[tuple[int, ...], npt.NDArray[Any]] = {}

    @classmethod
    def of(cls, labels: Labels) -> Ledger:
        """Return the ledger of a layer, an empty one before its first run."""
        ledger = labels.metadata.get(_KEY)
        return ledger if isinstance(ledger, Ledger) else cls()

    def ours(self, where: Index, plane: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which voxels of a slice, `(H, W)`, are ours.

        Parameters
        ----------
        where : tuple
            Basic index of the slice.
        plane : ndarray
            `(H, W)` labels that the layer holds there.
        """
        return (plane != 0) & (plane == self._read(where, plane))

    def open(self, run: Run, labels: Labels) -> None:
        """Begin a run in a layer."""
        labels.metadata[_KEY] = self
        self.busy = True
        self._runs.append(run)

    def close(self, run: Run) -> None:
        """End a run; one that changed nothing leaves no trace."""
        self.busy = False
        if run.changes:
            self._prompts.setdefault(run.walk, set()).update(run.anchors)
        else:
            self._runs.remove(run)

    def note(self, run: Run, where: Index, change: Change, shape: tuple[int, ...]) -> None:
        """Note a change that is being written."""
        run.changes.append(change)
        self._write(where, change.voxels, change.new, shape)

    def noted(self, where: Index, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Labels that we left on a slice, `(H, W)`; 0 where we did not write."""
        return self._read(where, plane)

    def prompts(self, labels: Labels, walk: Walk) -> list[int]:
        """Slices that were prompts of a run and are still painted."""
        data: Any = labels.data
        earlier = self._prompts.get(walk, ())
        return sorted(k for k in earlier if np.asarray(data[walk.at(k)]).any())

    def user_slices(self, labels: Labels, walk: Walk) -> list[int]:
        """Slices that a person made: earlier prompts, and results corrected since.

        Parameters
        ----------
        labels : Labels
            The layer.
        walk : Walk
            Only slices of this walk.
        """
        self.settle(labels)
        data: Any = labels.data
        runs = [run for run in self._runs if run.walk == walk]
        ids = [i for run in runs for i in run.ids]
        anchors = set(self.prompts(labels, walk))
        changed = {change.index for run in runs for change in run.changes} - anchors
        for k in changed:
            plane = np.asarray(data[walk.at(k)])
            noted = self._read(walk.at(k), plane)
            differs = (plane != noted) & ((noted != 0) | np.isin(plane, ids))
            if differs.any():
                anchors.add(k)
        return sorted(anchors)

    def settle(self, labels: Labels) -> None:
        """Forget the latest runs if Ctrl+Z has taken them back."""
        data: Any = labels.data
        while self._runs and not self._stands(data, self._runs[-1]):
            run = self._runs.pop()
            for change in reversed(run.changes):
                self._write(run.walk.at(change.index), change.voxels, change.noted, data.shape)

    @staticmethod
    def _stands(data: Any, run: Run) -> bool:
        """Whether most of what a run wrote is still there."""
        total = same = 0
        for change in run.changes:
            plane = np.asarray(data[run.walk.at(change.index)]).reshape(-1)
            same += int(np.count_nonzero(plane[change.voxels] == change.new))
            total += change.voxels.size
        return total == 0 or 2 * same >= total

    def _read(self, where: Index, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        noted = np.zeros_like(like)
        for key, row, part in _parts(where, like.shape):
            if key in self._planes:
                noted[row] = self._planes[key][part]
        return noted

    def _write(
        self,
        where: Index,
        voxels: npt.NDArray[np.int32],
        values: npt.NDArray[Any],
        shape: tuple[int, ...],
    ) -> None:
        size = tuple(n for n, i in zip(shape, where, strict=True) if isinstance(i, slice))
        touched = np.zeros(size, bool)
        touched.reshape(-1)[voxels] = True
        noted = np.zeros(size, values.dtype)
        noted.reshape(-1)[voxels] = values
        for key, row, part in _parts(where, size):
            if touched[row].any():
                plane = self._planes.setdefault(key, np.zeros(shape[-2:], values.dtype))
                plane[part] = np.where(touched[row], noted[row], plane[part])


def _parts(where: Index, size: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Index, Index]]:
    """Split a slice by stored plane: key of the plane, index in the slice, index in the plane."""
    *lead, row, column = where
    lengths = iter(size)
    ranges = [range(next(lengths)) if isinstance(i, slice) else (i,) for i in lead]
    for key in product(*ranges):
        inner = tuple(k for k, i in zip(key, lead, strict=True) if isinstance(i, slice))
        yield key, inner, (row, column)
