"""History: runs into a layer, and what Ctrl+Z, renaming and removal have made of them since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import ids_on
from napari_imos._record.changes import Change, Run, joined
from napari_imos._record.probes import (
    NEARLY_ALL,
    found_there,
    held_along,
    held_at,
    is_gone,
    leaves_labels,
    left_at,
    most_slices,
    sample,
    shows_prompts,
    some_changes,
    some_of_each,
    stride,
    witnesses,
)
from napari_imos._record.renaming import (
    Followed,
    keep_dropped,
    missing,
    rename_record,
    rename_run,
    suspects,
)
from napari_imos._record.signs import Signs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from napari_imos._record.left import LeftLabels
    from napari_imos._record.provenance import Provenance
    from napari_imos._record.renaming import Removal
    from napari_imos._walk import Walk

    _Place = tuple[Walk, int]

_DEEPEST = 5  # steps that may have been undone since somebody looked


class History:
    """Runs that stand, and those that were taken back.

    Runs that are one step of undo belong together.

    Parameters
    ----------
    left : LeftLabels
        What they left.
    records : mapping
        Walk -> what is known of its slices.
    prompts : dict
        Walk -> slices that were prompts of runs that stand.
    """

    def __init__(
        self,
        left: LeftLabels,
        records: Mapping[Walk, Provenance],
        prompts: dict[Walk, set[int]],
    ) -> None:
        self._left, self._records, self._prompts = left, records, prompts
        self.signs = Signs()
        """What events say of Ctrl+Z."""
        self._steps: list[list[Run]] = []
        self._undone: list[list[Run]] = []
        # a sample of what is ours without a run that is known: of a saved session, or given back
        self._older: dict[Walk, Run] = {}
        # steps that may have been erased, not undone, with the number of those before them
        self._erased: list[tuple[int, list[Run]]] = []
        self._renamed: set[tuple[int, int]] = set()
        self._removed: dict[int, Removal] = {}
        # voxels by which labels of older steps are known; None: to be chosen anew
        self._witnesses: dict[Walk, dict[int, npt.NDArray[np.int32]]] | None = None

    def clear(self) -> None:
        """Forget everything."""
        self._steps.clear()
        self._undone.clear()
        self._older.clear()
        self._erased.clear()
        self._removed.clear()
        self._witnesses = None
        self.signs = Signs()

    def begin(self, run: Run, *, joins: bool) -> None:
        """Take up a run that begins, or that joins the latest one."""
        self._witnesses = None
        if joins:
            self._steps[-1].append(run)
            return
        # more likely erased than undone: that may still be undone
        unsure = [step for step in reversed(self._undone) if step[0].unsure]
        self._erased += [(len(self._steps) + n, step) for n, step in enumerate(unsure)]
        self._undone.clear()
        self.signs = Signs()
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
            run.changes.append(change)

    def drop(self, run: Run) -> None:
        """Forget a run that changed nothing."""
        self._witnesses = None
        self._steps = [[r for r in step if r is not run] for step in self._steps]
        self._steps = [step for step in self._steps if step]

    def forget_prompt(self, walk: Walk, k: int) -> None:
        """Let a slice be no prompt again when a run that it prompted is done again."""
        for step in (*self._steps, *self._undone, *(step for _, step in self._erased)):
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

    def lift(self, data: Any) -> bool:
        """Take away what runs that were taken back had left under strokes that were, too.

        Such a stroke was painted over a result, which its undo brings back: nobody else would.

        Returns
        -------
        bool
            Whether anything was.
        """
        undone, steps = self.signs.allow_undo, self._undone[-_DEEPEST:]
        lifted = [
            part.lift(data, run.walk, undone=undone, latest=step is steps[-1])
            for step in steps
            for run in step
            for part in run.covered
        ]
        return any(lifted)

    def settle(self, data: Any) -> bool:
        """Forget the latest runs if Ctrl+Z has taken them back, and remember them on redo.

        An object that got another label throughout is followed.

        Parameters
        ----------
        data : array-like
            Of the layer.

        Returns
        -------
        bool
            Whether runs were taken back or made again.
        """
        for label, removal in list(self._removed.items()):
            if removal.is_back(data, self._left):
                removal.undo(data, self._left)
                del self._removed[label]
        for turn in range(2 * _DEEPEST):  # who paints back and forth must not keep it busy for ever
            top = self._steps[-1] if self._steps else ()
            left, held = sample(data, top)
            if not self._moved(data, np.array_equal(left, held)):
                self._follow(data, left, held)
                self._follow(data, *self._sample_below(data))
                return turn > 0
        return True

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

    def _moved(self, data: Any, stands: bool) -> bool:
        """Go back or forth by what Ctrl+Z and Ctrl+Shift+Z have done; whether they have.

        Several steps may have been taken since somebody looked; `stands`: the latest one seems to
        be as it was left.
        """
        if not self.signs.only_edits and self._goes_forth(data, stands):
            return True
        allowed, self.signs.erased = self.signs.allow_undo, False
        # a step that left no labels seems to stand when all is undone
        top = self._steps[-1] if self._steps else None
        if top is None or (stands and leaves_labels(top)):
            return False
        deepest = min(len(self._steps), _DEEPEST) if is_gone(data, top) else 1
        for count in range(2 if stands else 1, deepest + 1):
            if not self._is_undone(data, count, roughly=not allowed):
                continue
            if not allowed or (self.signs.replaced and not self._shows_prompts(data, count)):
                self.signs.erased = True
                return False
            for _ in range(count):
                step = self._steps.pop()
                self._undo(data, step)
                step[0].unsure = not shows_prompts(data, step)
            return True
        return False

    def _goes_forth(self, data: Any, stands: bool) -> bool:
        """Go forth by what Ctrl+Shift+Z has done; see `_moved`."""
        for n, (below, step) in enumerate(self._erased):
            if leaves_labels(step) and self._is_redone(data, step):
                del self._erased[n:]
                while len(self._steps) > below:
                    self._undo(data, self._steps.pop())
                self._redo(data, step)
                return True
        top = self._steps[-1] if self._steps else None
        for count in range(1, min(len(self._undone), _DEEPEST) + 1):
            step = self._undone[-count]
            # where one of both only took labels away, to undo the one that stands may leave what
            # to make the other again does; from there on, either can still be told
            took = not (leaves_labels(step) and (top is None or leaves_labels(top)))
            unsure = took and not stands and self._is_undone(data, 1)
            if not unsure and self._is_redone(data, step):
                for _ in range(count):
                    self._redo(data, self._undone.pop())
                return True
        return False

    def _shows_prompts(self, data: Any, count: int) -> bool:
        """Whether what prompted the latest steps is there: another array may be as before them."""
        return all(shows_prompts(data, step) for step in self._steps[-count:])

    def _is_undone(self, data: Any, count: int, *, roughly: bool = False) -> bool:
        """Whether the layer holds what the latest steps found there, and not what they left.

        A person may have erased that on slices that a brush has touched since: they say nothing.
        """
        found: dict[_Place, list[Change]] = {}
        hidden: dict[_Place, list[npt.NDArray[np.int32]]] = {}
        brushed: set[_Place] = set()
        for run in (run for step in self._steps[-count:] for run in step):
            before = None if run.before is None else run.before.painted
            painted = self._records[run.walk].painted
            for part in run.covered:
                hidden.setdefault((run.walk, part.index), []).append(part.voxels)
            for change in run.changes:
                found.setdefault((run.walk, change.index), []).append(change)
                if painted[change.index] and not (before is None or before[change.index]):
                    brushed.add((run.walk, change.index))
        was: dict[_Place, tuple[npt.NDArray[np.int32], npt.NDArray[Any]]] = {}
        places = [place for place in found if place not in brushed]
        # a sample first, as this is asked often
        few = 1 + len(places) // most_slices(data)
        for whole in (False,) if roughly else (False, True):
            for place in places[:: 1 if whole else few]:
                voxels, old = found_there(found[place])
                under = hidden.get(place)
                if under is not None:  # their strokes' own undo brings them back
                    free = ~np.isin(voxels, np.concatenate(under))
                    voxels, old = voxels[free], old[free]
                step = 1 if whole else stride(voxels.size)
                was[place] = voxels[::step], old[::step]
            if not self._holds(data, was, whole=whole):
                return False
        return True

    def _holds(
        self,
        data: Any,
        was: Mapping[_Place, tuple[npt.NDArray[np.int32], npt.NDArray[Any]]],
        *,
        whole: bool,
    ) -> bool:
        """Whether the layer holds what it did: where `(N,)` voxels of slices, and what that was.

        Somebody may have painted on some slices since; on none of them, all may be as it was left.
        `whole`: a sample of them did, so that slices that do are not looked at more closely.
        """
        same = []
        for walk in {walk for walk, _ in was}:
            wanted = {k: voxels for (other, k), (voxels, _) in was.items() if other == walk}
            for k, held in held_along(data, walk, wanted):
                voxels, old = was[walk, k]
                if whole and np.array_equal(held, old):
                    same.append(True)
                    continue
                left = left_at(self._left, walk.at(k), voxels, data)
                says = old != left
                if not says.any():
                    continue
                if (held[says] == left[says]).all():
                    return False
                same.append(np.array_equal(held[says], old[says]))
        return bool(same) and bool(np.mean(same) >= NEARLY_ALL)

    def _is_redone(self, data: Any, step: Sequence[Run]) -> bool:
        """Whether the layer holds what a step that was taken back had left."""
        labels, same = leaves_labels(step), []
        for run, change in some_changes(data, step):
            if run.before is not None and run.after is not None:
                painted = run.after.painted[change.index] & ~run.before.painted[change.index]
                if painted:
                    continue  # what was painted while it ran lies over it
            every = stride(change.voxels.size)
            new = change.new[::every]
            held, left = self._there(data, run.walk, change.index, change.voxels[::every])
            says = new != left
            if labels:
                says &= new != 0
            if says.any():
                same.append(np.array_equal(held[says], new[says]))
        return bool(same) and bool(np.mean(same) >= NEARLY_ALL)

    def _there(
        self, data: Any, walk: Walk, k: int, voxels: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """What the layer holds at some voxels, `(N,)`, of a slice, and what was left there."""
        where = walk.at(k)
        return held_at(data, where, voxels), left_at(self._left, where, voxels, data)

    def _undo(self, data: Any, step: list[Run]) -> None:
        self._witnesses = None
        for run in reversed(step):
            record = self._records[run.walk]
            run.after = record.copy()
            self._prompts.get(run.walk, set()).difference_update(run.first)
            for part in run.covered:
                part.wait()
            for change in reversed(run.changes):
                self._left.write(run.walk.at(change.index), change.voxels, change.noted, data.shape)
                # what was found to be right is gone
                record.checked[change.index] = False
            if run.before is not None:
                record.take(run.before, run.delivered)
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

    def _redo(self, data: Any, step: list[Run]) -> None:
        self._witnesses = None
        for run in step:
            self._prompts.setdefault(run.walk, set()).update(run.first)
            for change in run.changes:
                self._left.write(run.walk.at(change.index), change.voxels, change.new, data.shape)
            if run.after is not None:
                record = self._records[run.walk]
                record.take(run.after, run.delivered)
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
        found = Followed(data, self._left, self._prompts, gone, others, self._renamed)
        self._removed |= found.removals(self._latest)
        found.note()
        if found.names:
            self._rename(data, found.names)

    def _is_settled(self, label: int) -> bool:
        """Whether a label is known to be gone since the latest run."""
        known = self._removed.get(label)
        return known is not None and known.run is self._latest

    @property
    def _latest(self) -> Run | None:
        """Latest run of this sitting that stands."""
        return self._steps[-1][-1] if self._steps else None

    def _rename(self, data: Any, names: Mapping[int, int]) -> None:
        """Let runs, and what is known of slices, be about other labels."""
        self._witnesses = None
        for step in (*self._standing, *self._undone):
            for run in step:
                rename_run(run, names)
        for walk, record in self._records.items():
            rename_record(record, names)
            keep_dropped(record, data, walk, names)
