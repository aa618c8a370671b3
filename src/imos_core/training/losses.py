"""Bootstrapped cross entropy and dice (XMem, supplementary material)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

_HARDEST = 0.15


def bootstrapped_cross_entropy(
    logits: Tensor, target: Tensor, iteration: int, start: int, end: int
) -> tuple[Tensor, float]:
    """Cross entropy over the hardest pixels, whose share shrinks from all to 15 %.

    Parameters
    ----------
    logits : Tensor
        `(B, C, H, W)`, background first.
    target : Tensor
        `(B, H, W)` int64 class of each pixel.
    iteration, start, end : int
        All pixels count until `start`; from `end` on the hardest 15 % do.

    Returns
    -------
    loss : Tensor
        Scalar.
    fraction : float
        Share of pixels that counted.
    """
    pixels = F.cross_entropy(logits, target, reduction="none").flatten()
    if iteration < start:
        return pixels.mean(), 1.0
    if iteration >= end:
        fraction = _HARDEST
    else:
        fraction = _HARDEST + (1 - _HARDEST) * (end - iteration) / (end - start)
    count = max(int(pixels.numel() * fraction), 1)
    return pixels.topk(count, sorted=False).values.mean(), fraction


def dice_loss(prob: Tensor, target: Tensor) -> Tensor:
    """One minus the soft dice coefficient, mean over batch and objects.

    Parameters
    ----------
    prob : Tensor
        `(B, n, H, W)` probabilities without background.
    target : Tensor
        `(B, H, W)` object number of each pixel, 0 for background, 1..n for objects.
    """
    numbers = torch.arange(1, prob.shape[1] + 1, device=prob.device)
    truth = (target[:, None] == numbers[:, None, None]).to(prob.dtype).flatten(2)
    mask = prob.flatten(2)
    numerator = 2 * (mask * truth).sum(-1) + 1
    denominator = mask.sum(-1) + truth.sum(-1) + 1
    return (1 - numerator / denominator).mean()
