"""OnGrid: an image as it looks on the voxels of labels that lie elsewhere in it, read lazily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from imos_core.arrays.slabs import slab_reader
from imos_core.intensity import as_float32, holds_more

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

_SPATIAL = 3


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a labels volume are in an image: ``start + step * index`` by axis."""

    starts: tuple[float, ...]
    """Place of the first voxel along each spatial axis, in voxels of the image."""
    steps: tuple[float, ...]
    """Voxels of the image for one of the labels."""
    image_shape: tuple[int, ...]
    """Spatial shape of the image."""
    fill: float
    """What is seen outside the image."""

    def on(self, image: Any, shape: Sequence[int], axis: int) -> OnGrid:
        """Return the image on the voxels of labels.

        Parameters
        ----------
        image : array-like
            Three spatial axes and maybe colours.
        shape : sequence of int
            Spatial shape of the labels.
        axis : int
            Axis of the slices.
        """
        return OnGrid(image, self.starts, self.steps, shape, self.fill, axis)

    def index(self, axis: int, k: int) -> int:
        """Return the image's nearest voxel to a voxel of the labels."""
        return round(self.starts[axis] + self.steps[axis] * k)

    def across(self, axis: int, through: int, count: int) -> Grid:
        """Return the grid of a slice in every step of a series, whose steps both share.

        Parameters
        ----------
        axis : int
            Spatial axis of which one slice is seen.
        through : int
            Where the axis of the steps stands instead, among three.
        count : int
            Steps.
        """

        def with_steps(values: tuple[float, ...], own: float) -> tuple[float, ...]:
            rest = values[:axis] + values[axis + 1 :]
            return (*rest[:through], own, *rest[through:])

        shape = tuple(int(n) for n in with_steps(self.image_shape, count))
        return Grid(with_steps(self.starts, 0.0), with_steps(self.steps, 1.0), shape, self.fill)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON would hold it."""
        return {
            "starts": list(self.starts),
            "steps": list(self.steps),
            "image_shape": list(self.image_shape),
            "fill": self.fill,
        }

    @classmethod
    def from_plain(cls, given: Mapping[str, Any]) -> Grid:
        """Read what `plain` wrote.

        Raises
        ------
        KeyError, ValueError, TypeError
            If it is something else.
        """
        starts, steps = ([float(x) for x in given[name]] for name in ("starts", "steps"))
        shape = [int(n) for n in given["image_shape"]]
        if not len(starts) == len(steps) == len(shape) == _SPATIAL or min(steps) <= 0:
            raise ValueError(f"{given} is no grid of three axes")
        return cls(tuple(starts), tuple(steps), tuple(shape), float(given["fill"]))


class OnGrid:
    """An array seen on another grid, by basic indexing.

    Where voxels are of one size it is moved by whole voxels; where they are not, it is interpolated
    linearly, after a blur where its own voxels are smaller. Outside it, `fill` is seen. Chunks are
    read once, the next ones ahead, by whoever asks for one slice after the other.

    Parameters
    ----------
    array : array-like
        Three spatial axes and maybe colours.
    starts, steps : sequence of float
        Place of the first voxel of the grid along each spatial axis, and of one further.
    shape : sequence of int
        Spatial shape of the grid.
    fill : float
        What is seen outside the array.
    axis : int
        Axis of the slices.
    """

    def __init__(
        self,
        array: Any,
        starts: Sequence[float],
        steps: Sequence[float],
        shape: Sequence[int],
        fill: float,
        axis: int = 0,
    ) -> None:
        self._array, self._fill, self._axis = array, fill, axis
        self._starts, self._steps = tuple(starts), tuple(steps)
        self._even = all(step == 1 for step in steps)
        self.shape = (*shape, *array.shape[_SPATIAL:])
        self.ndim = len(self.shape)
        # whoever reads it may count from elsewhere: far from 0, float32 tells no shades apart
        between = np.float64 if holds_more(np.dtype(array.dtype)) else np.float32
        self.dtype = np.dtype(array.dtype if self._even else between)
        # what is next to the grid is not read, however thick the slabs
        self._box = [self._needed(a, np.arange(n)) for a, n in enumerate(shape)]
        self._box[axis] = (0, int(array.shape[axis]) - 1)
        self._slabs = slab_reader(_Part(array, self._box), axis)
        if self._slabs is not None:
            ahead = range(int(array.shape[axis]))
            self._slabs.expect([ahead, ahead[::-1]])

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        keys = list(key) if isinstance(key, tuple) else [key]
        keys += [slice(None)] * (self.ndim - len(keys))
        spatial, colour = keys[:_SPATIAL], keys[_SPATIAL:]
        wanted = [
            np.arange(n)[k] if isinstance(k, slice) else np.array([int(k) % n])
            for n, k in zip(self.shape, spatial, strict=False)
        ]
        block = self._moved(wanted) if self._even else self._sampled(wanted)
        held = tuple(slice(None) if isinstance(k, slice) else 0 for k in spatial)
        return block[(*held, *colour)]

    def _moved(self, wanted: list[npt.NDArray[np.intp]]) -> npt.NDArray[Any]:
        """Voxels of the grid that are those of the array."""
        rows = [w + int(start) for w, start in zip(wanted, self._starts, strict=True)]
        there = [(r >= 0) & (r < n) for r, n in zip(rows, self._array.shape, strict=False)]
        out = np.full([*map(len, wanted), *self.shape[_SPATIAL:]], self._fill, self.dtype)
        if all(t.any() for t in there):
            inside = [r[t] for r, t in zip(rows, there, strict=True)]
            out[np.ix_(*there)] = self._read([(int(r.min()), int(r.max())) for r in inside])[
                np.ix_(*(r - r.min() for r in inside))
            ]
        return out

    def _sampled(self, wanted: list[npt.NDArray[np.intp]]) -> npt.NDArray[Any]:
        """Voxels of the grid between those of the array."""
        places = [
            start + step * w
            for w, start, step in zip(wanted, self._starts, self._steps, strict=True)
        ]
        # slices are not mixed: of a single one, the nearest is shown
        places = [np.round(p) if len(p) == 1 else p for p in places]
        sigma = [self._sigma(a, len(p)) for a, p in enumerate(places)]
        bounds = [self._needed(a, w) for a, w in enumerate(wanted)]
        size = [*map(len, wanted), *self.shape[_SPATIAL:]]
        if any(low > high for low, high in bounds) or not all(map(len, wanted)):
            return np.full(size, self._fill, self.dtype)
        block = self._finite(self._read(bounds))
        at = np.meshgrid(
            *(p - low for p, (low, _) in zip(places, bounds, strict=True)), indexing="ij"
        )
        colours = block.reshape(*block.shape[:_SPATIAL], -1)
        found = [
            ndimage.map_coordinates(
                ndimage.gaussian_filter(one, sigma, mode="nearest") if any(sigma) else one,
                at,
                order=1,
                mode="grid-constant",
                cval=self._fill,
            )
            for one in np.moveaxis(colours, -1, 0)
        ]
        return np.stack(found, -1).reshape(size)

    def _finite(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Replace what is not finite, before it spreads: by what is seen outside, or the most."""
        seen = as_float32(raw)
        block, known = raw.astype(self.dtype), np.isfinite(seen)
        if known.all():
            return block
        most = float(block[known].max()) if known.any() else self._fill
        rest = np.where(seen == np.inf, most, self._fill).astype(self.dtype)
        return np.where(known, block, rest)

    def _sigma(self, axis: int, count: int) -> float:
        """Blur along an axis: of the voxels that one of the grid covers, all count."""
        return 0.0 if count == 1 else max((self._steps[axis] - 1) / 2, 0.0)

    def _needed(self, axis: int, wanted: npt.NDArray[np.intp]) -> tuple[int, int]:
        """First and last voxel of the array that show in some of the grid's; last < first: none."""
        if not len(wanted):
            return 0, -1
        ends = self._starts[axis] + self._steps[axis] * np.array([wanted[0], wanted[-1]])
        more = int(np.ceil(4 * self._sigma(axis, len(wanted)))) + 1
        if self._even or len(wanted) == 1:
            ends, more = np.round(ends), 0
        first, last = int(np.floor(ends.min())) - more, int(np.ceil(ends.max())) + more
        return max(first, 0), min(last, int(self._array.shape[axis]) - 1)

    def _read(self, bounds: Sequence[tuple[int, int]]) -> npt.NDArray[Any]:
        low, high = bounds[self._axis]
        if self._slabs is None or low < high:
            return np.asarray(self._array[tuple(slice(a, b + 1) for a, b in bounds)])
        within = zip(bounds, self._box, strict=True)
        where = [slice(a - first, b + 1 - first) for (a, b), (first, _) in within]
        del where[self._axis]
        return np.expand_dims(self._slabs.plane(low)[tuple(where)], self._axis)


class _Part:
    """A box of an array, which is read by basic slicing with steps of one."""

    def __init__(self, array: Any, box: Sequence[tuple[int, int]]) -> None:
        self._array, self._first = array, [low for low, _ in box]
        self.shape = (*(max(b + 1 - a, 0) for a, b in box), *array.shape[len(box) :])
        self.dtype, self.chunks = array.dtype, getattr(array, "chunks", None)

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        spans = zip(self._first, self.shape, key, strict=False)
        where = tuple(
            slice(first + (k.start or 0), first + min(k.stop or n, n)) for first, n, k in spans
        )
        return np.asarray(self._array[where])
