"""Channels: up to three of an image as its colours, read lazily, each brought to 0..1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.axes import held
from imos_core.errors import PromptError
from imos_core.intensity import (
    as_float32,
    few,
    near_objects,
    plain,
    range_of,
    spread,
    zero_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    Limits = tuple[float, float]

MOST_CHANNELS = 3
"""Channels that the network sees at once."""
_FEW = 3
"""Painted slices that say how bright a channel is, or up to five: somebody waits for them."""


class StackedChannels:
    """Two or three arrays as one with colours last: read lazily, by basic indexing.

    Of two channels, the third colour is their mean.

    Parameters
    ----------
    arrays : sequence of array-like
        Two or three, of the same three spatial axes.
    limits : sequence of (float, float)
        Intensities of each that become 0 and 1.
    """

    def __init__(self, arrays: Sequence[Any], limits: Sequence[Limits]) -> None:
        self._arrays = list(arrays)
        self.limits = tuple(limits)
        """Intensities of each array that become 0 and 1."""
        self.shape = (*arrays[0].shape, MOST_CHANNELS)
        self.dtype = np.dtype(np.float32)
        self.ndim = len(self.shape)
        chunks = getattr(arrays[0], "chunks", None)
        self.chunks = None if chunks is None else (*chunks, MOST_CHANNELS)

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        where = key if isinstance(key, tuple) else (key,)
        spatial, colour = where[: self.ndim - 1], where[self.ndim - 1 :]
        planes = []
        for array, (low, high) in zip(self._arrays, self.limits, strict=True):
            raw = plain(array[spatial])
            zero = zero_for(raw.dtype, low, high)
            plane = as_float32(raw, zero) - (low - zero)
            planes.append(np.nan_to_num(np.clip(plane / (high - low), 0, 1)))
        if len(planes) < MOST_CHANNELS:
            planes.append((planes[0] + planes[1]) / 2)
        stacked = np.stack(planes, axis=-1)
        return stacked[(..., *colour)] if colour else stacked


def limits_of(array: Any, axis: int, painted: Mapping[int, npt.NDArray[Any]]) -> Limits:
    """Return the intensities of a channel that become 0 and 1: what is painted lies between them.

    Parameters
    ----------
    array : array-like
        Three spatial axes.
    axis : int
        Axis of the slices.
    painted : mapping of int to ndarray
        Painted slices, `(H, W)` labels; if there are none, the one in the middle is looked at.
    """
    where: list[Any] = [slice(None)] * len(array.shape)
    values, near = [], []
    for k in few(sorted(painted), _FEW) or [int(array.shape[axis]) // 2]:
        where[axis] = int(k)
        plane = plain(array[tuple(where)])
        values.append(plane[..., ::2, ::2].ravel())
        if k in painted:
            # copies: who keeps a view keeps the slice
            near += [np.array(part) for part in near_objects(plane, painted[k])]
    known = np.concatenate(values)
    if known.dtype == bool:
        known = known.astype(np.uint8)
    if known.dtype.kind == "f":
        known = known[np.isfinite(as_float32(known))]
    if not known.size:
        return 0.0, 1.0
    low, high = spread(known)
    high = high if high > low else low + 1
    zero = zero_for(known.dtype, low, high)
    seen = range_of((as_float32(part, zero) for part in near), low - zero, high - zero)
    # they are not narrowed, as those of a single channel: it may show nothing of the objects
    return (low, high) if seen is None else (min(low, seen[0] + zero), max(high, seen[1] + zero))


def pick_channels(
    image: Any,
    channel_axis: int,
    picked: Sequence[int],
    axis: int,
    painted: Mapping[int, npt.NDArray[Any]],
    limits: Sequence[Limits] = (),
    each: Callable[[Any], Any] | None = None,
) -> Any:
    """Choose channels of an image.

    Parameters
    ----------
    image : array-like
        Three spatial axes and one of channels; basic indexing.
    channel_axis : int
        Where the channels are.
    picked : sequence of int
        One to three positions there; negative ones count from the end.
    axis : int
        Spatial axis, without that of channels, whose slices are looked at.
    painted : mapping of int to ndarray
        Painted slices, which say how bright each channel is (`limits_of`).
    limits : sequence of (float, float), optional
        How bright each is, where that is known.
    each : callable, optional
        What is done to each channel, such as bringing it to another grid.

    Returns
    -------
    array-like
        `(Z, Y, X)` of one channel, as stored, or `(Z, Y, X, 3)` float32 in 0..1 of several.

    Raises
    ------
    PromptError
        If there are no such channels, or too many.
    """
    count = int(image.shape[channel_axis])
    if not 1 <= len(picked) <= MOST_CHANNELS:
        raise PromptError(f"Choose one to {MOST_CHANNELS} channels, not {len(picked)}.")
    for one in picked:
        if not -count <= one < count:
            raise PromptError(f"There is no channel {one}: the image has {count}.")
    arrays: list[Any] = [held(image, {channel_axis: one % count}) for one in picked]
    if each is not None:
        arrays = [each(array) for array in arrays]
    if len(arrays) == 1:
        return arrays[0]
    return StackedChannels(arrays, limits or [limits_of(array, axis, painted) for array in arrays])
