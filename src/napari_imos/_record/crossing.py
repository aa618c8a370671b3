"""Crossing: where slices of walks along different axes meet in one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_imos._walk import Index, Walk


def crosses(one: Walk, other: Walk) -> bool:
    """Whether slices of two walks may share voxels without being the same slice."""
    if one == other:
        return False
    here, there = dict(one.fixed), dict(other.fixed)
    return all(here[axis] == there[axis] for axis in here.keys() & there.keys())


def meeting(walk: Walk, index: int, other: Walk, k: int) -> Index | None:
    """Return which part of a slice is on a slice of another walk.

    Parameters
    ----------
    walk, index : Walk, int
        Slice.
    other, k : Walk, int
        The other one.

    Returns
    -------
    tuple or None
        Basic index into the `(H, W)` slice; None if they share no voxel.
    """
    part: list[int | slice] = []
    for mine, theirs in zip(walk.at(index), other.at(k), strict=True):
        if isinstance(mine, slice):
            part.append(theirs)
        elif isinstance(theirs, int) and theirs != mine:
            return None
    return tuple(part)


def crossed(
    walk: Walk, index: int, voxels: npt.NDArray[np.int32], shape: tuple[int, ...], other: Walk
) -> list[int]:
    """Return the slices of another walk that hold some of the voxels of a slice.

    Parameters
    ----------
    walk, index : Walk, int
        Slice.
    voxels : ndarray
        `(N,)` positions in the flattened slice.
    shape : tuple of int
        Of the layer.
    other : Walk
        The other one.
    """
    where = walk.at(index)
    touched = np.zeros([n for n, i in zip(shape, where, strict=True) if isinstance(i, slice)], bool)
    touched.reshape(-1)[voxels] = True
    fixed = dict(other.fixed)
    part: list[int | slice] = []
    axis: int | None = None
    for a, mine in enumerate(where):
        if isinstance(mine, int):
            if fixed.get(a, mine) != mine:
                return []
        elif a in fixed:
            part.append(fixed[a])
        else:
            if a == other.axis:
                axis = sum(isinstance(i, slice) for i in part)
            part.append(slice(None))
    met = touched[tuple(part)]
    if axis is None:
        k = where[other.axis]
        return [k] if isinstance(k, int) and met.any() else []
    return np.flatnonzero(np.moveaxis(met, axis, 0).reshape(met.shape[axis], -1).any(1)).tolist()
