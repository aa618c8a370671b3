"""Gaussian blur of clips."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def blur(frames: Tensor, sigma: float) -> Tensor:
    """Blur `(T, C, S, S)` by a Gaussian of `sigma` pixels; the border is continued."""
    radius = max(int(np.ceil(2.5 * sigma)), 1)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    # channels as frames: a grouped convolution is slower
    planes = frames.reshape(-1, 1, *frames.shape[-2:])
    height, width = frames.shape[-2:]
    mode = "replicate" if min(height, width) > 1 else "constant"
    padded = F.pad(planes, (radius,) * 4, mode=mode)
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1)).reshape(frames.shape)
