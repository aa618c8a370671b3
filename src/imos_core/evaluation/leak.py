"""Leak: what a method segments on slices where the object is no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class Leak(NamedTuple):
    """What is found beyond the ends of one object."""

    area: float
    """Mean area found there, as a share of the object's largest true area."""
    share: float
    """Share of those slices that are not empty."""
    slices: int
    """Number of those slices."""


def leak(pred: npt.ArrayLike, truth: npt.ArrayLike) -> Leak | None:
    """Measure false positives on the slices before an object's first and after its last one.

    Parameters
    ----------
    pred, truth : array-like of bool
        `(T, H, W)` of one object.

    Returns
    -------
    Leak or None
        None if the object is in the first and the last slice, so that there is nowhere to leak.
        Slices that it misses in between do not count: it has not ended there.

    Raises
    ------
    ValueError
        If the shapes differ or the truth is empty.
    """
    a, b = np.asarray(pred, bool), np.asarray(truth, bool)
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"Masks of shapes {a.shape} and {b.shape} cannot be compared.")
    areas = np.count_nonzero(b, axis=(1, 2))
    present = np.nonzero(areas)[0]
    if not len(present):
        raise ValueError("The truth is empty: there is no object that could end.")
    beyond = np.r_[0 : present[0], present[-1] + 1 : len(b)].astype(int)
    if not len(beyond):
        return None
    found = np.count_nonzero(a[beyond], axis=(1, 2))
    return Leak(float(found.mean() / areas.max()), float((found > 0).mean()), len(beyond))
