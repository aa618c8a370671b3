"""Ledger: which voxels of a Labels layer hold our results; all others are the person's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from psygnal import Signal

from imos_core.anchors import around
from imos_core.label_ids import carries
from napari_imos._record.crossing import crossed, crosses
from napari_imos._record.filled import filled, went_through
from napari_imos._record.history import History
from napari_imos._record.left import LeftLabels, box_of
from napari_imos._record.newcomers import is_painted
from napari_imos._record.probes import sample
from napari_imos._record.provenance import Foreign, Kind, Provenance, beside, checksum
from napari_imos._record.steps import Step, Steps
from napari_imos._walk import ids_on

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator, Mapping

    import numpy.typing as npt

    from napari_imos._record.changes import Change, Run
    from napari_imos._walk import Index, Walk

_KEY = "napari-imos"
_NEAR = 5_000_000  # voxels that are quick enough to look at wherever they are


class Ledger:
    """What runs have written into one Labels layer; it lives in the layer's metadata.

    A voxel is ours while it still holds what the last run left there. Anything else is the
    person's: painted, filled, loaded or corrected.
    """

    stepped = Signal()
    """A step of the layer's history was taken back or made again."""

    def __init__(self) -> None:
        self.busy = False
        """Whether a run is writing."""
        self.committing = False
        """Whether a run is being put into the layer's history, which the layer calls painting."""
        self.unseen = True
        """Whether walks that are not shown may have changed since somebody looked at them."""
        self._brushed = self._redrawn = False
        self._steps: Steps | None = None
        self._owner: Hashable = None
        self._shape: tuple[int, ...] = ()
        self._records: dict[Walk, Provenance] = {}
        self._crossings: dict[Walk, tuple[int, list[Walk]]] = {}
        self._seen: dict[tuple[Walk, int], tuple[int, ...]] = {}
        self._left = LeftLabels()
        self._history = History(self._left, self._records)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out, for copies of the metadata, the layer itself and who listens."""
        known = {name: value for name, value in vars(self).items() if name != "stepped"}
        return {**known, "_steps": None}

    @classmethod
    def of(cls, labels: Labels) -> Ledger:
        """Return the ledger of a layer, an empty one before its first run.

        A duplicate of a layer, which napari gives the same metadata, gets one of its own; a layer
        of another shape that somebody gave them begins anew.
        """
        ledger = labels.metadata.get(_KEY)
        # napari's "Convert to Image" leaves the metadata with the image
        if not isinstance(ledger, Ledger) or not isinstance(labels, Labels):
            return cls()
        # napari shows plugins a stand-in for a layer, which is another object each time
        if ledger._owner not in (None, labels.unique_id):
            alike = ledger._shape in ((), labels.data.shape)
            ledger = ledger._duplicate(labels.data) if alike else cls()
            ledger.keep(labels)
        return ledger

    def _duplicate(self, data: Any) -> Ledger:
        """Return a copy for a layer without a history of undo."""
        other = Ledger()
        other._records.update({walk: record.copy() for walk, record in self._records.items()})
        other._left.take(self._left)
        other._history.adopt_from(self._history, data)
        other._shape = self._shape
        return other

    def record(self, labels: Labels, walk: Walk) -> Provenance:
        """Return what is known of the slices of a walk."""
        # whoever has forgotten it does not want it back
        if _KEY not in labels.metadata and (self._owner is None or self.busy):
            self.keep(labels)
        self._fit(labels.data.shape)
        length = labels.data.shape[walk.axis]
        record = self._records.get(walk)
        if record is None or record.length != length:
            record = self._records[walk] = Provenance(length)
        return record

    def keep(self, labels: Labels) -> None:
        """Become the ledger of a layer."""
        labels.metadata[_KEY] = self
        self._owner = labels.unique_id
        if self._steps is None:
            self._steps = Steps(labels, self)

    def _fit(self, shape: tuple[int, ...]) -> None:
        """Forget everything if the layer has got data of another shape; after a run that writes."""
        if self.busy:
            return
        if self._shape not in ((), shape):
            known: Any
            kept = (self._history, self._records, self._left, self._crossings, self._seen)
            for known in (*kept, self._steps):
                known.clear()
        self._shape = shape

    @property
    def records(self) -> Mapping[Walk, Provenance]:
        """All records."""
        return self._records

    def ours(self, where: Index, plane: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which voxels of a slice, `(H, W)`, are ours.

        Parameters
        ----------
        where : tuple
            Basic index of the slice.
        plane : ndarray
            `(H, W)` labels that the layer holds there.
        """
        return (plane != 0) & (plane == self._left.read(where, plane))

    def open(self, run: Run, labels: Labels) -> None:
        """Begin a run in a layer."""
        record = self.record(labels, run.walk)
        run.before = record.copy()
        self._history.begin(run, joins=self.busy)
        self.busy = True
        run.facts |= {"anchors": list(run.anchors), "labels": list(run.ids)}
        record.runs.append(run.facts)

    def close(self, run: Run) -> None:
        """End a run; one that delivered nothing leaves no trace."""
        self.busy = False
        self._brushed = False
        if run.changes:
            record = self._records[run.walk]
            run.first = frozenset(run.anchors) - record.prompts
            record.prompts |= run.first
            return
        self._history.drop(run)
        if not run.delivered:
            runs = self._records[run.walk].runs
            runs[:] = [facts for facts in runs if facts is not run.facts]

    def deliver(
        self, run: Run, index: int, confidence: float, source: str, basis: Mapping[int, int]
    ) -> None:
        """Note that a run has finished a slice, changed or not."""
        run.delivered.append(index)
        self._records[run.walk].deliver(index, confidence, source, basis)

    def fill(self, run: Run, index: int, basis: Mapping[int, int]) -> None:
        """Note that a run has filled in labels on a person's slice, changed or not."""
        run.filled.append(index)
        self._records[run.walk].made_from(index, basis)

    def note(
        self,
        run: Run,
        where: Index,
        change: Change,
        shape: tuple[int, ...],
    ) -> None:
        """Note a change that was written; slices that cross it are to be redone.

        Parameters
        ----------
        run : Run
            What wrote it.
        where : tuple
            Basic index of the slice.
        change : Change
            What was written.
        shape : tuple of int
            Of the layer.
        """
        self._history.note(run, change)
        self.forget_seen()
        self._left.write(where, change.voxels, change.new, shape)
        for other in self.crossing(run.walk):
            record = self._records[other]
            if record.written.any():
                for k in crossed(run.walk, change.index, change.voxels, shape, other):
                    known = record.disturb(k)
                    run.disturbed.setdefault((other, k), known)

    def keep_dropped(
        self, run: Run, index: int, before: npt.NDArray[Any], after: Callable[[], npt.NDArray[Any]]
    ) -> None:
        """Keep a slice, `(H, W)`, dropped that a run writes: it is for a person to set anchors."""
        dropped = self._records[run.walk].dropped
        if index not in dropped:
            return
        if dropped[index] == checksum(before):
            dropped[index] = checksum(after())
        else:
            # what was dropped was taken away since
            del dropped[index]

    def keep_erased(self, run: Run, index: int, lost: npt.NDArray[Any]) -> None:
        """Note that a person has erased labels, `(N,)`, from where a run fills in others."""
        if lost.size:
            erased = self._records[run.walk].erased
            run.erased[index] = erased[index] = sorted({*erased.get(index, ()), *ids_on(lost)})

    def keep_foreign(
        self,
        run: Run,
        index: int,
        found: bool,
        before: npt.NDArray[Any],
        after: Callable[[], npt.NDArray[Any]],
    ) -> None:
        """Note a slice, `(H, W)`, that a run is about to write, with more `found` than ours on it.

        That was there before, and is no correction of the run, unless a brush has come ahead of it.
        """
        record = self._records[run.walk]
        known = run.before is not None and run.before.painted[index]
        ahead = record.painted[index] and not known
        record.foreign.pop(index, None)
        if found and not ahead:
            plane = after()
            left = self._left.read(run.walk.at(index), before)
            left = np.where(plane != before, plane, left)
            where = record.where_ours_are_not(plane, left)
            record.foreign[index] = Foreign(checksum(plane), *where)

    def reach(
        self, where: Index, plane: npt.NDArray[Any], result: npt.NDArray[Any]
    ) -> tuple[slice, slice]:
        """Rows and columns of a slice between which a result may change it; none if nowhere.

        Parameters
        ----------
        where : tuple
            Basic index of the slice.
        plane : ndarray
            `(H, W)` labels that the layer holds there.
        result : ndarray
            `(H, W)` labels that were found there.
        """
        boxes = [b for b in (box_of(result), self._left.box(where, plane)) if b is not None]
        if not boxes:
            return slice(0, 0), slice(0, 0)
        return around(boxes)

    def noted(self, where: Index, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Labels that we left on a slice, `(H, W)`; 0 where we did not write."""
        return self._left.read(where, plane)

    def crossing(self, walk: Walk) -> list[Walk]:
        """Known walks that cross one: of many time points, hardly any."""
        count, found = self._crossings.get(walk, (0, []))
        if count != len(self._records):
            found = [other for other in self._records if crosses(walk, other)]
            self._crossings[walk] = (len(self._records), found)
        return found

    def prompts(self, labels: Labels, walk: Walk) -> list[int]:
        """Slices that were prompts of a run and still hold what a person painted."""
        data: Any = labels.data
        kept, record = [], self.record(labels, walk)
        for k in sorted(record.prompts):
            plane = np.asarray(data[walk.at(k)])
            if k in record.foreign and record.foreign[k].held == checksum(plane):
                continue  # as a run left it: what was painted is undone
            if ((plane != 0) & ~self.ours(walk.at(k), plane)).any():
                kept.append(k)
        return kept

    def user_slices(self, labels: Labels, walk: Walk) -> list[int]:
        """Slices that a person made: earlier prompts, and results corrected or checked since.

        Parameters
        ----------
        labels : Labels
            The layer.
        walk : Walk
            Only slices of this walk.
        """
        self.settle(labels)
        record = self.record(labels, walk)
        for k in np.flatnonzero(record.written | self._noted(record)):
            self.examine(labels, walk, int(k))
        return self._user_slices(labels, walk)

    def _user_slices(self, labels: Labels, walk: Walk) -> list[int]:
        record = self.record(labels, walk)
        made = set(np.flatnonzero(record.checked | (record.kind == Kind.CORRECTED)).tolist())
        made.update(self.prompts(labels, walk))
        return sorted(k for k in made if not self.is_dropped(labels, walk, k))

    def anchors(self, labels: Labels, walk: Walk) -> list[int]:
        """Slices that serve as prompts: those of `user_slices`, and what was painted on purpose.

        On purpose means that a brush was seen there, or that nothing is painted on either side: a
        layer that came fully labelled is no set of prompts.

        Parameters
        ----------
        labels : Labels
            The layer; all slices are looked at of arrays that are in memory, or small.
        walk : Walk
            Only slices of this walk.
        """
        if is_near(labels.data):
            for _ in self.examine_all(labels, walk):
                pass
            made = set(self._user_slices(labels, walk))
        else:
            made = set(self.user_slices(labels, walk))
        made.update(self._drawn_on_purpose(labels, walk))
        return sorted(made)

    def known_anchors(self, labels: Labels, walk: Walk) -> list[int]:
        """`anchors` as far as slices were looked at: cheap enough while a person scrubs."""
        record = self.record(labels, walk)
        made = set(np.flatnonzero(record.checked | (record.kind == Kind.CORRECTED)).tolist())
        ours = (Kind.EMPTY, Kind.PREDICTED)
        made.update(k for k in record.prompts if record.kind[k] not in ours)
        made.update(self._drawn_on_purpose(labels, walk))
        return sorted(k for k in made if not self.is_dropped(labels, walk, k))

    def look(self, labels: Labels, walk: Walk) -> Iterator[int]:
        """Look at slice after slice; of arrays that are far away, at those of a person only."""
        if is_near(labels.data):
            yield from self.examine_all(labels, walk)
            return
        brushed, self._brushed = self._brushed, False
        if self._redrawn:
            self.settle(labels)
        elif brushed:
            return  # where a brush was is looked at anyway
        for k in np.flatnonzero(self._noted(self.record(labels, walk))).tolist():
            self.examine(labels, walk, k)
            yield k

    def _noted(self, record: Provenance) -> npt.NDArray[np.bool_]:
        """Which slices, `(length,)`, a person is known to have painted: what is on them may go."""
        noted: npt.NDArray[np.bool_] = record.painted | record.checked | record.touched
        return noted | (record.kind == Kind.DRAWN) | (record.kind == Kind.CORRECTED)

    def examine_all(self, labels: Labels, walk: Walk) -> Iterator[int]:
        """Look at slice after slice; whoever has little time does it bit by bit."""
        self.settle(labels)
        for k in range(self.record(labels, walk).length):
            self.examine(labels, walk, k)
            yield k

    def examine(self, labels: Labels, walk: Walk, k: int) -> None:
        """Look at a slice and note what it is now."""
        data: Any = labels.data
        record = self.record(labels, walk)
        if record.checked[k]:
            record.kind[k] = Kind.CHECKED
            return
        # this is done for every slice of a volume: what is costly only where it is needed
        plane = np.asarray(data[walk.at(k)])
        left = self._left.held(walk.at(k), plane)
        given = record.given.get(k, ())
        if given and (left is None or (plane != left).any()) and checksum(plane) in given:
            self.adopt(walk, k, plane, data.shape)
            left = plane

        def painted() -> bool:
            return is_painted(data, walk, k, plane, left, self._records, self.crossing(walk))

        record.look(k, plane, left, painted)

    def left_on(self, walk: Walk, label: int) -> list[int]:
        """Slices on which a run has left a label, ascending, whether it is still there or not.

        They are not read, so that labels on disk are quick, too.
        """
        return sorted(self._left.along(walk.axis, dict(walk.fixed), label))

    def all_left_on(self, walk: Walk) -> dict[int, set[int]]:
        """Labels that runs have left, with the slices on which they did; see `left_on`."""
        return self._left.all_along(walk.axis, dict(walk.fixed))

    def ids_on(self, labels: Labels, walk: Walk, k: int) -> tuple[int, ...]:
        """Return the labels on a slice, ascending, without those that were filled in."""
        plane = np.asarray(labels.data[walk.at(k)])
        there = self.filled(walk, k, plane)
        found = self._seen[walk, k] = tuple(i for i in ids_on(plane) if i not in there)
        return found

    def ids_seen(self, labels: Labels, walk: Walk, k: int) -> tuple[int, ...]:
        """Do as `ids_on` of a slice when it was last looked at, now if it was not."""
        known = self._seen.get((walk, k))
        return self.ids_on(labels, walk, k) if known is None else known

    def filled(self, walk: Walk, k: int, plane: npt.NDArray[Any]) -> set[int]:
        """Labels for which an anchor does not stand, though it may show them; see `filled`.

        Parameters
        ----------
        walk, k : Walk, int
            Slice.
        plane : ndarray
            `(H, W)` labels that the layer holds there.
        """
        record = self._records.get(walk)
        if record is None:
            return set()
        return filled(record, k, plane, lambda: self.noted(walk.at(k), plane))

    def meant(self, labels: Labels, walk: Walk, k: int) -> npt.NDArray[Any]:
        """Return a copy of an anchor, `(H, W)`, without the labels that were filled in."""
        plane = np.array(labels.data[walk.at(k)])
        there = self.filled(walk, k, plane)
        if there:
            plane[carries(plane, there)] = 0
        return plane

    def forget_seen(self) -> None:
        """Note that labels have changed on slices that nobody names."""
        self._seen.clear()

    def absent(self, labels: Labels, walk: Walk, k: int, ids: Collection[int] = ()) -> set[int]:
        """Labels that a person erased from a slice, or checked to be absent from it.

        Parameters
        ----------
        labels : Labels
            The layer.
        walk : Walk
            Where its slices lie.
        k : int
            Slice.
        ids : collection of int
            Labels that may be absent from a checked slice, besides those of earlier runs.
        """
        data: Any = labels.data
        plane = np.asarray(data[walk.at(k)])
        record = self.record(labels, walk)
        left = self._left.read(walk.at(k), plane)
        known = set(ids_on(left[left != plane]))
        known.update(record.erased.get(k, ()))
        if record.checked[k]:
            known.update(record.ids, ids)
        return known - set(ids_on(plane)) - {0} if known else known

    def gone(
        self, labels: Labels, walk: Walk, anchors: Mapping[int, npt.NDArray[Any]]
    ) -> tuple[int, ...]:
        """Labels of earlier runs that a person has painted over wherever they were painted.

        Parameters
        ----------
        labels : Labels
            The layer.
        walk : Walk
            Slices.
        anchors : mapping of int to ndarray
            All anchors: slice -> `(H, W)` labels.
        """
        held = {i for plane in anchors.values() for i in ids_on(plane)}
        runs = self._records[walk].runs
        data: Any = labels.data
        result = []
        latest = {i: run for run in runs for i in run["labels"] if i not in held}
        for i, run in latest.items():
            own = [k for k in run["anchors"] if k not in anchors and not went_through(run, k, i)]
            # where the slice that showed a label is no anchor any more, nobody said a word about it
            stays = any((np.asarray(data[walk.at(k)]) == i).any() for k in own)
            if anchors.keys() & run["anchors"] and not stays:
                result.append(i)
        return tuple(sorted(result))

    def forget_prompt(self, walk: Walk, k: int) -> None:
        """Note that a slice is no prompt any more, whatever is painted on it."""
        self._records[walk].prompts.discard(k)
        self._history.forget_prompt(walk, k)

    def adopt(
        self,
        walk: Walk,
        k: int,
        plane: npt.NDArray[Any],
        shape: tuple[int, ...],
        which: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Note a slice, or `which` of its voxels, `(H, W)`, as if a run had left it like this."""
        voxels = np.arange(plane.size) if which is None else np.flatnonzero(which)
        voxels, left = voxels.astype(np.int32), plane.reshape(-1)[voxels]
        self._left.write(walk.at(k), voxels, left, shape)
        self._history.adopt(walk, k, voxels, left)

    def restore(self, walk: Walk, record: Provenance) -> None:
        """Take over a record that was saved."""
        self._records[walk] = record

    def is_dropped(self, labels: Labels, walk: Walk, k: int) -> bool:
        """Whether a person does not want an anchor; painting on it makes it one again."""
        held = self.record(labels, walk).dropped.get(k)
        return held is not None and held == checksum(np.asarray(labels.data[walk.at(k)]))

    def _drawn_on_purpose(self, labels: Labels, walk: Walk) -> list[int]:
        record = self.record(labels, walk)
        drawn = record.kind == Kind.DRAWN
        made = np.flatnonzero(drawn & (record.painted | ~beside(drawn))).tolist()
        return [k for k in made if not self.is_dropped(labels, walk, k)]

    def settle(self, labels: Labels) -> None:
        """Follow what whoever gave objects other labels, or took them away, did to runs."""
        if self.busy:
            return
        data: Any = labels.data
        self._fit(data.shape)
        self._history.settle(data)
        self._brushed = self._redrawn = False

    @property
    def step_in_hand(self) -> Step:
        """What a step that is made now is."""
        return Step(self._history.latest, self.committing) if self.busy else Step()

    @property
    def painted_over(self) -> bool:
        """Whether a run is writing, and Ctrl+Z would take back what was painted meanwhile."""
        latest = None if self._steps is None else self._steps.latest.runs
        return self.busy and latest is not None and latest is self._history.latest

    def undone(self, labels: Labels, step: Step) -> bool:
        """Follow Ctrl+Z; return whether that was the step: some are made without a word."""
        data: Any = labels.data
        if step.runs is not None and not self.busy and data.shape == self._shape:
            if step.ours:
                left, held = sample(data, step.runs)
                if len(left) and np.array_equal(left, held):
                    return False
                self._history.undo(data, step.runs)
            elif not self._history.stands(step.runs):
                # painted over a result, which its undo brings back: nobody else takes it away
                lifted = [part.lift(data, r.walk) for r in step.runs for part in r.covered]
                if any(lifted):
                    labels.refresh(extent=False)
        self._tell()
        return True

    def redone(self, labels: Labels, step: Step) -> None:
        """Follow Ctrl+Shift+Z."""
        data: Any = labels.data
        if step.runs is not None and step.ours and not self.busy and data.shape == self._shape:
            self._history.redo(data, step.runs)
        self._tell()

    def _tell(self) -> None:
        self._redrawn = True
        self.stepped.emit()

    def brushed(self) -> None:
        """Note that a person has painted on a slice."""
        self._brushed = True

    def redrawn(self) -> None:
        """Note that a layer was redrawn without a reason to be seen, as when a script wrote."""
        self._redrawn = True


def is_near(data: Any) -> bool:
    """Whether all slices of labels can be looked at: they are in memory, or few voxels on disk.

    What dask computes may take any time.
    """
    return isinstance(data, np.ndarray) or (data.size <= _NEAR and not hasattr(data, "dask"))
