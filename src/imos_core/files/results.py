"""Results on disk, slice by slice: written beside the output, and put in its place at the end."""

from __future__ import annotations

import math
import shutil
import traceback
from collections import OrderedDict
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from imos_core.errors import ImosError
from imos_core.formats import omezarr_labels
from imos_core.io import is_zarr_name
from imos_core.moving import remove_folder
from imos_core.whole_files import bring_to_disk, hidden_beside, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Volume

    Initial = Callable[[int, int], npt.NDArray[Any]]
    """Slices `start` to `stop` as they are before anything is written: `(stop - start, H, W)`."""

_OPEN_BYTES = 2**28
"""Bytes of slabs that wait for their other slices."""
_OPEN_SLABS = 2
"""Slabs that wait at least: what grows to both sides would write them again and again."""


class _Record(Protocol):
    @property
    def exists(self) -> bool: ...


class _Backend(Protocol):
    """Where whole slabs `(t, H, W)`, walked axis first, are kept."""

    thickness: int

    def read(self, start: int, stop: int) -> npt.NDArray[Any]: ...
    def write(self, start: int, slab: npt.NDArray[Any]) -> None: ...
    def sync(self) -> None: ...


class SliceWriter:
    """One result, written in any order of slices; a slab goes to disk when it is complete.

    Parameters
    ----------
    folder : Path
        Folder of work beside the output; made if it is not there.
    output : Path
        What it will become; decides the format.
    shape : tuple of int
        `(Z, Y, X)` of the volume.
    dtype : dtype
        Type of the values.
    axis : int
        Axis that is walked, 0 to 2.
    like : Volume
        Where spacing and the like come from.
    initial : callable
        What slices hold that are never written.
    expected : collection of int
        Slices that will be written.
    done : collection of int
        Slices that an interrupted run has written here already.
    limit : int, optional
        Bytes of slices that may wait for the others of their chunks, which become thinner for it.
    """

    def __init__(
        self,
        folder: Path,
        output: Path,
        *,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        axis: int,
        like: Volume,
        initial: Initial,
        expected: Collection[int],
        done: Collection[int] = (),
        limit: int | None = None,
    ) -> None:
        plane = plane_bytes(shape, axis, dtype)
        thickness = omezarr_labels.THICKNESS
        if limit is not None:
            thickness = min(max(limit // (_OPEN_SLABS * plane), 1), thickness)
        self.output, self._axis, self._initial = output, axis, initial
        self._length = shape[axis]
        with writing(output):
            folder.mkdir(exist_ok=True)
            is_zarr = is_zarr_name(output)
            self._backend: _Backend = (_ZarrSlabs if is_zarr else _RawSlabs)(
                folder, output, shape, np.dtype(dtype), axis, like, thickness, fresh=not done
            )
        step = self._backend.thickness
        self._slabs: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._started = {k // step for k in done}
        self._missing: dict[int, set[int]] = {}
        for k in set(expected) - set(done):
            self._missing.setdefault(k // step, set()).add(k)
        waiting = _OPEN_BYTES if limit is None else min(limit, _OPEN_BYTES)
        self._most = max(waiting // (step * plane), _OPEN_SLABS)

    def write(self, index: int, plane: npt.NDArray[Any]) -> None:
        """Take one finished slice."""
        number = index // self._backend.thickness
        slab = self._open(number)
        slab[index - number * self._backend.thickness] = plane
        missing = self._missing.setdefault(number, set())
        missing.discard(index)
        if not missing:
            self._close(number)
        while len(self._slabs) > self._most:
            self._close(next(iter(self._slabs)))

    def plane(self, index: int) -> npt.NDArray[Any]:
        """Return a slice as it was written, `(H, W)`."""
        number = index // self._backend.thickness
        plane: npt.NDArray[Any] = self._open(number)[index - number * self._backend.thickness]
        return plane

    def flush(self) -> None:
        """Bring everything that was written so far to disk, for good."""
        for number, slab in self._slabs.items():
            self._put(number, slab)
        with writing(self.output):
            self._backend.sync()

    def finish(self) -> npt.NDArray[Any] | Path:
        """Complete the result: an array `(Z, Y, X)`, or the path of a finished store."""
        self.flush()
        self._slabs.clear()
        step = self._backend.thickness
        for number in range(-(-self._length // step)):
            if number not in self._started:
                slab = self._initial(*self._span(number))
                if slab.any():
                    self._put(number, slab)
        if isinstance(self._backend, _ZarrSlabs):
            with writing(self.output):
                omezarr_labels.finish(self._backend.path)
            return self._backend.path
        assert isinstance(self._backend, _RawSlabs)
        planes: npt.NDArray[Any] = np.load(self._backend.path, mmap_mode="r")
        return np.moveaxis(planes, 0, self._axis)

    def _span(self, number: int) -> tuple[int, int]:
        start = number * self._backend.thickness
        return start, min(start + self._backend.thickness, self._length)

    def _open(self, number: int) -> npt.NDArray[Any]:
        slab = self._slabs.pop(number, None)
        if slab is None:
            start, stop = self._span(number)
            known = self._backend.read if number in self._started else self._initial
            slab = np.require(known(start, stop), requirements="W")  # a copy where it has to be
        self._slabs[number] = slab
        self._started.add(number)
        return slab

    def _close(self, number: int) -> None:
        self._put(number, self._slabs[number])
        del self._slabs[number]

    def _put(self, number: int, slab: npt.NDArray[Any]) -> None:
        with writing(self.output):
            self._backend.write(number * self._backend.thickness, slab)


class _RawSlabs:
    """A plain file of planes, for formats that are written in one go at the end."""

    thickness = 1

    def __init__(
        self,
        folder: Path,
        output: Path,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        axis: int,
        like: Volume,
        thickness: int,
        *,
        fresh: bool,
    ) -> None:
        self.path = folder / "slices.npy"
        planes = (shape[axis], *(n for i, n in enumerate(shape) if i != axis))
        self._dtype, self._plane = dtype.newbyteorder("="), planes[1:]
        if fresh:
            header = np.lib.format.header_data_from_array_1_0(np.empty(0, self._dtype))
            with self.path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, {**header, "shape": planes})
                # a hole that reads as zeros: nothing is on disk before it is written
                file.truncate(file.tell() + math.prod(planes) * self._dtype.itemsize)
        self._bytes = math.prod(self._plane) * self._dtype.itemsize
        self._offset = self.path.stat().st_size - self._bytes * planes[0]

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        with self.path.open("rb") as file:
            file.seek(self._offset + start * self._bytes)
            data = file.read((stop - start) * self._bytes)
        return np.frombuffer(data, self._dtype).reshape(stop - start, *self._plane)

    def write(self, start: int, slab: npt.NDArray[Any]) -> None:
        # not through a mapping: on a full disk that would kill the process
        with self.path.open("r+b") as file:
            file.seek(self._offset + start * self._bytes)
            file.write(np.ascontiguousarray(slab, self._dtype).tobytes())

    def sync(self) -> None:
        bring_to_disk(self.path)


class _ZarrSlabs:
    """An OME-Zarr whose chunks are as thick as a slab."""

    def __init__(
        self,
        folder: Path,
        output: Path,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        axis: int,
        like: Volume,
        thickness: int,
        *,
        fresh: bool,
    ) -> None:
        self.path, self._axis = folder / "slices.zarr", axis
        if fresh:
            shutil.rmtree(self.path, ignore_errors=True)
            omezarr_labels.create(
                self.path, shape, dtype, like, output.name, axis=axis, thickness=thickness
            )
        self._array = omezarr_labels.level_zero(self.path)
        self.thickness = int(self._array.chunks[axis])
        self._written: set[int] = set()

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        return np.moveaxis(np.asarray(self._array[self._where(start, stop)]), self._axis, 0)

    def write(self, start: int, slab: npt.NDArray[Any]) -> None:
        where = self._where(start, start + len(slab))
        self._array[where] = np.moveaxis(slab, 0, self._axis)
        self._written.add(start // self.thickness)

    def sync(self) -> None:
        counts = [-(-n // c) for n, c in zip(self._array.shape, self._array.chunks, strict=True)]
        inside = self.path / self._array.path
        for number in self._written:
            rows = [range(n) for n in counts]
            rows[self._axis] = range(number, number + 1)
            for place in product(*rows):
                chunk = inside / self._array.metadata.encode_chunk_key(place)
                if chunk.exists():  # chunks of nothing but zeros are not stored
                    bring_to_disk(chunk)
        self._written.clear()

    def _where(self, start: int, stop: int) -> tuple[slice, ...]:
        where = [slice(None)] * 3
        where[self._axis] = slice(start, stop)
        return tuple(where)


def plane_bytes(shape: Sequence[int], axis: int, dtype: npt.DTypeLike) -> int:
    """Bytes of a slice of a result."""
    return max(math.prod(shape) // shape[axis] * np.dtype(dtype).itemsize, 1)


def most_held(output: Path, plane: int, limit: int) -> int:
    """Bytes that a writer under a limit holds at most, with what is packed at a time.

    Parameters
    ----------
    output : Path
        What is written.
    plane : int
        Bytes of a slice.
    limit : int
        Bytes of slices that may wait.
    """
    least = (_OPEN_SLABS + 1) * plane
    if not is_zarr_name(output):
        return least
    return max(min(limit * 3 // 2, least * omezarr_labels.THICKNESS), least)


def work_folder(output: Path) -> Path:
    """Folder beside an output in which it is made."""
    return hidden_beside(output, "partial")


@contextmanager
def kept_if_interrupted(folders: Sequence[Path], record: _Record, kept: str) -> Iterator[None]:
    """Say of a run that ends early how it goes on; without a record of it, remove its folders.

    They are removed, too, when all is well.

    Parameters
    ----------
    folders : sequence of Path
        Folders of work.
    record : object
        Its `exists` says whether there is something to go on from.
    kept : str
        What that is, with its verb, such as ``"what is done is"``.
    """
    try:
        yield
    except BaseException as error:
        if not record.exists:
            _let_go(error)
            discard(folders)
        elif isinstance(error, KeyboardInterrupt):
            words = f"interrupted; {kept} kept: go on with --resume."
            raise KeyboardInterrupt(words) from None
        elif isinstance(error, ImosError):
            words = f"{error} {kept.capitalize()} kept: go on with --resume."
            raise type(error)(words) from error
        raise
    discard(folders)


def _let_go(error: BaseException | None) -> None:
    """Drop what functions held when they failed: Windows removes no file that is mapped."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # one may be its own cause
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def discard(folders: Iterable[Path]) -> None:
    """Remove folders of work."""
    for folder in folders:
        remove_folder(folder)
