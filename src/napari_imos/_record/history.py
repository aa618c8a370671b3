"""History: runs into a layer, and what Ctrl+Z, renaming and removal have made of them since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import ids_on
from napari_imos._record.changes import Change, Run, joined
from napari_imos._record.probes import held_along, left_at, sample, some_of_each, witnesses
from napari_imos._record.renaming import (
    Followed,
    keep_dropped,
    missing,
    rename_record,
    rename_run,
    suspects,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from napari_imos._record.left import LeftLabels
    from napari_imos._record.provenance import Provenance
    from napari_imos._record.renaming import Removal
    from napari_imos._walk import Walk


class History:
    """Runs that stand, and those that were taken back.

    Runs that are one step of undo belong together.

    Parameters
    ----------
    left : LeftLabels
        What they left.
    records : mapping
        Walk -> what is known of its slices.
    """

    def __init__(self, left: LeftLabels, records: Mapping[Walk, Provenance]) -> None:
        self._left, self._records = left, records
        self._steps: list[list[Run]] = []
        self._undone: list[list[Run]] = []
        # a sample of what is ours without a run that is known: of a saved session, or given back
        self._older: dict[Walk, Run] = {}
        self._renamed: set[tuple[int, int]] = set()
        self._removed: dict[int, Removal] = {}
        # voxels by which labels of older steps are known; None: to be chosen anew
        self._witnesses: dict[Walk, dict[int, npt.NDArray[np.int32]]] | None = None

    def clear(self) -> None:
        """Forget everything."""
        self._steps.clear()
        self._undone.clear()
        self._older.clear()
        self._removed.clear()
        self._witnesses = None

    def begin(self, run: Run, *, joins: bool) -> None:
        """Take up a run that begins, or that joins the latest one."""
        self._witnesses = None
        if joins:
            self._steps[-1].append(run)
            return
        self._steps.append([run])

    def note(self, run: Run, change: Change) -> None:
        """Take up what a run has changed on a slice.

        Where another run of the same step has changed it before, that is one change, as it is one
        step of undo.
        """
        for other in self._steps[-1]:
            if other is run or other.walk != run.walk:
                continue
            for n, earlier in enumerate(other.changes):
                if earlier.index == change.index:
                    other.changes[n], change = joined(earlier, change)
            other.changes[:] = [c for c in other.changes if c.voxels.size]
        if change.voxels.size:
            # as napari does: what a run that changes nothing comes after can still be made again
            self._undone.clear()
            run.changes.append(change)

    def drop(self, run: Run) -> None:
        """Forget a run that changed nothing."""
        self._witnesses = None
        for step in self._steps:
            step[:] = [r for r in step if r is not run]
        self._steps = [step for step in self._steps if step]

    def forget_prompt(self, walk: Walk, k: int) -> None:
        """Let a slice be no prompt again when a run that it prompted is done again."""
        for step in (*self._steps, *self._undone):
            for run in step:
                if run.walk == walk:
                    run.first -= {k}

    def adopt(
        self, walk: Walk, index: int, voxels: npt.NDArray[np.int32], left: npt.NDArray[Any]
    ) -> None:
        """Take up what counts as left on a slice, though no run that is known has left it there.

        Parameters
        ----------
        walk, index : Walk, int
            Slice.
        voxels : ndarray
            `(N,)` positions in the flattened slice.
        left : ndarray
            `(N,)` labels there.
        """
        self._witnesses = None
        run = self._older.setdefault(walk, Run(walk, (), ()))
        labels = left[left != 0]
        few = some_of_each(labels, ids_on(labels))
        if few.size:
            labels, voxels = labels[few], voxels[left != 0][few]
            none = np.zeros_like(labels)
            run.changes.append(Change(index, voxels, none, labels, none))

    def adopt_from(self, other: History, data: Any) -> None:
        """Take up what stands in another history, without what Ctrl+Z takes back there.

        Parameters
        ----------
        other : History
            The other one.
        data : array-like
            Of its layer.
        """
        for walk, slices in witnesses(data, [*other._standing, []]).items():
            for k, voxels in slices.items():
                self.adopt(walk, k, voxels, left_at(other._left, walk.at(k), voxels, data))

    @property
    def _standing(self) -> list[list[Run]]:
        """Steps that stand, ascending, with what is older than all of them."""
        return [[*self._older.values()], *self._steps]

    def settle(self, data: Any) -> None:
        """Follow objects that got another label throughout, or were taken away, or came back."""
        for label, removal in list(self._removed.items()):
            if removal.is_back(data, self._left):
                removal.undo(data, self._left)
                del self._removed[label]
        self._follow(data, *sample(data, self._steps[-1] if self._steps else ()))
        self._follow(data, *self._sample_below(data))

    def _sample_below(self, data: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Do as `sample` for labels that the latest step did not leave: the one that did last.

        What was taken away since is left out.
        """
        if self._witnesses is None:
            steps = self._standing if self._steps else [*self._standing, []]
            self._witnesses = witnesses(data, steps)
        left, held = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)]
        for walk, slices in self._witnesses.items():
            for k, now in held_along(data, walk, slices):
                still = left_at(self._left, walk.at(k), slices[k], data)
                held.append(now[still != 0])
                left.append(still[still != 0])
        return np.concatenate(left), np.concatenate(held)

    @property
    def latest(self) -> list[Run] | None:
        """The latest step that stands; while runs are on their way, theirs."""
        return self._steps[-1] if self._steps else None

    def stands(self, step: list[Run]) -> bool:
        """Whether a step was not taken back."""
        return any(other is step for other in self._steps)

    def undo(self, data: Any, step: list[Run]) -> None:
        """Forget a step that Ctrl+Z has taken back."""
        if not _taken_out(step, self._steps):
            return
        self._witnesses = None
        for run in reversed(step):
            record = self._records[run.walk]
            run.after = record.copy()
            record.prompts -= run.first
            for change in reversed(run.changes):
                self._left.write(run.walk.at(change.index), change.voxels, change.noted, data.shape)
                # what was found to be right is gone
                record.checked[change.index] = False
            if run.before is not None:
                record.take(run.before, run.delivered)
                record.take_basis(run.before, run.filled)
                record.runs[:] = run.before.runs
                record.still_dropped(run.before)
                for k in run.erased:
                    record.erased.pop(k, None)
                    if k in run.before.erased:
                        record.erased[k] = run.before.erased[k]
            for walk, k, label in run.ends:
                if walk in self._records:
                    self._records[walk].end(k, label, on=False)
            for (walk, k), known in run.disturbed.items():
                if walk in self._records:
                    self._records[walk].calm(k, known)
        self._undone.append(step)

    def redo(self, data: Any, step: list[Run]) -> None:
        """Remember a step that Ctrl+Shift+Z has made again."""
        if not _taken_out(step, self._undone):
            return
        self._witnesses = None
        for run in step:
            record = self._records[run.walk]
            record.prompts |= run.first
            for change in run.changes:
                self._left.write(run.walk.at(change.index), change.voxels, change.new, data.shape)
            if run.after is not None:
                record.take(run.after, run.delivered)
                record.take_basis(run.after, run.filled)
                record.runs[:] = run.after.runs
                record.still_dropped(run.after)
                record.erased.update(run.erased)
                for change in run.changes:
                    record.checked[change.index] |= run.after.checked[change.index]
                for walk, k, label in run.ends:
                    if walk in self._records:
                        self._records[walk].end(k, label)
            for walk, k in run.disturbed:
                if walk in self._records:
                    self._records[walk].disturb(k)
        self._steps.append(step)

    def _follow(self, data: Any, left: npt.NDArray[Any], held: npt.NDArray[Any]) -> None:
        """Follow objects that are gone, or have another label now, as a sample says."""
        gone = [i for i in missing(left, held) if not self._is_settled(i)]
        others = {i: new for i, new in suspects(left, held).items() if not self._is_settled(i)}
        if not gone and not others:
            return
        prompts = {walk: record.prompts for walk, record in self._records.items()}
        found = Followed(data, self._left, prompts, gone, others, self._renamed)
        self._removed |= found.removals(self._latest_run)
        found.note()
        if found.names:
            self._rename(data, found.names)

    def _is_settled(self, label: int) -> bool:
        """Whether a label is known to be gone since the latest run."""
        known = self._removed.get(label)
        return known is not None and known.run is self._latest_run

    @property
    def _latest_run(self) -> Run | None:
        """Latest run of this sitting that stands."""
        return self.latest[-1] if self.latest else None

    def _rename(self, data: Any, names: Mapping[int, int]) -> None:
        """Let runs, and what is known of slices, be about other labels."""
        self._witnesses = None
        for step in (*self._standing, *self._undone):
            for run in step:
                rename_run(run, names)
        for walk, record in self._records.items():
            rename_record(record, names)
            keep_dropped(record, data, walk, names)


def _taken_out(step: list[Run], steps: list[list[Run]]) -> bool:
    """Take a step out of some; whether it was there."""
    where = [n for n, other in enumerate(steps) if other is step]
    for n in where:
        del steps[n]
    return bool(where)
