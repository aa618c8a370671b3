"""Review: how far each predicted slice is to be trusted, and which one to look at next."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

SURE = 0.85
"""Slices of this expected Jaccard index are not worth a look."""
_DOUBTFUL = 0.001  # share of an empty slice's pixels that speak for it
_FEWEST = 16  # pixels
_SUREST = 0.999  # confidence beyond this says no more


@dataclass(frozen=True)
class Calibration:
    """How the true Jaccard index of a slice follows from its confidence and the distance.

    A logistic model: ``constant - doubt * log(1 - confidence) - distance * log(slices away)``,
    fitted to the training split with one painted slice (docs/results.md).
    """

    constant: float = -1.914
    """Log-odds one slice away, without any confidence."""
    doubt: float = 1.511
    """How much confidence counts."""
    distance: float = 0.920
    """How much distance counts."""
    empty: float = 0.879
    """Expected for a slice on which nothing was found: right if the object has ended."""

    def expected(self, confidence: float, distance: float, *, empty: bool = False) -> float:
        """Jaccard index to be expected, 0..1.

        Parameters
        ----------
        confidence : float
            As from `slice_confidence`.
        distance : float
            As from `anchor_distance`.
        empty : bool
            Whether nothing was found.
        """
        if not distance or not math.isfinite(distance):
            return 0.0 if distance else 1.0
        if empty:
            return self.empty
        doubt = self.doubt * math.log(1 - min(confidence, _SUREST))
        return 1 / (1 + math.exp(doubt + self.distance * math.log(distance) - self.constant))


CALIBRATION = Calibration()
"""That of the embedded model."""


def anchor_distance(index: int, anchors: Collection[int]) -> float:
    """How far a slice is from what a person made.

    Parameters
    ----------
    index : int
        Slice.
    anchors : collection of int
        Slices that serve as prompts.

    Returns
    -------
    float
        In slices: to the nearest anchor if all are on one side; between two of them
        ``1 / (1 / below + 1 / above)``, because both help; 0 on an anchor; infinite without any.
    """
    below = max((k for k in anchors if k <= index), default=None)
    above = min((k for k in anchors if k >= index), default=None)
    sides = [abs(index - k) for k in (below, above) if k is not None]
    if not sides:
        return math.inf
    return 0.0 if 0 in sides else 1 / sum(1 / side for side in sides)


def expected_jaccard(
    confidence: npt.ArrayLike,
    labels: npt.ArrayLike,
    distance: float,
    calibration: Calibration = CALIBRATION,
) -> float:
    """Jaccard index with the truth that the labels of one slice may be expected to have.

    Parameters
    ----------
    confidence, labels : array-like
        See `slice_confidence`.
    distance : float
        See `anchor_distance`.
    calibration : Calibration
        How both are turned into a Jaccard index.

    Returns
    -------
    float
        0..1, of the worst label; 1 at distance 0.

    Raises
    ------
    ValueError
        If the shapes differ or are not two-dimensional.
    """
    sure = slice_confidence(confidence, labels)
    return calibration.expected(sure, distance, empty=not np.any(labels))


def slice_confidence(confidence: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """How good the labels of one slice are expected to be.

    Parameters
    ----------
    confidence : array-like of float
        `(H, W)` probability of the label that each pixel got (`SegmentedSlice.confidence`).
    labels : array-like of int
        `(H, W)` labels (`SegmentedSlice.labels`), 0 is background.

    Returns
    -------
    float
        0..1. For each label the expected intersection over the expected union with the truth,
        which falls with doubt inside and along its border; the worst label counts. A slice
        without labels gets the mean of its least sure pixels.

    Raises
    ------
    ValueError
        If the shapes differ or are not two-dimensional.
    """
    sure, ids = np.asarray(confidence, np.float32), np.asarray(labels)
    if sure.shape != ids.shape or sure.ndim != 2:
        raise ValueError(
            f"Confidence of shape {sure.shape} does not fit labels of shape {ids.shape}: "
            "both must be (H, W)."
        )
    found = ids[ids != 0]
    if not found.size:
        return _empty(sure)
    names = np.unique(found)
    # dense numbers, because find_objects makes a list as long as the largest id
    dense = np.zeros(ids.shape, np.int32)
    dense[ids != 0] = np.searchsorted(names, found) + 1
    boxes = ndimage.find_objects(dense)
    return min(_expected_jaccard(sure, dense, i + 1, box) for i, box in enumerate(boxes))


def next_to_check(
    confidence: Mapping[int, float],
    anchors: Collection[int],
    *,
    sure: float = SURE,
    ends: Collection[int] = (),
) -> int | None:
    """Which slice to correct next: the one whose correction should help most.

    A correction mends its own slice, and helps those around it up to the next anchors, the more
    the nearer they are: errors are taken to grow in proportion to the distance from the anchors.
    So the slice of the lowest confidence wins if it stands alone, and the middle of a stretch that
    is doubtful throughout.

    Parameters
    ----------
    confidence : mapping of int to float
        Slice index -> 0..1, best an expected Jaccard index (`expected_jaccard`), of the
        predicted slices.
    anchors : collection of int
        Slices that a person painted, corrected or checked; they need no confidence.
    sure : float
        Slices of at least this confidence are not proposed ...
    ends : collection of int
        ... but for these, on which an object that the slice beside shows is found no more: it has
        ended there, or was lost, and all slices behind are as right or wrong.

    Returns
    -------
    int or None
        Slice index, the lower one of equals; None if every slice is an anchor or sure.
    """
    painted = sorted(set(anchors))
    slices = sorted(confidence.keys() - painted)
    best, most = None, -1.0
    for low, high, stretch in _stretches(slices, painted):
        doubtful = [k for k in stretch if confidence[k] < sure or k in ends]
        if not doubtful:
            continue
        gains = _gains(stretch, doubtful, [1 - confidence[k] for k in stretch], low, high)
        k = int(gains.argmax())
        if gains[k] > most:
            best, most = doubtful[k], float(gains[k])
    return best


def _expected_jaccard(
    sure: npt.NDArray[np.float32], ids: npt.NDArray[np.int32], label: int, box: Any
) -> float:
    """Expected intersection over expected union of one label, looking as far as its own size."""
    near = tuple(
        slice(max(s.start - (s.stop - s.start) // 2 - 2, 0), s.stop + (s.stop - s.start) // 2 + 2)
        for s in box
    )
    inside = ids[near] == label
    certain = sure[near]
    held = float(certain[inside].sum(dtype=np.float64))
    # what a pixel outside lacks may be this label's
    missed = float((1 - certain[~inside]).clip(0).sum(dtype=np.float64))
    return min(max(held / (np.count_nonzero(inside) + missed), 0.0), 1.0)


def _empty(sure: npt.NDArray[np.float32]) -> float:
    count = min(max(_FEWEST, int(sure.size * _DOUBTFUL)), sure.size)
    if not count:
        return 1.0
    least = np.partition(sure, count - 1, axis=None)[:count]
    return min(max(float(least.mean(dtype=np.float64)), 0.0), 1.0)


def _stretches(
    slices: Sequence[int], painted: Sequence[int]
) -> list[tuple[int | None, int | None, list[int]]]:
    """Slices between neighbouring anchors: `(anchor below, anchor above, slices)`."""
    edges: list[int | None] = [None, *painted, None]
    stretches = []
    for low, high in itertools.pairwise(edges):
        first = 0 if low is None else bisect_right(slices, low)
        last = len(slices) if high is None else bisect_left(slices, high)
        if first < last:
            stretches.append((low, high, list(slices[first:last])))
    return stretches


def _gains(
    stretch: Sequence[int],
    candidates: Sequence[int],
    errors: Sequence[float],
    low: int | None,
    high: int | None,
) -> npt.NDArray[np.float64]:
    """Expected gain over the stretch of correcting each candidate.

    An error is taken to grow with the distance from the anchors: `1 / (1 / below + 1 / above)`.
    """
    where, error = np.asarray(stretch, float), np.asarray(errors, float)
    below = np.zeros(len(where)) if low is None else 1 / (where - low)
    above = np.zeros(len(where)) if high is None else 1 / (high - where)
    # where nothing is painted at all, a neighbour of the correction keeps half its error
    alone = low is None and high is None
    gains = np.empty(len(candidates))
    for i, k in enumerate(candidates):
        nearness = 1 / np.maximum(np.abs(where - k), 1e-9)
        if alone:
            kept = 1 / (1 + nearness)
        else:
            # the correction takes the place of the anchor beyond it
            kept = (below + above) / (nearness + np.where(where < k, below, above))
        gains[i] = (error * (1 - kept)).sum()
    return gains
