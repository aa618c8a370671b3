"""LeftLabels: what runs have left in a layer, in tiles of its planes."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.boxes import box_of
from imos_core.label_ids import heads, ids_on, relabelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from napari_imos._walk import Index

    Key = tuple[int, ...]
    """Position on all but the last two axes of the layer."""
    _Spans = tuple[int | range, int | range]
    _Asked = tuple[int, tuple[tuple[int, int], ...]]
    """Axis, and others with the one position that counts of each."""

_SIDE = 64
"""Pixels of a tile, each way: an object in a large plane takes up little more than itself."""


class LeftLabels:
    """Labels that runs left at the voxels that they wrote; elsewhere 0."""

    def __init__(self) -> None:
        self._planes: dict[Key, dict[tuple[int, int], npt.NDArray[Any]]] = {}
        self._size = (0, 0)
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._asked: dict[_Asked, dict[int, set[int]]] = {}

    def take(self, other: LeftLabels) -> None:
        """Hold a copy of what another one holds."""
        self._asked.clear()
        self._size, self._dtype = other._size, other._dtype
        for key, tiles in other._planes.items():
            self._planes[key] = {at: tile.copy() for at, tile in tiles.items()}

    def clear(self) -> None:
        """Forget everything."""
        self._asked.clear()
        self._planes.clear()

    def planes(self) -> Iterator[tuple[Key, npt.NDArray[Any]]]:
        """Yield what was left, plane by plane: position and `(H, W)` labels, not to be written to.

        Planes lie along the last two axes of the layer; those without any label are left out.
        """
        like = np.broadcast_to(np.zeros((), self._dtype), self._size)
        for key in self._planes:
            yield key, self.read(whole_plane(key), like)

    def held(self, where: Index, like: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """What was left on a slice; None if nothing was.

        Parameters
        ----------
        where : tuple
            Basic index of the slice, or of a part of it whose slices have steps of 1.
        like : ndarray
            `(H, W)`, of the shape and type of what is there.
        """
        # this is asked for every slice of a volume
        lead = where[:-2]
        if not any(isinstance(i, slice) for i in lead) and lead not in self._planes:
            return None
        noted = self.read(where, like)
        return noted if noted.any() else None

    def read(self, where: Index, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What was left on a slice, `(H, W)`; 0 elsewhere. See `held`."""
        noted = np.zeros(like.shape, like.dtype)
        for key, row, part in _parts(where, like.shape):
            tiles = self._planes.get(key, {})
            for at, inside, outside in _blocks(*part) if tiles else ():
                # a thread may ask while a run goes on, which takes tiles away
                if (tile := tiles.get(at)) is not None:
                    noted[row + outside] = tile[inside]
        return noted

    def along(self, axis: int, fixed: Mapping[int, int], label: int) -> set[int]:
        """Positions along an axis of the layer at which a label was left.

        Parameters
        ----------
        axis : int
            Axis.
        fixed : mapping of int to int
            Other axes that count at one position only.
        label : int
            Label.
        """
        found: set[int] = set()
        for key, tiles in self._planes.items():
            rows, columns = len(key), len(key) + 1
            if any(a < rows and key[a] != k for a, k in fixed.items()):
                continue
            for at, tile in tiles.items():
                where = tile == label
                for a, k in fixed.items():
                    if a >= rows:
                        inside = np.arange(_SIDE) == k - _SIDE * at[a - rows]
                        where &= inside[:, None] if a == rows else inside
                if not where.any():
                    continue
                if axis < rows:
                    found.add(key[axis])
                    break
                held = np.flatnonzero(where.any(columns - axis))
                found.update((held + _SIDE * at[axis - rows]).tolist())
        return found

    def all_along(self, axis: int, fixed: Mapping[int, int]) -> dict[int, set[int]]:
        """Labels that were left, with what `along` says of each: of many it takes one pass.

        It is kept until something else is left, so it is not to be written to.
        """
        asked = (axis, tuple(sorted(fixed.items())))
        if asked not in self._asked:
            self._asked[asked] = self._all_along(axis, fixed)
        return self._asked[asked]

    def _all_along(self, axis: int, fixed: Mapping[int, int]) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        reached: dict[int, npt.NDArray[np.bool_]] = {}  # the same, of an axis of the planes
        for key, tiles in self._planes.items():
            lead = len(key)
            if any(a < lead and key[a] != k for a, k in fixed.items()):
                continue
            at, voxels = _joined(tiles, {a - lead: k for a, k in fixed.items() if a >= lead})
            # heads of stretches tell as much as all their voxels, and are few
            begins = _begins(voxels, 1 if axis - lead == 1 else 2)
            if axis < lead:
                for label in ids_on(voxels[begins]):
                    found.setdefault(label, set()).add(key[axis])
                continue
            where = np.nonzero(begins)
            if not where[0].size:
                continue
            labels = voxels[where]
            slices = _SIDE * at[where[0], axis - lead] + where[1 + axis - lead]
            order = np.argsort(labels, kind="stable")
            labels, slices = labels[order], slices[order]
            starts = heads(labels)
            length = -(-self._size[axis - lead] // _SIDE) * _SIDE
            for label, of_it in zip(
                labels[starts].tolist(), np.split(slices, starts[1:]), strict=True
            ):
                if label not in reached:
                    reached[label] = np.zeros(length, bool)
                reached[label][of_it] = True
        found.update((label, set(np.flatnonzero(r).tolist())) for label, r in reached.items())
        return found

    def box(self, where: Index, like: npt.NDArray[Any]) -> tuple[slice, slice] | None:
        """Rows and columns of a slice between which all that was left there lies. See `held`."""
        if any(isinstance(i, slice) for i in where[:-2]):
            return box_of(self.read(where, like))
        tiles = self._planes.get(where[:-2])
        if not tiles:
            return None
        rows, columns = (
            slice(_SIDE * min(along), min(_SIDE * max(along) + _SIDE, n))
            for along, n in zip(zip(*tiles, strict=True), like.shape, strict=True)
        )
        return rows, columns

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
        if not voxels.size:
            return
        self._asked.clear()
        self._size = (shape[-2], shape[-1])
        self._hold(values.dtype)
        width = [n for n, i in zip(shape, where, strict=True) if isinstance(i, slice)][1]
        rows, columns = np.divmod(voxels, width)
        top, left = int(rows.min()), int(columns.min())
        size = (int(rows.max()) + 1 - top, int(columns.max()) + 1 - left)
        inside_box = (rows - top, columns - left)
        touched = np.zeros(size, bool)
        touched[inside_box] = True
        noted = np.zeros(size, values.dtype)
        noted[inside_box] = values
        box = (slice(top, top + size[0]), slice(left, left + size[1]))
        for key, row, part in _parts(within(where, box), size):
            if not touched[row].any():
                continue
            tiles = self._planes.setdefault(key, {})
            for at, inside, outside in _blocks(*part):
                here = touched[row + outside]
                if not here.any():
                    continue
                if at not in tiles:
                    tiles[at] = np.zeros((_SIDE, _SIDE), self._dtype)
                tiles[at][inside] = np.where(here, noted[row + outside], tiles[at][inside])
                if not tiles[at].any():
                    del tiles[at]
            if not tiles:
                del self._planes[key]

    def rename(
        self, names: Mapping[int, int], but: Mapping[int, Mapping[int, int]], data: Any
    ) -> None:
        """Let other labels have been left wherever some were, in one pass for all of them.

        Parameters
        ----------
        names : mapping of int to int
            Label -> the other one, or 0.
        but : mapping of int to mapping of int to int
            Label -> what the layer holds -> what was left instead where it holds that.
        data : array-like
            Of the layer.
        """
        self._asked.clear()
        self._hold(data.dtype)
        for key, tiles in list(self._planes.items()):
            plane = None
            for (i, j), tile in list(tiles.items()):
                named = relabelled(tile, names)
                if named is tile:
                    continue
                for old in but.keys() & ids_on(tile) if but else ():
                    plane = np.asarray(data[key]) if plane is None else plane
                    held = plane[_SIDE * i : _SIDE * (i + 1), _SIDE * j : _SIDE * (j + 1)]
                    rows, columns = held.shape
                    for there, instead in but[old].items():
                        where = (tile[:rows, :columns] == old) & (held == there)
                        named[:rows, :columns][where] = instead
                tiles[i, j] = named
                if not named.any():
                    del tiles[i, j]
            if not tiles:
                del self._planes[key]

    def _hold(self, dtype: np.dtype[Any]) -> None:
        """Let tiles hold the labels of a layer that was given another type."""
        if dtype != self._dtype and dtype.itemsize >= self._dtype.itemsize:
            self._dtype = dtype
            for tiles in self._planes.values():
                tiles.update({at: tile.astype(dtype) for at, tile in tiles.items()})


def whole_plane(key: Key) -> Index:
    """Basic index of a plane along the last two axes."""
    return (*key, slice(None), slice(None))


def within(where: Index, box: tuple[slice, slice]) -> Index:
    """Basic index of a part of a slice, or of a part of one: rows and columns of it."""
    inside = iter(box)
    return tuple(_moved(next(inside), i.start or 0) if isinstance(i, slice) else i for i in where)


def _joined(
    tiles: Mapping[tuple[int, int], npt.NDArray[Any]], fixed: Mapping[int, int]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[Any]]:
    """Return tiles as one array, `(N, h, w)`, and which they are, `(N, 2)`.

    Where rows (0) or columns (1) count at one position only, so much of those that have it.
    """
    inside = [slice(None), slice(None)]
    for a, k in fixed.items():
        inside[a] = slice(k % _SIDE, k % _SIDE + 1)
    at = [t for t in tiles if all(t[a] == k // _SIDE for a, k in fixed.items())]
    if not at:
        return np.zeros((0, 2), np.intp), np.zeros((0, 1, 1), np.uint8)
    return np.array(at), np.stack([tiles[t][tuple(inside)] for t in at])


def _begins(voxels: npt.NDArray[Any], axis: int) -> npt.NDArray[np.bool_]:
    """Where stretches of a label begin along an axis of tiles: few of its voxels."""
    begins: npt.NDArray[np.bool_] = voxels != 0
    along, view = np.swapaxes(begins, axis, -1), np.swapaxes(voxels, axis, -1)
    along[..., 1:] &= view[..., 1:] != view[..., :-1]
    return begins


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _parts(where: Index, size: tuple[int, ...]) -> Iterator[tuple[Key, Index, _Spans]]:
    """Split a slice, or a part of one, by plane.

    Yields the key of the plane, the index in the part, and what is meant of the plane's two axes:
    a position or a range.
    """
    lengths = iter(size)
    spans = [
        range(start := i.start or 0, start + next(lengths)) if isinstance(i, slice) else i
        for i in where
    ]
    *lead, row, column = spans
    for key in product(*(i if isinstance(i, range) else (i,) for i in lead)):
        inner = tuple(k - i.start for k, i in zip(key, lead, strict=True) if isinstance(i, range))
        yield key, inner, (row, column)


def _blocks(
    rows: int | range, columns: int | range
) -> Iterator[tuple[tuple[int, int], Index, Index]]:
    """Split a part of a plane by tile: the tile, index in the tile, index in the part."""
    across = list(_steps(columns))
    for i, inside_i, outside_i in _steps(rows):
        for j, inside_j, outside_j in across:
            yield (i, j), (inside_i, inside_j), outside_i + outside_j


def _steps(span: int | range) -> Iterator[tuple[int, int | slice, Index]]:
    """Split a position, or a range, by tile: its number, index within it, index in the range."""
    if not isinstance(span, range):
        yield span // _SIDE, span % _SIDE, ()
        return
    for number in range(span.start // _SIDE, -(-span.stop // _SIDE)):
        corner = number * _SIDE
        start, stop = max(corner, span.start), min(corner + _SIDE, span.stop)
        yield (
            number,
            slice(start - corner, stop - corner),
            (slice(start - span.start, stop - span.start),),
        )
