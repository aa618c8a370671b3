"""Frames as they are kept: in bytes, through an intensity window, all of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import numpy.typing as npt

_PERCENTILES = (0.5, 99.5)


def intensity_range(image: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Intensities that become black and white where no window is given.

    Those of bytes, or of other types that hold nothing but bytes, stay as they are; others are
    stretched between the 0.5 and 99.5 percentiles of the recording.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    values = image[:, ::2, ::2].astype(np.float32)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 255 and (values == np.trunc(values)).all():
        return 0.0, 255.0
    if low == 0 and high == 1 and image.dtype.kind in "bu":
        return 0.0, 1.0
    robust = np.percentile(values, _PERCENTILES)
    if robust[0] < robust[1]:
        low, high = float(robust[0]), float(robust[1])
    return low, max(high, low + 1e-6)


def as_frame(
    plane: npt.NDArray[Any], window: tuple[float, float], size: int
) -> npt.NDArray[np.uint8]:
    """One frame in bytes.

    Parameters
    ----------
    plane : ndarray
        `(H, W)`, or `(H, W, 3)` uint8.
    window : (float, float)
        Intensities that become 0 and 255.
    size : int
        Height and width of the result; 0: those of the plane. Averaged where it gets smaller.
    """
    if plane.dtype != np.uint8 or window != (0.0, 255.0):
        low, high = window
        scaled = np.nan_to_num((plane.astype(np.float32) - low) * (255 / (high - low)))
        plane = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    if not size or plane.shape[:2] == (size, size):
        return np.ascontiguousarray(plane)
    picture = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def as_mask(plane: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.uint8]:
    """One mask, `(H, W)`, as 0 and 1, of the same size as its frame (nearest pixel)."""
    values = plane.astype(np.uint8)
    if not size or values.shape == (size, size):
        return values
    resized = Image.fromarray(values).resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(resized)
