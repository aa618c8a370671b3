"""Slabs: slices of an array on disk, each chunk read once per direction, the next one ahead."""

from __future__ import annotations

import math
import mmap
import threading
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

DEFAULT_BYTES = 2**29
"""Bytes that slabs of one array may take, unless somebody says otherwise."""

PASSED_BYTES = 2**25
"""Bytes that are read from a mapped file before its memory is given back."""
_STRIDED = 32
"""Slices that are read at a time where a file would be walked across its grain."""


class SlabReader:
    """Planes of an array along one axis, read in slabs as thick as its chunks.

    Whoever walks asks for neighbouring planes one after the other. The slab that holds a plane is
    read as a whole and kept while it is used; a thread reads the next one meanwhile. Slabs that
    were not used for longest are let go, so that memory does not depend on the array's length.

    Parameters
    ----------
    image : array-like
        Anything with `shape`, `dtype` and basic slicing; read by one thread at a time.
    axis : int
        Axis of the planes.
    thickness : sequence of int
        Slices of each chunk along the axis, in order.
    """

    def __init__(self, image: Any, axis: int, thickness: Sequence[int]) -> None:
        self._image, self._axis = image, axis
        self._chunks = np.concatenate([[0], np.cumsum(thickness)])
        self._thickest = max(thickness)
        self._ndim = len(image.shape)
        plane = np.prod([n for i, n in enumerate(image.shape) if i != axis], dtype=float)
        self._plane_bytes = max(int(plane * np.dtype(image.dtype).itemsize), 1)
        self._lock = threading.Lock()
        self._slabs: OrderedDict[int, npt.NDArray[Any] | Future[npt.NDArray[Any]]] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None
        self.expect([range(int(self._chunks[-1]))])

    def expect(self, paths: Iterable[range], limit: int = DEFAULT_BYTES) -> None:
        """Say who will walk where, and how many bytes may be held.

        Parameters
        ----------
        paths : iterable of range
            Slices of each walk, in its order.
        limit : int
            Bytes. Where chunks are too thick for it, first nothing is read ahead, then slabs
            become thinner than chunks, which are then read more than once.
        """
        self._paths = list(dict.fromkeys(paths))
        walkers = max(len(self._paths), 1)
        self._ahead = self._bytes_of(2 * walkers) <= limit
        self._capacity = 2 * walkers if self._ahead else walkers
        most = self._thickest
        if self._bytes_of(walkers) > limit:
            most = max(limit // (walkers * self._plane_bytes), 1)
        edges = [0]
        for start, stop in zip(self._chunks[:-1], self._chunks[1:], strict=True):
            edges += [*range(int(start) + most, int(stop), most), int(stop)]
        self._edges = np.array(edges)
        self._recent: deque[int] = deque(maxlen=4 * walkers + 8)
        wait([slab for slab in self._slabs.values() if isinstance(slab, Future)])
        self._slabs.clear()
        self._fresh: set[int] = set()

    def most_held(self, paths: Iterable[range], limit: int) -> int:
        """Bytes that are held at most after `expect` was told the same."""
        walkers = max(len(set(paths)), 1)
        least = min(walkers, int(self._chunks[-1])) * self._plane_bytes
        return max(min(self._bytes_of(2 * walkers), limit), least)

    def _bytes_of(self, chunks: int) -> int:
        """Bytes of so many chunks at most, whatever walkers share: there are no more than all."""
        return min(chunks * self._thickest, int(self._chunks[-1])) * self._plane_bytes

    def plane(self, index: int) -> npt.NDArray[Any]:
        """Return one plane."""
        number = self._number(index)
        slab = self._take(number)
        if self._ahead:
            self._read_ahead(index, number)
        if index not in self._recent:
            self._recent.append(index)
        where: list[Any] = [slice(None)] * self._ndim
        where[self._axis] = index - int(self._edges[number])
        # a copy: who keeps a view keeps the slab
        return np.array(slab[tuple(where)])

    def _number(self, index: int) -> int:
        return int(np.searchsorted(self._edges, index, side="right")) - 1

    def _take(self, number: int) -> npt.NDArray[Any]:
        found = self._slabs.pop(number, None)
        if found is None:
            self._make_room()
            found = self._read(number)
        elif isinstance(found, Future):
            found = found.result()
        self._slabs[number] = found
        self._fresh.discard(number)
        return found

    def _read_ahead(self, index: int, number: int) -> None:
        for path in self._paths:
            if index not in path or (path.step > 0) != (path[0] <= path[-1]):
                continue
            before = index - path.step
            following = number + (1 if path.step > 0 else -1)
            if before not in self._recent or not 0 <= following < len(self._edges) - 1:
                continue
            first = int(self._edges[following] if path.step > 0 else self._edges[following + 1] - 1)
            if first not in path or following in self._slabs:
                continue
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="imos-slabs")
            self._make_room()
            self._fresh.add(following)
            self._slabs[following] = self._pool.submit(self._read, following)

    def _make_room(self) -> None:
        while len(self._slabs) >= self._capacity:
            # what was read ahead is yet to be looked at
            used = next((n for n in self._slabs if n not in self._fresh), None)
            oldest = next(iter(self._slabs)) if used is None else used
            self._slabs.pop(oldest)
            self._fresh.discard(oldest)

    def _read(self, number: int) -> npt.NDArray[Any]:
        where: list[Any] = [slice(None)] * self._ndim
        where[self._axis] = slice(int(self._edges[number]), int(self._edges[number + 1]))
        with self._lock:
            slab = np.asarray(self._image[tuple(where)])
            # of an array that lies across the axis, every page is touched only now
            return np.array(slab) if isinstance(self._image, np.ndarray) else slab


class PlaneReader:
    """Planes of any array along one axis, which do not fill the memory as they pass.

    Parameters
    ----------
    array : array-like
        Anything with `shape` and basic slicing, of three axes, or more for channels.
    axis : int
        Axis of the planes, 0 to 2.
    taken : callable
        Turns what was sliced into an array, which may be a view, except of what is read in slabs.
    """

    def __init__(self, array: Any, axis: int, taken: Callable[[Any], npt.NDArray[Any]]) -> None:
        self._array, self._axis, self._taken = array, axis, taken
        # what reads ahead would lose the mask
        masked = isinstance(array, np.ma.MaskedArray)
        self._slabs = None if masked else slab_reader(array, axis)
        self._mapped = None if masked else mapping(array)
        self._passed = 0

    @property
    def plane_bytes(self) -> int:
        """Bytes of a plane as stored."""
        dtype = getattr(self._array, "dtype", np.dtype(float))
        values = int(math.prod(self._array.shape)) // int(self._array.shape[self._axis])
        return values * int(getattr(dtype, "itemsize", 8))

    def expect(self, paths: Iterable[range], limit: int) -> None:
        """Do as `SlabReader.expect`, where planes are read in slabs."""
        if self._slabs is not None:
            self._slabs.expect(paths, limit)

    def most_held(self, paths: Iterable[range], limit: int) -> int:
        """Bytes that are held at most after `expect` was told the same."""
        if self._slabs is not None:
            return self._slabs.most_held(paths, limit)
        return 0 if self._mapped is None else PASSED_BYTES + self.plane_bytes

    def plane(self, index: int) -> npt.NDArray[Any]:
        """Return one plane."""
        if self._slabs is not None:
            plane = self._slabs.plane(index)
        else:
            where: list[Any] = [slice(None)] * 3
            where[self._axis] = index
            plane = self._taken(self._array[tuple(where)])
        if self._mapped is not None:
            self._passed += plane.nbytes
            if self._passed > PASSED_BYTES:
                plane = np.array(plane)  # no page must be missed while it is copied
                drop_pages(self._mapped)
                self._passed = 0
        return plane


def slab_reader(image: Any, axis: int) -> SlabReader | None:
    """Return a reader if the array has chunks, or lies on disk across the axis; else None."""
    thickness = _thickness(image, axis)
    return None if thickness is None else SlabReader(image, axis, thickness)


def _thickness(image: Any, axis: int) -> list[int] | None:
    length = int(image.shape[axis])
    chunks = getattr(image, "chunks", None)
    if chunks is not None and len(chunks) == len(image.shape):
        own = chunks[axis]
        if isinstance(own, int | np.integer):
            return _repeated(length, int(own))
        if sum(own) == length:  # dask may not know its own chunks
            return [int(n) for n in own]
        return None
    if isinstance(image, np.ndarray) and mapping(image) is not None:
        across = abs(image.strides[axis]) < max(abs(s) for s in image.strides)
        return _repeated(length, _STRIDED) if across else None
    return None


def _repeated(length: int, thickness: int) -> list[int]:
    thickness = max(thickness, 1)
    return [min(thickness, length - start) for start in range(0, length, thickness)]


def mapping(array: Any) -> mmap.mmap | None:
    """Return the file mapping under an array whose pages may be dropped at any time, or None."""
    mode = None
    while isinstance(array, np.ndarray):
        mode = getattr(array, "mode", None) or mode
        array = array.base
    # dropping pages of a private mapping ("c") would undo what was written to them
    return array if isinstance(array, mmap.mmap) and mode in ("r", "r+") else None


def in_passing(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield the planes `(H, W)` of an array in order; one in a file does not fill the memory."""
    mapped, read = mapping(array), 0
    for place in np.ndindex(*array.shape[:-2]):
        plane = np.array(array[place], order="C")
        yield plane
        read += plane.nbytes
        if mapped is not None and read > PASSED_BYTES:
            drop_pages(mapped)
            read = 0


def drop_pages(mapped: mmap.mmap) -> None:
    """Give the memory of a file mapping back; what is read again comes from the disk again."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
