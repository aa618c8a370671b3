"""Renaming: objects that a person gives another label, or takes away, throughout."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import carries, heads, relabelled
from napari_imos._record.left import whole_plane
from napari_imos._record.probes import held_at, left_at
from napari_imos._record.provenance import checksum
from napari_imos._record.tally import MOSTLY, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from napari_imos._record.changes import Run
    from napari_imos._record.left import Key, LeftLabels
    from napari_imos._record.provenance import Provenance
    from napari_imos._walk import Walk


def suspects(left: npt.NDArray[Any], held: npt.NDArray[Any]) -> dict[int, int]:
    """Return labels whose voxels seem to have got another one, with that one.

    Parameters
    ----------
    left : ndarray
        `(N,)` labels that a run left at some voxels.
    held : ndarray
        `(N,)` labels that the layer holds there.
    """
    found: dict[int, int] = {}
    for label in np.unique(left[left != held]).tolist():
        now, counts = np.unique(held[left == label], return_counts=True)
        most = int(counts.argmax())
        if label and now[most] not in (0, label) and counts[most] >= MOSTLY * counts.sum():
            found[int(label)] = int(now[most])
    return found


class Shown:
    """Labels on the slices that were prompts, looked at when they are asked for.

    Parameters
    ----------
    data : array-like
        Of the layer.
    prompts : mapping
        Walk -> slices.
    """

    def __init__(self, data: Any, prompts: Mapping[Walk, Iterable[int]]) -> None:
        self._data, self._prompts = data, prompts

    @cached_property
    def _found(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for walk, slices in self._prompts.items():
            for k in slices:
                plane = np.asarray(self._data[walk.at(k)]).reshape(-1)
                starts = heads(plane)
                sizes = np.diff(starts, append=plane.size)
                for label, size in zip(plane[starts].tolist(), sizes.tolist(), strict=True):
                    found[label] = found.get(label, 0) + size
        return found

    def count(self, label: int) -> int:
        """Voxels of a label on them."""
        return self._found.get(label, 0)


class Followed:
    """What has become of objects that a person gave other labels, or took away, throughout.

    Two objects that become one are not renamed, but one of them is taken away: nobody could tell
    them apart when that is undone.

    Parameters
    ----------
    data : array-like
        Of the layer.
    left : LeftLabels
        What runs left.
    prompts : mapping
        Walk -> slices that were prompts.
    gone : iterable of int
        Labels that seem to be gone.
    others : mapping of int to int
        Labels that seem to have got another one, with that one.
    known : set of (int, int)
        What was renamed before, old and new label; what is now is added. Where one goes back,
        prompts say nothing, as they may have shown it.
    """

    def __init__(
        self,
        data: Any,
        left: LeftLabels,
        prompts: Mapping[Walk, Iterable[int]],
        gone: Iterable[int],
        others: Mapping[int, int],
        known: set[tuple[int, int]],
    ) -> None:
        self._data, self._left = data, left
        self.names: dict[int, int] = {}
        """Old -> new label."""
        self.removed: dict[int, int] = {}
        """Label that is gone -> the object that it has become a part of, or 0."""
        self._partly: set[int] = set()  # those of which some voxels hold something else
        self._shown, self._given = Shown(data, prompts), set(others.values())
        # looking through all planes takes long: only where it may come to something
        gone = [i for i in gone if self._is_free(i)]
        others = {
            old: others[old]
            for old in _targets_first(others)
            if (others[old], old) in known or self._fits(old, others[old]) or self._is_free(old)
        }
        if not gone and not others:
            return
        self._tally = Tally(data, left, {*gone, *others, *others.values()})
        for label in gone:
            self._remove(label, 0)
        for old, new in others.items():
            back = (new, old) in known
            fits = back or self._fits(old, new)
            if fits and self._tally.is_renamed(old, new, back=back):
                known.add((old, new))
                self._rename(old, new)
            elif self._is_free(old):
                self._remove(old, new)

    def _fits(self, old: int, new: int) -> bool:
        """Whether prompts speak for a renaming."""
        # what they show of a label that was given to another object is of that one
        old_one = 0 if old in self._given else self._shown.count(old)
        return self._shown.count(new) >= MOSTLY * (old_one + self._shown.count(new))

    def _is_free(self, label: int) -> bool:
        """Whether prompts show nothing of an object."""
        return not self._shown.count(label)

    def _rename(self, old: int, new: int) -> None:
        self._tally.rename(old, new)
        # one after the other: a label may be given away before it is given to another
        if old in self.names.values():
            self.names |= {i: new for i, now in self.names.items() if now == old}
        self.names.setdefault(old, new)

    def _remove(self, label: int, into: int) -> None:
        if self._tally.has_become(label, into):
            self.removed[label] = into
            if not self._tally.is_whole(label, into):
                self._partly.add(label)
            self._tally.rename(label, into)

    def removals(self, run: Run | None) -> dict[int, Removal]:
        """Return what was taken away, before it is noted; `run` was the latest."""
        voxels: dict[int, dict[Key, npt.NDArray[np.int32]]] = {}
        over: dict[int, dict[Key, npt.NDArray[np.bool_]]] = {}
        for key, plane in self._left.planes() if self.removed else ():
            where = np.flatnonzero(carries(plane, self.removed)).astype(np.int32)
            there = plane.reshape(-1)[where]
            order = np.argsort(there, kind="stable")
            where, there = where[order], there[order]
            # planes on disk take long to be read: once for all labels, and only where it matters
            partly = carries(there, self._partly)
            held = held_at(self._data, whole_plane(key), where[partly])
            other = np.zeros(where.size, bool)
            other[partly] = held != relabelled(there[partly], self.removed)
            starts = heads(there)
            bounds = [*starts.tolist(), where.size]
            for label, start, stop in zip(there[starts].tolist(), bounds, bounds[1:], strict=False):
                voxels.setdefault(label, {})[key] = where[start:stop]
                over.setdefault(label, {})[key] = other[start:stop]
        removed = ((i, into) for i, into in self.removed.items() if i in voxels)
        return {i: Removal(i, voxels[i], over[i], run, into) for i, into in removed}

    def note(self) -> None:
        """Let us have left what these labels have become."""
        if self.names or self.removed:
            self._tally.write(self._left, self._data)


def _targets_first(others: Mapping[int, int]) -> list[int]:
    """Order labels by what is given to whom: a label is given away before it is given to another.

    Where labels are given in a circle, one of them comes first all the same.
    """
    order: list[int] = []
    seen: set[int] = set()
    for label in others:
        chain: list[int] = []
        while label in others and label not in seen:
            seen.add(label)
            chain.append(label)
            label = others[label]
        order += reversed(chain)
    return order


def missing(left: npt.NDArray[Any], held: npt.NDArray[Any]) -> list[int]:
    """Return labels that a run left at some voxels, `(N,)`, of which hardly any holds anything."""
    found = []
    for label in np.unique(left[left != held]).tolist():
        now = held[left == label]
        if label and not (now == label).any() and np.mean(now == 0) >= MOSTLY:
            found.append(int(label))
    return found


class Removal:
    """Voxels of a label that a person has taken away wherever we had left it.

    Or given to another object that runs have left too: both are one object then.

    Parameters
    ----------
    label : int
        Label.
    voxels : mapping
        Position of a plane -> `(N,)` voxels of it there.
    over : mapping
        Position of a plane -> `(N,)` which of them held something else by then.
    run : Run or None
        Run that was the latest then; None: none in this sitting.
    into : int
        The other object's label; 0 if there is none.
    """

    def __init__(
        self,
        label: int,
        voxels: Mapping[Key, npt.NDArray[np.int32]],
        over: Mapping[Key, npt.NDArray[np.bool_]],
        run: Run | None,
        into: int,
    ) -> None:
        self._label, self._voxels, self._over = label, voxels, over
        self.run, self._into = run, into

    def is_back(self, data: Any, left: LeftLabels) -> bool:
        """Whether all of it is there again, and no run has written there since."""
        return all(
            ((held_at(data, whole_plane(key), voxels) == self._label) | self._over[key]).all()
            and (left_at(left, whole_plane(key), voxels, data) == self._into).all()
            for key, voxels in self._voxels.items()
        )

    def undo(self, data: Any, left: LeftLabels) -> None:
        """Let us have left it."""
        for key, voxels in self._voxels.items():
            values = np.full(voxels.size, self._label, data.dtype)
            left.write(whole_plane(key), voxels, values, data.shape)


def rename_run(run: Run, names: Mapping[int, int]) -> None:
    """Let a run have written other labels."""
    run.ids = tuple(names.get(i, i) for i in run.ids)
    run.changes[:] = [change.renamed(names) for change in run.changes]
    run.ends = tuple((walk, k, names.get(i, i)) for walk, k, i in run.ends)
    for k, labels in run.erased.items():
        run.erased[k] = [names.get(i, i) for i in labels]
    for record in (run.before, run.after):
        if record is not None:
            rename_record(record, names)


def rename_record(record: Provenance, names: Mapping[int, int]) -> None:
    """Let a record be about other labels."""
    moved = {names[i]: record.basis.pop(i) for i in names if i in record.basis}
    for new, made in moved.items():
        # an earlier object of that label may have left a trace
        record.basis[new] = np.zeros_like(made) if new in record.basis else made
    for said in (record.erased, record.ended):
        for k, labels in said.items():
            said[k] = [names.get(i, i) for i in labels]
    record.runs[:] = [_renamed(run, names) for run in record.runs]


def _renamed(run: Mapping[str, Any], names: Mapping[int, int]) -> dict[str, Any]:
    """Facts of a run as if it had been about other labels."""

    def named(labels: Iterable[int]) -> list[int]:
        return sorted({names.get(i, i) for i in labels})

    facts = {**run, **{name: named(run[name]) for name in ("labels", "cut_from") if name in run}}
    if "through" in run:
        # a fill bucket may have left single voxels of it there, for which the slice does not stand
        facts["through"] = {
            k: sorted({*labels, *named(labels)}) for k, labels in run["through"].items()
        }
    return facts


def keep_dropped(record: Provenance, data: Any, walk: Walk, names: Mapping[int, int]) -> None:
    """Let slices stay dropped as anchors on which nothing but labels is another."""
    before = {new: old for old, new in names.items()}
    for k, held in record.dropped.items():
        plane = np.asarray(data[walk.at(k)])
        if checksum(relabelled(plane, before)) == held:
            record.dropped[k] = checksum(plane)
