"""Samples: voxels by which one tells what has become of what runs left."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from napari_imos._changes import Change, Run
    from napari_imos._walk import Walk

_SAMPLE = 100_000  # voxels that are looked at to see whether a run was taken back ...
MOST_SLICES = 200  # ... on so many slices at most
_BELOW = 48  # slices that are looked at to see what has become of steps below the latest one
NEARLY_ALL = 0.9  # share of the slices that Ctrl+Z changes, and a person hardly does


def shows_prompts(data: Any, step: Sequence[Run]) -> bool:
    """Whether what prompted a step is still there."""
    return any(
        np.isin(np.asarray(data[run.walk.at(k)]), run.ids).any()
        for run in step
        for k in run.anchors
    )


def leaves_labels(step: Sequence[Run]) -> bool:
    """Whether a step left any label, or took some away only."""
    return any(change.new.any() for run in step for change in run.changes)


def is_gone(data: Any, step: Sequence[Run]) -> bool:
    """Whether hardly a slice holds what a step left on it."""
    if not leaves_labels(step):
        return True  # nobody can tell
    same = [
        np.array_equal(_held(data, run, change), change.new[:: stride(change.voxels.size)])
        for run, change in some_changes(step)
        if change.new.any()
    ]
    return float(np.mean(same)) <= 1 - NEARLY_ALL


def found_there(changes: Sequence[Change]) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Voxels of a slice, and what was there before the first of its changes."""
    if len(changes) == 1:
        return changes[0].voxels, changes[0].old
    voxels, first = np.unique(np.concatenate([c.voxels for c in changes]), return_index=True)
    return voxels, np.concatenate([c.old for c in changes])[first]


def sample(data: Any, step: Sequence[Run]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return a sample of what a step left, `(N,)`, and what the layer holds there."""
    left, held = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)]
    for run, change in some_changes(step):
        held.append(_held(data, run, change))
        left.append(change.new[:: stride(change.voxels.size)])
    return np.concatenate(left), np.concatenate(held)


def some_changes(step: Sequence[Run]) -> Iterator[tuple[Run, Change]]:
    """Yield some of the slices that a step changed, from all of its runs."""
    every = 1 + sum(len(run.changes) for run in step) // MOST_SLICES
    return islice(((run, change) for run in step for change in run.changes), 0, None, every)


def witnesses(
    steps: Sequence[Sequence[Run]],
) -> Iterator[tuple[Walk, int, npt.NDArray[np.int32]]]:
    """Yield slices, and some voxels there, of the labels that the latest step did not leave.

    Few of them, as this is looked at often: who seems to be gone or renamed there is looked for
    everywhere.
    """
    ids = [{i for run in step for change in run.changes for i in change.ids} for step in steps]
    fresh: list[tuple[Sequence[Run], set[int]]] = []
    seen = set(ids[-1]) if ids else set()
    for step, here in zip(steps[-2::-1], ids[-2::-1], strict=True):
        if here - seen:
            fresh.append((step, here - seen))
        seen |= here
    for step, labels in fresh:
        found = [(r, c) for r in step for c in r.changes if not c.ids.isdisjoint(labels)]
        for run, change in found[:: 1 + len(found) // max(_BELOW // len(fresh), 2)]:
            which = np.flatnonzero(np.isin(change.new, list(labels)))
            yield run.walk, change.index, change.voxels[which[:: stride(which.size)]]


def stride(size: int) -> int:
    """Of so many voxels of a slice, the step between those that are looked at."""
    return 1 + size // (_SAMPLE // MOST_SLICES)


def _held(data: Any, run: Run, change: Change) -> npt.NDArray[Any]:
    """What the layer holds at a sample of the voxels of a change."""
    plane = np.asarray(data[run.walk.at(change.index)])
    voxels = change.voxels[:: stride(change.voxels.size)]
    held: npt.NDArray[Any] = plane[np.unravel_index(voxels, plane.shape)]
    return held
