"""Brightness: contrast limits of images on disk, from a few of their planes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_WHOLE = 2**22
"""Voxels up to which all of an image is looked at."""
_PLANES = 9
"""Of a larger one, so many planes are looked at, at most."""
_SIDE = 512
"""And of these, so many rows and columns in the middle, at most, ..."""
_LEAST = 128
"""... and at least."""
_BYTES = 2**26
"""Whole chunks have to be read, in the window's thread: about so much of them in all."""


def contrast_limits(array: Any, *, channels_last: bool) -> list[tuple[float, float]]:
    """Return the darkest and the brightest value of each channel, one channel where there are none.

    Of arrays that are not in memory, napari looks at the one plane that it shows first. That may
    be an empty end of the volume, and none at all where the image does not begin at 0.

    Parameters
    ----------
    array : array-like
        Image; what cannot be read of it is left out, as whoever comes there will be told.
    channels_last : bool
        Whether its last axis holds channels.
    """
    shape = array.shape[: array.ndim - channels_last]
    count = array.shape[-1] if channels_last else 1
    ends = np.array([[np.inf] * count, [-np.inf] * count])
    for place in _places(shape, *_chunks(array, len(shape))):
        try:
            values = np.asarray(array[place]).reshape(-1, count)
        except FileError:
            continue
        for c in range(count):
            _widen(ends[:, c], values[:, c])
    return [_interval(float(low), float(high)) for low, high in ends.T]


def _chunks(array: Any, spatial: int) -> tuple[list[int], int]:
    """Return how long chunks are along each axis, and the bytes of a voxel with its channels."""
    found = getattr(array, "chunks", None) or [1] * spatial
    longest = [max(c) if isinstance(c, Iterable) else int(c) for c in found[:spatial]]
    values = int(np.prod(array.shape[spatial:], dtype=object))
    return longest, values * np.dtype(array.dtype).itemsize


def _places(
    shape: Sequence[int], chunks: Sequence[int], voxel: int
) -> list[tuple[int | slice, ...]]:
    """Where to look: everywhere, or in planes spread over the axes before the last two."""
    if int(np.prod(shape, dtype=object)) <= _WHOLE:
        return [()]
    longer = sum(n > 1 for n in shape[:-2])
    most = round(_PLANES ** (1 / max(longer, 1)))
    spread = []
    for n, chunk in zip(shape[:-2], chunks, strict=False):
        # two planes of one chunk would be read twice, and are alike
        parts = min(most, max(n // chunk, 1))
        # the middle of each part, as objects are seldom on the first or last plane
        spread.append([(2 * k + 1) * n // (2 * parts) for k in range(parts)])
    planes = list(itertools.product(*spread))
    side = _SIDE
    while side > _LEAST and len(planes) * _cost(shape, chunks, voxel, side) > _BYTES:
        side //= 2
    count = max(min(len(planes), _BYTES // _cost(shape, chunks, voxel, side)), 1)
    chosen = [planes[(2 * k + 1) * len(planes) // (2 * count)] for k in range(count)]
    return [(*plane, *(_middle(n, side) for n in shape[-2:])) for plane in chosen]


def _middle(length: int, side: int) -> slice:
    """Return the middle of an axis."""
    return slice(max(length - side, 0) // 2, (length + min(length, side)) // 2)


def _cost(shape: Sequence[int], chunks: Sequence[int], voxel: int, side: int) -> int:
    """Bytes of all chunks that the middle of a plane lies in."""
    cost = voxel
    for n, chunk in zip(shape[:-2], chunks, strict=False):
        cost *= min(n, chunk)
    for n, chunk in zip(shape[-2:], chunks[-2:], strict=True):
        middle = _middle(n, side)
        cost *= (-(-middle.stop // chunk) - middle.start // chunk) * chunk
    return cost


def _widen(ends: npt.NDArray[np.float64], values: npt.NDArray[Any]) -> None:
    """Let two ends hold some values, too, but for NaN and infinite ones."""
    finite = values[np.isfinite(values)]
    if finite.size:
        ends[:] = min(ends[0], finite.min()), max(ends[1], finite.max())


def _interval(low: float, high: float) -> tuple[float, float]:
    """Return limits that napari takes, as it makes them itself of a constant image."""
    if low < high:
        return low, high
    return (min(low, 0.0), max(high, 1.0)) if np.isfinite(low) else (0.0, 1.0)
