"""AxesView: axes of an array in another order, some held at a place, read lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.intensity import plain, plain_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt


class AxesView:
    """An array with its axes in another order, or some of them held, sliced lazily.

    Parameters
    ----------
    source : array-like
        Anything with `shape`, `dtype` and basic slicing. What numpy masks is seen as NaN.
    axes : sequence of int
        Axes of `source`, in the order wanted; of the others, one place is seen.
    at : mapping of int to int, optional
        Where on the axes that are left out; 0 by default.
    """

    def __init__(
        self, source: Any, axes: Sequence[int], at: Mapping[int, int] | None = None
    ) -> None:
        self._source, self._axes = source, tuple(axes)
        self._at = dict(at or {})
        self.shape = tuple(int(source.shape[a]) for a in axes)
        self.dtype = plain_type(source)
        self.ndim = len(self.shape)
        chunks = getattr(source, "chunks", None)
        self.chunks = None if chunks is None else tuple(chunks[a] for a in self._axes)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        keys += [slice(None)] * (self.ndim - len(keys))
        where: list[Any] = [self._at.get(a, 0) for a in range(len(self._source.shape))]
        for a, k in zip(self._axes, keys, strict=True):
            where[a] = k
        block = self._read(tuple(where))
        kept = [a for a, k in zip(self._axes, keys, strict=True) if isinstance(k, slice)]
        order = sorted(kept)
        return block.transpose([order.index(a) for a in kept])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[...], dtype)

    def _read(self, where: tuple[Any, ...]) -> npt.NDArray[Any]:
        return plain(self._source[where])


def held(array: Any, at: Mapping[int, int]) -> AxesView:
    """Hold some axes of an array at a place; the others keep their order."""
    return AxesView(array, [a for a in range(len(array.shape)) if a not in at], at)
