"""Growth: which painted objects are the tip of something, that is to grow from there.

Where a volume first shows an object, that is often a few pixels large. The network, which has
nothing else to go by, carries these on as they are while the object grows to many times their
size; a push on its logits is enough to make the mask follow. But spots that are as large as they
ever get must not be pushed, nor a tip on the side where nothing is. The image tells them apart:
ahead of a tip, what lies around the painted pixels becomes like these, and behind it does not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

TINY = 25.0
"""Pixels: a larger prompt shows by itself what it is of."""
REACH = 4
"""Slices ahead, and as many behind, that are looked at."""
_FEWEST = 2  # slices ahead by which anything is told
_BESIDE = 2.0  # pixels around the object into which it would grow first ...
_AROUND = 7.0  # ... and around these, up to which there is background
_RISES = 0.6  # least change of the former ahead, in standard deviations of the latter ...
_MORE = 0.3  # ... and how much more that is than behind
_CLEAR = 2.0  # contrast in these: what stands out more is followed as it is
_NOISE = 0.008  # of intensities (0..1): what is flatter than that has no contrast
_PUSH = 1.0  # added to logits of what has a pixel ...
_GROWN = 240.0  # pixels: ... less of what is larger, and nothing from here on


def begins(
    mask: Tensor, painted: Tensor, ahead: Tensor, behind: Tensor, samples: tuple[float, float]
) -> bool:
    """Whether an object begins on the painted slice, by what lies around it ahead and behind.

    Parameters
    ----------
    mask : Tensor
        `(S, S)` bool, what is painted, in its window.
    painted : Tensor
        `(S, S)` intensity (0..1) of that slice.
    ahead, behind : Tensor
        `(n, S, S)` the same of up to `REACH` slices on either side; behind the first slice, none.
    samples : (float, float)
        Samples per pixel along rows and columns.
    """
    beside = _grown(mask, _BESIDE, samples)
    around = _grown(mask, _AROUND, samples) & ~beside
    beside = beside & ~mask
    if len(ahead) < _FEWEST or not beside.any() or not around.any():
        return False
    contrast = painted[mask].mean() - painted[around].mean()
    unit = torch.where(contrast < 0, -1.0, 1.0) / (painted[around].std() + _NOISE)

    def change(slices: Tensor) -> float:
        if not len(slices):
            return 0.0
        # one slice that is quite different is not to decide
        return float(((slices[:, beside].mean(1) - painted[beside].mean()) * unit).median())

    rises = change(ahead)
    unclear = float(contrast * unit) < _CLEAR
    return unclear and rises > _RISES and rises > change(behind) + _MORE


def push(grown: float) -> float:
    """What is added to the logits of something by the pixels of its largest mask so far.

    Once that is large, it may dwindle and end like all else.
    """
    return _PUSH * min(max(1 - math.log(max(grown, 1.0)) / math.log(_GROWN), 0.0), 1.0)


def _grown(mask: Tensor, pixels: float, samples: tuple[float, float]) -> Tensor:
    """Samples within so many pixels of a mask `(S, S)`, along rows and columns."""
    rows, cols = (max(round(pixels * n), 1) for n in samples)
    grown = mask[None].float()
    # one after the other: a square of hundreds of samples takes ten times as long
    grown = F.max_pool2d(grown, (2 * rows + 1, 1), 1, (rows, 0))
    grown = F.max_pool2d(grown, (1, 2 * cols + 1), 1, (0, cols))
    return grown[0] > 0
