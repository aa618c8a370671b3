"""Rough prompts: objects painted as people paint them, beside their contour here and there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    import numpy.typing as npt

_WAVES = 6  # hills and valleys of a contour's deviation along each side of the image


def roughen(
    mask: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    strays: float,
) -> npt.NDArray[np.bool_]:
    """Move the contour of an object in and out, smoothly and at random.

    Parameters
    ----------
    mask : ndarray of bool
        `(H, W)`.
    rng : Generator
        Source of the random choices.
    strays : float
        How far the contour strays, on average (standard deviation), in radii of a disc of the
        object's area.

    Returns
    -------
    ndarray of bool
        `(H, W)`; as it was where nothing would be left.
    """
    outward = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    outward -= 0.5 * np.sign(outward)  # distances jump from -1 to 1 where the contour is
    radius = float(np.sqrt(mask.sum() / np.pi))
    hills = rng.normal(0, 1, (_WAVES + 1, _WAVES + 1))
    places = [np.linspace(0, _WAVES, length) for length in mask.shape]
    field = ndimage.map_coordinates(hills, np.meshgrid(*places, indexing="ij"), order=3)
    found: npt.NDArray[np.bool_] = outward < radius * strays * field
    return found if found.any() else mask
