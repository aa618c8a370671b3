"""Probes: voxels by which one tells what has become of what runs left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.boxes import around
from imos_core.label_ids import carries, heads, ids_on
from napari_imos._record.left import within
from napari_imos._record.pages import thickness_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_imos._record.changes import Change, Run
    from napari_imos._record.left import LeftLabels
    from napari_imos._walk import Index, Walk

_SAMPLE = 500  # voxels of a slice that are looked at to see whether a run was taken back ...
_QUARTERS = np.arange(1, 4)  # where voxels of objects that are too small for that are looked at
_MOST_SLICES = 200  # ... on so many slices ...
_MOST_FAR = 24  # ... or so many of arrays that are not in memory
_BELOW = 48  # slices that are looked at to see what has become of steps below the latest one ...
_BELOW_FAR = 2  # ... or so many of each step, of arrays that are not in memory


def sample(data: Any, step: Sequence[Run]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return a sample of what a step left, `(N,)`, and what the layer holds there."""
    left, held = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)]
    for run, change in _some_changes(data, step):
        held.append(_held(data, run, change))
        left.append(change.new[change.probes])
    return np.concatenate(left), np.concatenate(held)


def _some_changes(data: Any, step: Sequence[Run]) -> Iterator[tuple[Run, Change]]:
    """Yield some of the slices that a step changed, from all of its runs.

    Fewer of arrays that are read from a disk, but each label is on one of them.
    """
    found = [(run, change) for run in step for change in run.changes]
    ids = {i for _, change in found for i in change.ids}
    yield from _spread(found, _most_slices(data), ids)


def _spread(
    found: Sequence[tuple[Run, Change]], most: int, ids: Collection[int]
) -> Iterator[tuple[Run, Change]]:
    """Yield some `most` changes from all of them, and more until each label is on one."""
    every = 1 + len(found) // most
    yield from found[::every]
    unseen = set(ids).difference(*(change.ids for _, change in found[::every]))
    for run, change in found:
        if not change.ids.isdisjoint(unseen):
            unseen -= change.ids
            yield run, change


def _most_slices(data: Any) -> int:
    """How many slices are looked at to see what has become of a step."""
    return _MOST_SLICES if isinstance(data, np.ndarray) else _MOST_FAR


def witnesses(
    data: Any,
    steps: Sequence[Sequence[Run]],
) -> dict[Walk, dict[int, npt.NDArray[np.int32]]]:
    """Choose slices, and some voxels there, of the labels that the latest step did not leave.

    Few of them, as this is looked at often, but each label is on one: who seems to be gone or
    renamed there is looked for everywhere.
    """
    ids = [{i for run in step for change in run.changes for i in change.ids} for step in steps]
    fresh: list[tuple[Sequence[Run], set[int]]] = []
    seen = set(ids[-1]) if ids else set()
    for step, here in zip(steps[-2::-1], ids[-2::-1], strict=True):
        if here - seen:
            fresh.append((step, here - seen))
        seen |= here
    near = isinstance(data, np.ndarray)
    most = max(_BELOW // max(len(fresh), 1), 2) if near else _BELOW_FAR
    chosen: dict[Walk, dict[int, npt.NDArray[np.int32]]] = {}
    for step, labels in fresh:
        found = [(r, c) for r in step for c in r.changes if not c.ids.isdisjoint(labels)]
        for run, change in _spread(found, most, labels):
            which = np.flatnonzero(carries(change.new, labels))
            few = some_of_each(change.new[which], change.ids & labels)
            slices = chosen.setdefault(run.walk, {})
            others = slices.get(change.index, change.voxels[:0])
            slices[change.index] = np.append(others, change.voxels[which[few]])
    return chosen


def _stride(size: int) -> int:
    """Of so many voxels of a slice, the step between those that are looked at."""
    return 1 + size // _SAMPLE


def some_of_each(labels: npt.NDArray[Any], ids: Collection[int]) -> npt.NDArray[np.intp]:
    """Choose voxels of a slice by which one tells what has become of labels: some of each.

    Parameters
    ----------
    labels : ndarray
        `(N,)` labels at the voxels.
    ids : collection of int
        Those that are there.

    Returns
    -------
    ndarray
        `(M,)` positions among the voxels, ascending.
    """
    spread = np.arange(0, labels.size, _stride(labels.size))
    small = set(ids).difference(ids_on(labels[spread]))
    if not small:
        return spread
    where = np.flatnonzero(carries(labels, small))
    where = where[np.argsort(labels[where], kind="stable")]
    there = labels[where]
    starts = heads(there)
    sizes = np.diff(starts, append=where.size)
    # a fill bucket leaves single voxels along the border, hardly in the middle
    chosen = starts[:, None] + sizes[:, None] * _QUARTERS // (len(_QUARTERS) + 1)
    return np.union1d(spread, where[chosen])


def in_box(
    data: Any, where: Index, voxels: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], tuple[slice, slice]]:
    """Place voxels of a slice in the smallest part that holds them: only that has to be read.

    Parameters
    ----------
    data : array-like
        Of the layer.
    where : tuple
        Basic index of the slice.
    voxels : ndarray
        `(N,)` positions in the flattened slice, at least one.

    Returns
    -------
    ndarray, ndarray
        `(N,)` rows and columns in the part.
    tuple of slice
        Rows and columns of the slice that are the part.
    """
    width = [n for n, i in zip(data.shape, where, strict=True) if isinstance(i, slice)][1]
    rows, columns = np.divmod(voxels, width)
    box = _span(rows), _span(columns)
    return rows - box[0].start, columns - box[1].start, box


def held_at(data: Any, where: Index, voxels: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    """What a layer holds at some voxels, `(N,)`, of a slice; see `in_box`."""
    if not voxels.size:
        return np.zeros(0, data.dtype)
    held: npt.NDArray[Any]
    if isinstance(data, np.ndarray):
        held = data[where][np.divmod(voxels, data[where].shape[1])]
        return held
    rows, columns, box = in_box(data, where, voxels)
    held = np.asarray(data[within(where, box)])[rows, columns]
    return held


def left_at(
    left: LeftLabels, where: Index, voxels: npt.NDArray[np.int32], data: Any
) -> npt.NDArray[Any]:
    """What was left at some voxels, `(N,)`, of a slice; see `in_box`."""
    if not voxels.size:
        return np.zeros(0, data.dtype)
    rows, columns, box = in_box(data, where, voxels)
    size = tuple(side.stop - side.start for side in box)
    # of a large slice, only the part that is asked for
    like = np.broadcast_to(np.zeros((), data.dtype), size)
    return left.read(within(where, box), like)[rows, columns]


def held_along(
    data: Any, walk: Walk, voxels: Mapping[int, npt.NDArray[np.int32]]
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Do as `held_at` for many slices; what lies in the same chunks is read once.

    Parameters
    ----------
    data : array-like
        Of the layer.
    walk : Walk
        Slices.
    voxels : mapping of int to ndarray
        Slice -> `(N,)` positions in the flattened slice.
    """
    thickness = thickness_of(data, walk)
    slabs: dict[int, list[int]] = {}
    for k in sorted(voxels):
        slabs.setdefault(k // thickness, []).append(k)
    width = [data.shape[a] for a in walk.kept if a != walk.axis][1]
    for slab in slabs.values():
        at = {k: np.divmod(voxels[k], width) for k in slab if voxels[k].size}
        if not at:
            continue
        rows, columns = around([tuple(_span(i) for i in pair) for pair in at.values()])
        sides = [rows, columns]
        sides.insert(walk.engine_axis, slice(slab[0], slab[-1] + 1))
        inside = iter(sides)
        where = tuple(next(inside) if isinstance(i, slice) else i for i in walk.at(slice(None)))
        part = np.moveaxis(np.asarray(data[where]), walk.engine_axis, 0)
        for k, (i, j) in at.items():
            yield k, part[k - slab[0], i - rows.start, j - columns.start]


def _span(positions: npt.NDArray[Any]) -> slice:
    return slice(int(positions.min()), int(positions.max()) + 1)


def _held(data: Any, run: Run, change: Change) -> npt.NDArray[Any]:
    """What the layer holds at a sample of the voxels of a change."""
    return held_at(data, run.walk.at(change.index), change.voxels[change.probes])
