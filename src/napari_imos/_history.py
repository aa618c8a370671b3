"""History: runs into a layer, and what Ctrl+Z, renaming and removal have made of them since."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._renaming import (
    Removal,
    is_renamed,
    keep_dropped,
    missing,
    rename_record,
    rename_run,
    shows,
    suspects,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from napari_imos._left import LeftLabels
    from napari_imos._provenance import Provenance
    from napari_imos._walk import Walk

_SAMPLE = 100_000  # voxels that are looked at to see whether a run was taken back


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
    facts: dict[str, Any] = field(default_factory=dict)
    """Model, checksum, adapter, range: what the record says of the run."""
    changes: list[Change] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    """Slices that have arrived."""
    before: Provenance | None = None
    """Record before the run."""
    after: Provenance | None = None
    """Record when it was taken back."""


class History:
    """Runs that stand, and those that were taken back.

    Parameters
    ----------
    left : LeftLabels
        What they left.
    records : mapping
        Walk -> what is known of its slices.
    prompts : mapping
        Walk -> slices that were prompts.
    """

    def __init__(
        self,
        left: LeftLabels,
        records: Mapping[Walk, Provenance],
        prompts: Mapping[Walk, Iterable[int]],
    ) -> None:
        self._left, self._records, self._prompts = left, records, prompts
        self._runs: list[Run] = []
        self._undone: list[Run] = []
        self._renamed: set[tuple[int, int]] = set()
        self._removed: dict[int, Removal] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._runs.clear()
        self._undone.clear()
        self._removed.clear()

    def begin(self, run: Run) -> None:
        """Take up a run that begins."""
        self._undone.clear()
        self._runs.append(run)

    def drop(self, run: Run) -> None:
        """Forget a run that changed nothing."""
        self._runs.remove(run)

    def settle(self, data: Any) -> None:
        """Forget the latest runs if Ctrl+Z has taken them back, and remember them on redo.

        An object that got another label throughout is followed.

        Parameters
        ----------
        data : array-like
            Of the layer.
        """
        for label, removal in list(self._removed.items()):
            if removal.is_back(data, self._left.planes):
                removal.undo(self._left.planes)
                del self._removed[label]
        if self._runs:
            left, held = self._sample(data, self._runs[-1])
            if not np.array_equal(left, held):
                self._follow(data, left, held)
                self._forget_undone(data)
        while self._undone and self._stands(data, self._undone[-1]):
            run = self._undone.pop()
            for change in run.changes:
                self._left.write(run.walk.at(change.index), change.voxels, change.new, data.shape)
            if run.after is not None:
                record = self._records[run.walk]
                record.take(run.after, run.delivered)
                record.runs[:] = run.after.runs
                record.still_dropped(run.after)
                for change in run.changes:
                    record.checked[change.index] |= run.after.checked[change.index]
            self._runs.append(run)

    def _follow(self, data: Any, left: npt.NDArray[Any], held: npt.NDArray[Any]) -> None:
        """Follow objects that the latest run left, and that are gone or have another label now."""
        run = self._runs[-1]
        for label in missing(left, held):
            known = self._removed.get(label)
            # looking through all planes takes long: only where it may come to something
            if (known is not None and known.run is run) or shows(data, self._prompts, label):
                continue
            removal = Removal(label, self._left.planes, run)
            if removal.stands(data):
                removal.do(self._left.planes)
                self._removed[label] = removal
        for old, new in suspects(left, held).items():
            # undone: prompts may show the other label as they did before
            back = (new, old) in self._renamed
            if is_renamed(data, self._left.planes, {} if back else self._prompts, old, new):
                self._rename(data, old, new)

    def _forget_undone(self, data: Any) -> None:
        while self._runs and not self._stands(data, self._runs[-1]):
            run = self._runs.pop()
            record = self._records[run.walk]
            run.after = record.copy()
            for change in reversed(run.changes):
                self._left.write(run.walk.at(change.index), change.voxels, change.noted, data.shape)
                # what was found to be right is gone
                record.checked[change.index] = False
            if run.before is not None:
                record.take(run.before, run.delivered)
                record.runs[:] = run.before.runs
                record.still_dropped(run.before)
            self._undone.append(run)

    def _rename(self, data: Any, old: int, new: int) -> None:
        self._renamed.add((old, new))
        for plane in self._left.planes.values():
            plane[plane == old] = new
        for run in (*self._runs, *self._undone):
            rename_run(run, old, new)
        for walk, record in self._records.items():
            rename_record(record, old, new)
            keep_dropped(record, data, walk, old, new)

    def _stands(self, data: Any, run: Run) -> bool:
        """Whether most of what a run wrote is still there, judged by a sample.

        Of one label is enough: Ctrl+Z takes back all, a person one object.
        """
        left, held = self._sample(data, run)
        same = left == held
        shown = np.unique(left[left != 0])
        parts = [same[left == label] for label in shown.tolist()] or [same]
        return any(2 * int(np.count_nonzero(part)) >= part.size for part in parts)

    @staticmethod
    def _sample(data: Any, run: Run) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return a sample of what a run wrote, `(N,)`, and what the layer holds there."""
        step = 1 + sum(change.voxels.size for change in run.changes) // _SAMPLE
        left, held = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)]
        for change in run.changes:
            plane = np.asarray(data[run.walk.at(change.index)])
            held.append(plane[np.unravel_index(change.voxels[::step], plane.shape)])
            left.append(change.new[::step])
        return np.concatenate(left), np.concatenate(held)
