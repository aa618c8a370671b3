"""Damage: which windows show nothing of what they showed before, that comes back soon after.

A lost section, a dropped frame or a flash is one slice, black, white or of noise, on which nothing
can be found. Where a slice or two later all looks as it did before, the object has not ended: it
was not seen. A scene that changes for good, an object that goes dark and padding at the end of a
volume are no damage, as nothing of what was there before comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

SAMPLES = 32
"""Samples along each side of windows that are compared."""
FARTHEST = 3
"""Slices ahead on which what was there before may come back."""
_UNLIKE = 0.3  # a slice that correlates more with the one before shows something of it
_AGAIN = 0.6  # least correlation of what has come back ...
_AGAIN_BEHIND_FLAT = 0.35  # ... where nothing at all is to be seen in between, not even noise
_MEANWHILE = 0.5  # most of that correlation that any slice in between may have
_FLAT = 1e-3  # standard deviation of a window (0..1) that says nothing of what comes behind it ...
_FADED = 0.1  # ... and, in terms of the one before, of one that shows nothing


def likeness(before: Tensor, now: Tensor) -> Tensor:
    """Compare windows of two slices, in any light.

    Parameters
    ----------
    before : Tensor
        `(B, S, S)` intensity (0..1) of windows on the slice before; S is a multiple of `SAMPLES`.
    now : Tensor
        `(B, SAMPLES, SAMPLES)` the same windows on another slice.

    Returns
    -------
    Tensor
        `(B,)` correlation; exactly 0 where nothing is to be seen there any more, and 1 where
        nothing was before.
    """
    seen = F.adaptive_avg_pool2d(before.float()[:, None], SAMPLES).flatten(1)
    other = now.float().flatten(1)
    seen, other = (x - x.mean(1, keepdim=True) for x in (seen, other))
    spread, later = (x.square().mean(1).sqrt() for x in (seen, other))
    alike = (seen * other).mean(1) / (spread * later).clamp(min=_FLAT**3)
    alike = torch.where(later < _FADED * spread, torch.zeros_like(alike), alike)
    return torch.where(spread < _FLAT, torch.ones_like(alike), alike)


def damaged(
    alike: Sequence[float],
    ahead: Sequence[Sequence[int]],
    look: Callable[[list[int], list[int]], Sequence[float]],
) -> list[int]:
    """Find the windows that are damaged on a slice.

    Slices ahead are looked at only where the slice has nothing of the one before, one after
    the other until what was there before has come back.

    Parameters
    ----------
    alike : sequence of float
        `likeness` of each window to the slice before.
    ahead : sequence of sequence of int
        Slices that each window comes to next, at most `FARTHEST`.
    look : callable
        Takes numbers of windows, and for each one a slice ahead; returns their `likeness` to the
        slice before.

    Returns
    -------
    list of int
        Their numbers, ascending.
    """
    unlike = {i: [value] for i, value in enumerate(alike) if value <= _UNLIKE}
    found = []
    for step in range(FARTHEST):
        asked = [i for i in unlike if step < len(ahead[i])]
        if not asked:
            break
        for i, value in zip(asked, look(asked, [ahead[i][step] for i in asked]), strict=True):
            if _back(unlike[i], value):
                found.append(i)
                del unlike[i]
            else:
                unlike[i].append(value)
    return sorted(found)


def kept(now: Tensor, before: Tensor, rows: Sequence[int]) -> Tensor:
    """Let rows of a batch `(B, ...)` be as they were before; both stay as they are."""
    mixed = now.clone()
    mixed[list(rows)] = before[list(rows)].to(now.dtype)
    return mixed


def doubted(prob: Tensor) -> Tensor:
    """Probabilities of a mask that was carried over a slice where nobody could see it.

    What is probable stays so, or the mask would not; but half as sure.
    """
    return torch.where(prob > 0.5, 0.25 + prob / 2, prob)


def _back(so_far: Sequence[float], now: float) -> bool:
    """Whether a slice shows again what slices so far have not shown."""
    least = _AGAIN_BEHIND_FLAT if so_far[0] == 0 else _AGAIN
    return now > least and max(so_far) < _MEANWHILE * now
