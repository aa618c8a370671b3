"""LeftLabels: what runs have left in a layer, plane by plane."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_imos._walk import Index


class LeftLabels:
    """Labels that runs left at the voxels that they wrote."""

    def __init__(self) -> None:
        self.planes: dict[tuple[int, ...], npt.NDArray[Any]] = {}
        """Position on all but the last two axes -> `(H, W)` labels; only where a run wrote."""

    def held(self, where: Index, like: npt.NDArray[Any]) -> Any:
        """What was left on a slice, not to be written to; None if nothing was.

        Parameters
        ----------
        where : tuple
            Basic index of the slice.
        like : ndarray
            `(H, W)`, of the shape and type of the slice.
        """
        if where[-2:] == (slice(None), slice(None)) and all(isinstance(i, int) for i in where[:-2]):
            return self.planes.get(where[:-2])
        noted = self.read(where, like)
        return noted if noted.any() else None

    def read(self, where: Index, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What was left on a slice, `(H, W)`; 0 elsewhere. See `held`."""
        noted = np.zeros_like(like)
        for key, row, part in _parts(where, like.shape):
            if key in self.planes:
                noted[row] = self.planes[key][part]
        return noted

    def write(
        self,
        where: Index,
        voxels: npt.NDArray[np.int32],
        values: npt.NDArray[Any],
        shape: tuple[int, ...],
    ) -> None:
        """Note what is left at some voxels of a slice.

        Parameters
        ----------
        where : tuple
            Basic index of the slice.
        voxels : ndarray
            `(N,)` positions in the flattened slice.
        values : ndarray
            `(N,)` labels.
        shape : tuple of int
            Of the layer.
        """
        size = tuple(n for n, i in zip(shape, where, strict=True) if isinstance(i, slice))
        touched = np.zeros(size, bool)
        touched.reshape(-1)[voxels] = True
        noted = np.zeros(size, values.dtype)
        noted.reshape(-1)[voxels] = values
        for key, row, part in _parts(where, size):
            if touched[row].any():
                plane = self.planes.setdefault(key, np.zeros(shape[-2:], values.dtype))
                plane[part] = np.where(touched[row], noted[row], plane[part])


def _parts(where: Index, size: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Index, Index]]:
    """Split a slice by stored plane: key of the plane, index in the slice, index in the plane."""
    *lead, row, column = where
    lengths = iter(size)
    ranges = [range(next(lengths)) if isinstance(i, slice) else (i,) for i in lead]
    for key in product(*ranges):
        inner = tuple(k for k, i in zip(key, lead, strict=True) if isinstance(i, slice))
        yield key, inner, (row, column)
