"""Region and boundary scores of binary masks, as DAVIS 2017 defines them."""

from __future__ import annotations

from math import ceil, hypot
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

import numpy as np
from scipy import ndimage

from imos_core.boxes import box_of, widened
from imos_core.errors import PromptError
from imos_core.whole_numbers import whole_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

_TOLERANCE = 0.008  # of the diagonal


class Scores(NamedTuple):
    """Means over the frames of one object."""

    j: float
    """Region score (Jaccard index)."""
    f: float
    """Boundary score."""
    mean: float
    """J&F, the mean of both."""


def jaccard(pred: npt.ArrayLike, truth: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Region score J: intersection over union.

    Parameters
    ----------
    pred, truth : array-like of bool
        `(..., H, W)`.

    Returns
    -------
    ndarray
        `(...)`; 1 where both are empty.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, b = _pair(pred, truth)
    both = np.count_nonzero(a & b, axis=(-2, -1)).astype(float)
    either = np.count_nonzero(a | b, axis=(-2, -1)).astype(float)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def boundary_f(
    pred: npt.ArrayLike, truth: npt.ArrayLike, tolerance: float = _TOLERANCE
) -> npt.NDArray[np.float64]:
    """Boundary score F: harmonic mean of precision and recall of contour pixels.

    Parameters
    ----------
    pred, truth : array-like of bool
        `(..., H, W)`.
    tolerance : float
        Distance within which contours agree: share of the diagonal, or pixels if 1 or more.

    Returns
    -------
    ndarray
        `(...)`; 1 where both have no contour.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, b = _pair(pred, truth)
    if not a.size:
        return np.ones(a.shape[:-2])
    height, width = a.shape[-2:]
    radius = reach_of(a.shape, tolerance)
    flat = zip(a.reshape(-1, height, width), b.reshape(-1, height, width), strict=True)
    scores = [_boundary_f(x, y, radius) for x, y in flat]
    return np.asarray(scores, float).reshape(a.shape[:-2])


def reach_of(shape: Sequence[int], tolerance: float = _TOLERANCE) -> float:
    """Return the distance in pixels within which contours agree, see `boundary_f`.

    Parameters
    ----------
    shape : sequence of int
        `(..., H, W)`.
    tolerance : float
        Share of the diagonal, or pixels if 1 or more.
    """
    return tolerance if tolerance >= 1 else ceil(tolerance * hypot(*shape[-2:]))


def j_and_f(
    pred: npt.ArrayLike,
    truth: npt.ArrayLike,
    skip: SupportsIndex | Iterable[SupportsIndex] = (),
) -> Scores:
    """Mean scores of one object over a sequence.

    Parameters
    ----------
    pred, truth : array-like of bool
        `(T, H, W)`.
    skip : int or iterable of int
        Frames that do not count (anchors); negative ones count from the end.

    Returns
    -------
    Scores
        NaN where no frame counts.

    Raises
    ------
    ValueError
        If the shapes differ.
    PromptError
        If a frame that does not count is not there.
    """
    a, b = _pair(pred, truth)
    kept = counted(len(a), skip)
    if not kept:
        return Scores(float("nan"), float("nan"), float("nan"))
    j, f = float(jaccard(a[kept], b[kept]).mean()), float(boundary_f(a[kept], b[kept]).mean())
    return Scores(j, f, (j + f) / 2)


def counted(length: int, skip: SupportsIndex | Iterable[SupportsIndex]) -> list[int]:
    """Return the frames that count.

    Parameters
    ----------
    length : int
        Frames.
    skip : int or iterable of int
        Those that do not count; negative ones count from the end.

    Raises
    ------
    PromptError
        If one of these is no frame.
    """
    without = whole_numbers(skip, "slices to skip")
    if outside := sorted(k for k in without if not -length <= k < length):
        raise PromptError(f"Slice {outside[0]} is not there: slices are 0 to {length - 1}.")
    left_out = {k % length for k in without}
    return [k for k in range(length) if k not in left_out]


def _pair(
    pred: npt.ArrayLike, truth: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    a, b = np.asarray(pred, bool), np.asarray(truth, bool)
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"Masks of shapes {a.shape} and {b.shape} cannot be compared.")
    return a, b


def _contour(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels that differ from their right, lower or lower right neighbour in the image."""
    contour = np.zeros_like(mask)
    contour[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    contour[:-1] |= mask[:-1] ^ mask[1:]
    contour[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return contour


def _boundary_f(pred: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], radius: float) -> float:
    either = box_of(pred | truth)
    if either is None:
        return 1.0
    # contours lie within one pixel of the masks, so nothing is lost by looking there only
    box = widened(either, 1)
    a, b = _contour(pred[box]), _contour(truth[box])
    count_a, count_b = np.count_nonzero(a), np.count_nonzero(b)
    if not count_a or not count_b:
        return float(count_a == count_b)
    precision = np.count_nonzero(a & _near(b, radius)) / count_a
    recall = np.count_nonzero(b & _near(a, radius)) / count_b
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def _near(contour: npt.NDArray[np.bool_], radius: float) -> npt.NDArray[np.bool_]:
    """Pixels within `radius` of a contour pixel."""
    near: npt.NDArray[np.bool_] = ndimage.distance_transform_edt(~contour) <= radius
    return near
