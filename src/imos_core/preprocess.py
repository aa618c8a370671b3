"""Intensities: from raw slices to the numbers that the network was trained on."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from imos_core.errors import ImageError, PromptWarning
from imos_core.intensity import (
    NOT_FINITE,
    as_float32,
    few,
    finite,
    holds_more,
    near_objects,
    range_of,
    read_contrast,
    spread,
    zero_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from imos_core.sweep import Sweep

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CONSTANT = (
    "The image is constant around the painted slices, where there is nothing to follow: check that "
    "the right image is chosen."
)
_REST = (
    "The image is constant around the painted slices, but for NaN, infinite values and numbers "
    "beyond 3e38: scale it, or give contrast limits."
)


_BEYOND = 2.0
"""How far limits may lie beyond the intensities there, as a multiple of their range."""


def intensity_window(
    sweep: Sweep,
    anchors: Iterable[int],
    contrast: Sequence[float] | npt.NDArray[Any] | None,
    painted: Mapping[int, npt.NDArray[Any]] | None = None,
) -> tuple[float, float]:
    """Intensities that become black and white, counted from the sweep's `zero`, which is set here.

    What lies around the objects is told apart, whatever else is on their slices: a wide margin that
    holds nothing, or something far brighter than all the rest.

    Parameters
    ----------
    sweep : Sweep
        Slices.
    anchors : iterable of int
        Painted slices; without `contrast` the 0.5 and 99.5 percentiles of their neighbourhood
        are taken.
    contrast : sequence of float or None
        Limits chosen by the person.
    painted : mapping of int to ndarray, optional
        Painted slices, `(H, W)` labels, if objects are looked at in windows.

    Raises
    ------
    ImageError
        If the limits are no interval, or the neighbourhood of the anchors holds nothing finite, or
        nothing else that differs.

    Warns
    -----
    PromptWarning
        If it is constant, and nobody has chosen limits.
    """
    if contrast is not None:
        low, high = read_contrast(contrast)
        if zero_for(np.dtype(np.float64), low, high):  # or else no slice is read for it
            sweep.zero = zero_for(sweep.raw(min(anchors)).dtype, low, high)
            low, high = low - sweep.zero, high - sweep.zero
        _check_seen(sweep, few(sorted(anchors)))
        return low, high
    beside = sorted({min(max(a + d, 0), len(sweep) - 1) for a in anchors for d in (-2, 0, 2)})
    raw = np.concatenate([sweep.raw(i)[::2, ::2].ravel() for i in few(beside)])
    seen = as_float32(raw)
    values = finite(seen)
    if holds_more(raw.dtype):
        sweep.zero = zero_for(raw.dtype, *spread(raw[np.isfinite(seen)].astype(np.float64)))
        values = finite(as_float32(raw, sweep.zero))
    low, high = spread(values)
    if not low < high:
        if values.size < seen.size:
            raise ImageError(_REST)
        warnings.warn(_CONSTANT, PromptWarning, stacklevel=3)
        return low, low + max(abs(low), 1.0)
    if painted is None:
        return low, high
    near = (part for k in few(sorted(painted)) for part in near_objects(sweep.frame(k), painted[k]))
    return _suited(low, high, range_of(near, low, high))


def _suited(low: float, high: float, seen: tuple[float, float] | None) -> tuple[float, float]:
    """Limits that hold what is seen around objects, and do not go far beyond that."""
    if seen is None:
        return low, high
    least, most = seen
    room = _BEYOND * (most - least)
    return min(least, max(low, least - room)), max(most, min(high, most + room))


def _check_seen(sweep: Sweep, slices: Iterable[int]) -> None:
    """Refuse slices of which none holds anything finite; one is in memory at a time."""
    if not any(np.isfinite(sweep.frame(i)).any() for i in slices):
        raise ImageError(NOT_FINITE)


def to_unit(plane: Tensor, limits: tuple[float, float]) -> Tensor:
    """Map a slice `(H, W)` or `(H, W, 3)`, float32, to `(3, H, W)` in 0..1.

    What is NaN, as the surroundings of masked volumes are, becomes 0.
    """
    low, high = limits
    plane = plane[None] if plane.ndim == 2 else plane.permute(2, 0, 1)
    plane = ((plane - low) / (high - low)).clamp(0, 1).nan_to_num_(0.0)
    return plane.expand(3, -1, -1)


def normalise(frames: Tensor, rule: str) -> Tensor:
    """Normalise `(..., 3, H, W)` in 0..1.

    Parameters
    ----------
    frames : Tensor
        Intensities.
    rule : str
        ``"imagenet"``: fixed mean and deviation (XMem). ``"zscore"``: mean 0 and deviation 1 of
        each frame and channel (iMOS).
    """
    if rule == "zscore":
        few = min(frames.shape[-2] * frames.shape[-1] - 1, 1)  # one pixel deviates by 0, not NaN
        std, mean = torch.std_mean(frames, dim=(-2, -1), correction=few, keepdim=True)
        return (frames - mean) / (std + 1e-5)
    mean = frames.new_tensor(_IMAGENET_MEAN)[:, None, None]
    std = frames.new_tensor(_IMAGENET_STD)[:, None, None]
    return (frames - mean) / std
