"""Renaming: objects that a person gives another label, or takes away, throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._provenance import checksum

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from napari_imos._history import Run
    from napari_imos._provenance import Provenance
    from napari_imos._walk import Walk

_NEARLY_ALL = 0.99  # share of the voxels that are looked at before all of them are


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
    planes: Mapping[tuple[int, ...], npt.NDArray[Any]],
    prompts: Mapping[Walk, Iterable[int]],
    old: int,
    new: int,
) -> bool:
    """Whether a label is another one wherever we left it, and painted on no prompt any more.

    Two objects that become one are not meant: nobody could tell them apart when that is undone.

    Parameters
    ----------
    data : array-like
        Of the layer.
    planes : mapping
        Position on all but the last two axes -> `(H, W)` labels that we left there.
    prompts : mapping
        Walk -> slices that were prompts.
    old, new : int
        Labels.
    """
    for key, left in planes.items():
        if (left == new).any():
            return False
        where = left == old
        if where.any() and not (np.asarray(data[key])[where] == new).all():
            return False
    return not shows(data, prompts, old)


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

    Parameters
    ----------
    label : int
        Label.
    planes : mapping
        Position on all but the last two axes -> `(H, W)` labels that we left there.
    run : Run
        Run that was the latest then.
    """

    def __init__(
        self, label: int, planes: Mapping[tuple[int, ...], npt.NDArray[Any]], run: Run
    ) -> None:
        self._label, self.run = label, run
        found = {key: np.flatnonzero(left == label) for key, left in planes.items()}
        self._voxels = {key: voxels for key, voxels in found.items() if voxels.size}

    def stands(self, data: Any) -> bool:
        """Whether nothing is left there."""
        return bool(self._voxels) and not any(self._held(data, key).any() for key in self._voxels)

    def is_back(self, data: Any, planes: Mapping[tuple[int, ...], npt.NDArray[Any]]) -> bool:
        """Whether all of it is there again, and no run has written there since."""
        return all(
            not planes[key].reshape(-1)[voxels].any()
            and (self._held(data, key) == self._label).all()
            for key, voxels in self._voxels.items()
        )

    def do(self, planes: Mapping[tuple[int, ...], npt.NDArray[Any]]) -> None:
        """Let us never have left it."""
        for key, voxels in self._voxels.items():
            planes[key].reshape(-1)[voxels] = 0

    def undo(self, planes: Mapping[tuple[int, ...], npt.NDArray[Any]]) -> None:
        """Let us have left it."""
        for key, voxels in self._voxels.items():
            planes[key].reshape(-1)[voxels] = self._label

    def _held(self, data: Any, key: tuple[int, ...]) -> npt.NDArray[Any]:
        held: npt.NDArray[Any] = np.asarray(data[key]).reshape(-1)[self._voxels[key]]
        return held


def rename_run(run: Run, old: int, new: int) -> None:
    """Let a run have written another label."""
    run.ids = tuple(new if i == old else i for i in run.ids)
    for change in run.changes:
        change.new[change.new == old] = new
        change.noted[change.noted == old] = new
    for record in (run.before, run.after):
        if record is not None:
            rename_record(record, old, new)


def rename_record(record: Provenance, old: int, new: int) -> None:
    """Let a record be about another label."""
    made = record.basis.pop(old, None)
    if made is not None:
        # an earlier object of that label may have left a trace
        record.basis[new] = np.zeros_like(made) if new in record.basis else made
    for k, labels in record.erased.items():
        record.erased[k] = [new if i == old else i for i in labels]
    record.runs[:] = [
        {**run, "labels": sorted({new if i == old else i for i in run["labels"]})}
        for run in record.runs
    ]


def keep_dropped(record: Provenance, data: Any, walk: Walk, old: int, new: int) -> None:
    """Let slices stay dropped as anchors on which nothing but the label is another."""
    for k, held in record.dropped.items():
        plane = np.asarray(data[walk.at(k)])
        if checksum(np.where(plane == new, old, plane)) == held:
            record.dropped[k] = checksum(plane)
