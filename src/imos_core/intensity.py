"""Intensities as images hold them: which count, and the limits that a person chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import ImageError

if TYPE_CHECKING:
    import numpy.typing as npt

NOT_FINITE = (
    "The image holds only NaN, infinite values or numbers beyond 3e38 around the painted slices: "
    "replace them, or scale the image."
)
_MOST = float(np.finfo(np.float32).max)


def as_float32(plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return numbers as float32; what lies beyond it is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return plane.astype(np.float32)


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
