"""Shape interpolation between painted slices: what people have without a model."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


def interpolate_shapes(
    painted: Mapping[int, npt.NDArray[np.bool_]], length: int
) -> npt.NDArray[np.bool_]:
    """Interpolate signed distances of painted masks (Raya & Udupa, 1990).

    Two masks that do not overlap are laid on each other first, as morphological contour
    interpolation does: otherwise the slices between them would be empty.

    Parameters
    ----------
    painted : mapping of int to ndarray
        Slice -> mask `(H, W)`.
    length : int
        Slices.

    Returns
    -------
    ndarray of bool
        `(length, H, W)`; empty beyond the outermost painted slices.
    """
    order = sorted(painted)
    result = np.zeros((length, *painted[order[0]].shape), bool)
    for k in order:
        result[k] = painted[k]
    for low, high in pairwise(order):
        below, above = painted[low], painted[high]
        if not (below.any() and above.any()):
            continue  # the object ends somewhere in between; nothing says where
        shift = np.zeros(2)
        if not (below & above).any():
            shift = np.argwhere(above).mean(0) - np.argwhere(below).mean(0)
        distance = _signed_distance(below), _signed_distance(above)
        for k in range(low + 1, high):
            t = (k - low) / (high - low)
            from_low = _moved(distance[0], t * shift)
            from_high = _moved(distance[1], (t - 1) * shift)
            result[k] = (1 - t) * from_low + t * from_high > 0
    return result


def _signed_distance(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    signed: npt.NDArray[np.float64] = distance_transform_edt(mask) - distance_transform_edt(~mask)
    return signed


def _moved(
    distance: npt.NDArray[np.float64], by: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Shift by whole pixels; what comes in is as far outside as the border was."""
    rows, columns = np.round(by).astype(int)
    height, width = distance.shape
    y = np.clip(np.arange(height) - rows, 0, height - 1)
    x = np.clip(np.arange(width) - columns, 0, width - 1)
    moved: npt.NDArray[np.float64] = distance[np.ix_(y, x)]
    return moved
