"""Labels that are on a plane or in a volume, and where some of them are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

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
