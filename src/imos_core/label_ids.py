"""Labels that are on a plane or in a volume, where some of them are, and under other names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt


def ids_on(plane: npt.ArrayLike) -> tuple[int, ...]:
    """Return the ids of labels, ascending, without the background."""
    values = np.asarray(plane)
    # sorting the background takes ten times as long as leaving it out
    return tuple(int(i) for i in np.unique(values[values != 0]))


def carries(plane: npt.ArrayLike, ids: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Which pixels carry one of some labels, exactly, whatever types both have.

    Where types differ NumPy may compare in floating point, which does not tell ids beyond 2^53 from
    their neighbours.

    Parameters
    ----------
    plane : array-like
        Labels, of any shape.
    ids : iterable of int
        Those that are meant.
    """
    values = np.asarray(plane)
    wanted = as_type(ids, values.dtype)
    found: npt.NDArray[np.bool_]
    # one alone is found much faster
    found = values == wanted[0] if wanted.size == 1 else np.isin(values, wanted)
    return found


def as_type(ids: Iterable[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return ids in the type of a plane, `(N,)`, without those that it cannot hold."""
    if dtype.kind == "b":
        return np.array([bool(i) for i in ids if 0 <= i <= 1], dtype)
    holds = np.iinfo(dtype)
    return np.array([int(i) for i in ids if holds.min <= i <= holds.max], dtype)


def heads(*values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return where stretches of the same labels begin in arrays, `(N,)` each: few on planes."""
    size = values[0].size
    begins = np.zeros(size, bool)
    begins[:1] = True
    for given in values:
        begins[1:] |= given[1:] != given[:-1]
    return np.flatnonzero(begins)


def relabelled(plane: npt.NDArray[Any], names: Mapping[int, int]) -> npt.NDArray[Any]:
    """Return labels with other ids for some, all at once: the array itself if none is there.

    Parameters
    ----------
    plane : ndarray
        Labels, of any shape.
    names : mapping of int to int
        Id -> another one, which the array's type can hold: else it counts for nothing.
    """
    flat = plane.reshape(-1)
    starts = heads(flat)
    there = flat[starts]
    known = np.unique(there)
    holds = np.iinfo(plane.dtype)
    named = known.copy()
    for n, label in enumerate(known.tolist()):
        other = names.get(label, label)
        if holds.min <= other <= holds.max:
            named[n] = other
    if np.array_equal(named, known):
        return plane
    instead = named[np.searchsorted(known, there)]
    return np.repeat(instead, np.diff(starts, append=flat.size)).reshape(plane.shape)
