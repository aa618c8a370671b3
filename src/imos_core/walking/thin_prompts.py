"""Which samples of a window an object fills that somebody painted, however thin it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def filled(seen: Tensor, samples: float) -> Tensor:
    """Return 1 for samples that are filled by half, else 0.

    What is thinner than a sample fills none by half: as many as it has the area of, then.

    Parameters
    ----------
    seen : Tensor
        `(S, S)` share of every sample that an object fills.
    samples : float
        Area of the object, in samples.
    """
    count = min(max(round(samples), 1), seen.numel())
    most = seen.flatten().topk(count).values
    # if not even half of them are filled by half
    faint = most[(count - 1) // 2] <= 0.5
    cut = torch.where(faint, 0.999 * most[-1], 0.5)
    return (seen > cut).float()
