"""Intensities as images hold them: which count, and the limits that suit them or were chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.boxes import objects_of
from imos_core.errors import ImageError
from imos_core.label_ids import ids_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

NOT_FINITE = (
    "The image holds only NaN, infinite values or numbers beyond 3e38 around the painted slices: "
    "replace them, or scale the image."
)
_MOST = float(np.finfo(np.float32).max)
_STEP = float(np.finfo(np.float32).eps)
_WHOLE = 2**24
"""Whole numbers up to this one are float32 as they are."""
_LEVELS = 2**12
"""Shades of grey between black and white that are told apart at least."""
_AROUND = 1.2
"""Side of the box around an object whose intensities have to be told apart, over its extent."""
_LEAST_BOX = 24
"""Pixels of such a box along each side, at least."""
_MOST_OBJECTS = 20
"""Objects of a slice that are looked at."""
_MOST_PIXELS = 128
"""Pixels of such a box along each side that are looked at, or up to twice as many."""


def plain(pixels: Any) -> npt.NDArray[Any]:
    """Return pixels as an array: without mask, gradient, or a type that only torch knows."""
    if isinstance(pixels, np.ma.MaskedArray):
        floats: Any = pixels.astype(np.result_type(pixels.dtype, np.float32))
        return np.asarray(floats.filled(np.nan))
    if hasattr(pixels, "detach"):
        pixels = pixels.detach().cpu()
        pixels = pixels.float() if "bfloat16" in str(pixels.dtype) else pixels
    return np.asarray(pixels)


def plain_type(array: Any) -> np.dtype[Any]:
    """Return the type that pixels of an image have once they are `plain`."""
    special = isinstance(array, np.ma.MaskedArray) or hasattr(array, "detach")
    found: np.dtype[Any] = plain(array[:0]).dtype if special else np.dtype(array.dtype)
    return found


def as_float32(plane: npt.NDArray[Any], zero: float = 0.0) -> npt.NDArray[np.float32]:
    """Return numbers as float32, counted from `zero`; what lies beyond it is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if zero:
            return (plane.astype(np.float64) - zero).astype(np.float32)
        return plane.astype(np.float32)


def zero_for(dtype: np.dtype[Any], low: float, high: float) -> float:
    """Number from which values are counted, so that float32 tells them apart between limits.

    Parameters
    ----------
    dtype : dtype
        Type of the image.
    low, high : float
        Intensities that become black and white.

    Returns
    -------
    float
        0 unless the type holds more than float32 does, and the limits are far from 0 and near to
        each other.
    """
    most = max(abs(low), abs(high))
    exact = dtype.kind in "iu" and most <= _WHOLE
    far = holds_more(dtype) and not exact and most * _STEP * _LEVELS > high - low > 0
    return low if far else 0.0


def holds_more(dtype: np.dtype[Any]) -> bool:
    """Whether a type holds numbers that float32 does not tell apart."""
    return dtype.itemsize > 4 or (dtype.kind in "iu" and dtype.itemsize == 4)


def finite(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return those values that are finite.

    Raises
    ------
    ImageError
        If none is.
    """
    found = values[np.isfinite(values)]
    if not found.size:
        raise ImageError(NOT_FINITE)
    return found


def spread(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return robust limits of values; if most are alike, the least and the greatest."""
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def near_objects(pixels: npt.NDArray[Any], painted: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield some pixels of a box around each object of a slice, or around some of many objects.

    Parameters
    ----------
    pixels : ndarray
        `(H, W)` or `(H, W, C)` intensities.
    painted : ndarray
        `(H, W)` labels.
    """
    labels = ids_on(painted)
    some = labels[:: -(-len(labels) // _MOST_OBJECTS) or 1]
    for _, _, box in objects_of(painted, some):
        side = max(_AROUND * max(s.stop - s.start for s in box), _LEAST_BOX)
        around = tuple(
            slice(max(int(middle - side / 2), 0), int(middle + side / 2) + 1)
            for middle in ((s.start + s.stop) / 2 for s in box)
        )
        step = max(int(side) // _MOST_PIXELS, 1)
        yield pixels[around][::step, ::step]


def range_of(
    parts: Iterable[npt.NDArray[np.float32]], black: float, white: float
) -> tuple[float, float] | None:
    """Robust limits that hold all parts of an image; None if nothing differs in any of them.

    What is not finite counts as it will be seen, `black` or `white`.
    """
    lows, highs = [], []
    for part in parts:
        values = np.nan_to_num(part, nan=black, posinf=white, neginf=black)
        if values.size and values.min() < values.max():
            low, high = spread(values)
            lows.append(low)
            highs.append(high)
    return (min(lows), max(highs)) if lows else None


def few(slices: list[int], least: int = 9) -> list[int]:
    """Thin out evenly, to less than twice as many: a handful says enough of all that is painted."""
    return slices[:: max(len(slices) // least, 1)]


def read_contrast(contrast: Any) -> tuple[float, float]:
    """Return limits that a person chose.

    Raises
    ------
    ImageError
        If they are no two numbers, the lower one first.
    """
    try:
        low, high = (float(limit) for limit in contrast)
    except (TypeError, ValueError):
        raise ImageError(
            f"The contrast must be two numbers, such as (0, 255), not {contrast!r}: give a lower "
            "and a higher value."
        ) from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise ImageError(
            f"The contrast limits ({low:g}, {high:g}) are no interval: give a lower and a "
            "higher value."
        )
    if max(-low, high) > _MOST:
        raise ImageError(
            f"The contrast limits ({low:g}, {high:g}) lie beyond 3e38: scale the image, and them."
        )
    return low, high
