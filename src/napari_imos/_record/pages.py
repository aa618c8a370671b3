"""Pages: slices of a Labels layer as they are read and written, those of one chunk together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from imos_core.boxes import around
from napari_imos._record.left import within

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.boxes import Box
    from napari_imos._walk import Index, Walk


_MOST_BYTES = 2**28  # of slices that are held at once


class Pages(Protocol):
    """Slices to read, and to write parts of."""

    def read(self, index: int) -> npt.NDArray[Any]:
        """Return a slice, `(H, W)`, not to be written to."""
        ...

    def write(self, index: int, box: Box, values: npt.NDArray[Any]) -> None:
        """Write a part of a slice."""
        ...


class SinglePages:
    """Slices one by one.

    Parameters
    ----------
    data : array-like
        Of the layer.
    walk : Walk
        Slices.
    """

    def __init__(self, data: Any, walk: Walk) -> None:
        self._data, self._walk = data, walk

    def read(self, index: int) -> npt.NDArray[Any]:
        """See `Pages`."""
        return np.asarray(self._data[self._walk.at(index)])

    def write(self, index: int, box: Box, values: npt.NDArray[Any]) -> None:
        """See `Pages`."""
        self._data[within(self._walk.at(index), box)] = values


class SlabPages:
    """Slices of one chunk: read at once, and written at once when all is done.

    Parameters
    ----------
    data : array-like
        Of the layer.
    walk : Walk
        Slices.
    start, stop : int
        Which ones.
    """

    def __init__(self, data: Any, walk: Walk, start: int, stop: int) -> None:
        self._data, self._walk, self._start, self._stop = data, walk, start, stop
        slab = np.array(data[walk.at(slice(start, stop))])
        self._planes = np.moveaxis(slab, walk.engine_axis, 0)
        self._written: list[tuple[int, Box]] = []

    def read(self, index: int) -> npt.NDArray[Any]:
        """See `Pages`."""
        plane: npt.NDArray[Any] = self._planes[index - self._start]
        return plane

    def write(self, index: int, box: Box, values: npt.NDArray[Any]) -> None:
        """See `Pages`."""
        self._planes[index - self._start][box] = values
        self._written.append((index, box))

    def close(self) -> None:
        """Write what has changed: the smallest part that holds all of it."""
        if not self._written:
            return
        indices, boxes = zip(*self._written, strict=True)
        rows, columns = around(boxes)
        first, last = min(indices), max(indices) + 1
        inside = self._planes[first - self._start : last - self._start, rows, columns]
        where = self._part((slice(first, last), rows, columns))
        self._data[where] = np.moveaxis(inside, 0, self._walk.engine_axis)
        self._written.clear()

    def _part(self, sides: tuple[slice, slice, slice]) -> Index:
        """Index of a part: slices, rows and columns."""
        others = iter(sides[1:])
        return tuple(
            i
            if not isinstance(i, slice)
            else (sides[0] if axis == self._walk.axis else next(others))
            for axis, i in enumerate(self._walk.at(slice(None)))
        )


def thickness_of(data: Any, walk: Walk) -> int:
    """Slices of a walk that lie in the same chunks, or shards: 1 of arrays that have none.

    Less where so many are too large to be held at once.
    """
    chunks = getattr(data, "shards", None) or getattr(data, "chunks", None)
    thickness = 1 if chunks is None else chunks[walk.axis]
    if not isinstance(thickness, int):
        return 1
    across = [data.shape[a] for a in walk.kept if a != walk.axis]
    return int(np.clip(_MOST_BYTES // (math.prod(across) * data.dtype.itemsize), 1, thickness))
