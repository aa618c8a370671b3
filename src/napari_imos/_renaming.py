"""Renaming: objects that a person gives another label, or takes away, throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._left import whole_plane
from napari_imos._provenance import checksum

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from napari_imos._changes import Run
    from napari_imos._left import LeftLabels
    from napari_imos._provenance import Provenance
    from napari_imos._walk import Walk

_NEARLY_ALL = 0.99  # share of the voxels: a fill bucket leaves those that are not connected
_MOSTLY = 0.9  # of those on prompts, which are few


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
        if label and now[most] not in (0, label) and counts[most] >= _NEARLY_ALL * counts.sum():
            found[int(label)] = int(now[most])
    return found


def is_renamed(
    data: Any,
    left: LeftLabels,
    prompts: Mapping[Walk, Iterable[int]],
    old: int,
    new: int,
    *,
    back: bool = False,
) -> bool:
    """Whether a label is another one nearly wherever we left it or a person painted it.

    Two objects that become one are not meant (see `Removal`): nobody could tell them apart when
    that is undone.

    Parameters
    ----------
    data : array-like
        Of the layer.
    left : LeftLabels
        What runs left.
    prompts : mapping
        Walk -> slices that were prompts.
    old, new : int
        Labels.
    back : bool
        Whether it was the other one before: then prompts say nothing, as they may have shown it,
        and what was not renamed is still there.
    """
    was = now = before = 0
    for key, plane in left.planes():
        before += int((plane == new).sum())
        if before and not back:
            return False
        where = plane == old
        if where.any():
            held = np.asarray(data[key])[where]
            was, now = was + held.size, now + int((held == new).sum())
    if now < _NEARLY_ALL * was or before > (1 - _NEARLY_ALL) * (before + was):
        return False
    return back or _mostly_shows(data, prompts, old, new)


def _mostly_shows(data: Any, prompts: Mapping[Walk, Iterable[int]], old: int, new: int) -> bool:
    """Whether slices that were prompts show another label, and hardly anything of the old one."""
    stayed = moved = 0
    for walk, slices in prompts.items():
        for k in slices:
            plane = np.asarray(data[walk.at(k)])
            stayed, moved = stayed + int((plane == old).sum()), moved + int((plane == new).sum())
    return moved >= _MOSTLY * (stayed + moved)


def shows(data: Any, prompts: Mapping[Walk, Iterable[int]], label: int) -> bool:
    """Whether a label is on a slice that was a prompt."""
    return any(
        (np.asarray(data[walk.at(k)]) == label).any()
        for walk, slices in prompts.items()
        for k in slices
    )


def missing(left: npt.NDArray[Any], held: npt.NDArray[Any]) -> list[int]:
    """Return labels that a run left at some voxels, `(N,)`, of which none holds anything now."""
    labels = np.unique(left[left != held])
    return [int(i) for i in labels if i and not held[left == i].any()]


class Removal:
    """Voxels of a label that a person has taken away wherever we had left it.

    Or given to another object that runs have left too: both are one object then.

    Parameters
    ----------
    label : int
        Label.
    left : LeftLabels
        What runs left.
    run : Run
        Run that was the latest then.
    into : int
        The other object's label; 0 if there is none.
    """

    def __init__(self, label: int, left: LeftLabels, run: Run, into: int = 0) -> None:
        self._label, self.run, self._into = label, run, into
        found = {key: np.flatnonzero(plane == label) for key, plane in left.planes()}
        self._voxels = {key: v.astype(np.int32) for key, v in found.items() if v.size}

    def stands(self, data: Any) -> bool:
        """Whether nothing of the label is left there."""
        return bool(self._voxels) and all(
            (self._held(data, key) == self._into).all() for key in self._voxels
        )

    def is_back(self, data: Any, left: LeftLabels) -> bool:
        """Whether all of it is there again, and no run has written there since."""
        return all(
            (self._held(data, key) == self._label).all()
            and (self._left_on(key, data, left)[voxels] == self._into).all()
            for key, voxels in self._voxels.items()
        )

    def do(self, data: Any, left: LeftLabels) -> None:
        """Let us never have left it, but the other one."""
        self._note(data, left, self._into)

    def undo(self, data: Any, left: LeftLabels) -> None:
        """Let us have left it."""
        self._note(data, left, self._label)

    def _note(self, data: Any, left: LeftLabels, label: int) -> None:
        for key, voxels in self._voxels.items():
            values = np.full(voxels.size, label, data.dtype)
            left.write(whole_plane(key), voxels, values, data.shape)

    def _left_on(self, key: tuple[int, ...], data: Any, left: LeftLabels) -> npt.NDArray[Any]:
        return left.read(whole_plane(key), np.asarray(data[key])).reshape(-1)

    def _held(self, data: Any, key: tuple[int, ...]) -> npt.NDArray[Any]:
        held: npt.NDArray[Any] = np.asarray(data[key]).reshape(-1)[self._voxels[key]]
        return held


def rename_run(run: Run, old: int, new: int) -> None:
    """Let a run have written another label."""
    run.ids = tuple(new if i == old else i for i in run.ids)
    run.changes[:] = [change.renamed(old, new) for change in run.changes]
    run.ends = tuple((walk, k, new if i == old else i) for walk, k, i in run.ends)
    for k, labels in run.erased.items():
        run.erased[k] = [new if i == old else i for i in labels]
    for record in (run.before, run.after):
        if record is not None:
            rename_record(record, old, new)


def rename_record(record: Provenance, old: int, new: int) -> None:
    """Let a record be about another label."""
    made = record.basis.pop(old, None)
    if made is not None:
        # an earlier object of that label may have left a trace
        record.basis[new] = np.zeros_like(made) if new in record.basis else made
    for said in (record.erased, record.ended):
        for k, labels in said.items():
            said[k] = [new if i == old else i for i in labels]
    record.runs[:] = [_renamed(run, old, new) for run in record.runs]


def _renamed(run: Mapping[str, Any], old: int, new: int) -> dict[str, Any]:
    """Facts of a run as if it had been about another label."""

    def named(labels: Iterable[int]) -> list[int]:
        return sorted({new if i == old else i for i in labels})

    facts = {**run, "labels": named(run["labels"])}
    if "through" in run:
        # a fill bucket may have left single voxels of it there, for which the slice does not stand
        facts["through"] = {
            k: sorted({*labels, *named(labels)}) for k, labels in run["through"].items()
        }
    return facts


def keep_dropped(record: Provenance, data: Any, walk: Walk, old: int, new: int) -> None:
    """Let slices stay dropped as anchors on which nothing but the label is another."""
    for k, held in record.dropped.items():
        plane = np.asarray(data[walk.at(k)])
        if checksum(np.where(plane == new, old, plane)) == held:
            record.dropped[k] = checksum(plane)
