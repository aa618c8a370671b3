"""Brightness: contrast limits of images on disk, from a few of their planes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

_WHOLE = 2**22
"""Voxels up to which all of an image is looked at."""
_PLANES = 9
"""Of a larger one, so many planes are looked at."""
_SIDE = 2048
"""And of these, so many rows and columns in the middle."""


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
    for place in _places(shape):
        try:
            values = np.asarray(array[place]).reshape(-1, count)
        except FileError:
            continue
        for c in range(count):
            _widen(ends[:, c], values[:, c])
    return [_interval(float(low), float(high)) for low, high in ends.T]


def _places(shape: Sequence[int]) -> Iterable[tuple[int | slice, ...]]:
    """Where to look: everywhere, or in planes spread over the axes before the last two."""
    if int(np.prod(shape, dtype=object)) <= _WHOLE:
        return [()]
    longer = sum(n > 1 for n in shape[:-2])
    parts = round(_PLANES ** (1 / max(longer, 1)))
    # the middle of each part, as objects are seldom on the first or last plane
    spread = [sorted({(2 * k + 1) * n // (2 * parts) for k in range(parts)}) for n in shape[:-2]]
    middle = [slice(max(n - _SIDE, 0) // 2, (n + min(n, _SIDE)) // 2) for n in shape[-2:]]
    return [(*place, *middle) for place in itertools.product(*spread)]


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
