"""Sampling: bilinear samples of planes, with edges that go on outside on every device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_at(planes: Tensor, x: Tensor, y: Tensor, *, border: bool) -> Tensor:
    """Sample planes at coordinates from -1 to 1, their outer edges.

    Parameters
    ----------
    planes : Tensor
        `(B, C, H, W)`, or `(1, C, H, W)` that serves for all.
    x, y : Tensor
        `(B, h, w)` together, as `torch.nn.functional.grid_sample` counts them without
        `align_corners`.
    border : bool
        Whether the edge is continued outside, or 0 is.

    Returns
    -------
    Tensor
        `(B, C, h, w)`.
    """
    return sample_on(planes, torch.stack(torch.broadcast_tensors(x, y), -1), border=border)


def sample_on(planes: Tensor, grid: Tensor, *, border: bool) -> Tensor:
    """Sample planes as `sample_at` does, at places `(B, h, w, 2)` of x and y."""
    padding = "border" if border else "zeros"
    if border and not _continues(planes.device):
        # the middle of the last pixel on every side: nothing outside has any weight there
        limits = 1 - 1 / grid.new_tensor(planes.shape[:-3:-1])
        padding, grid = "zeros", grid.clamp(-limits, limits)
    count, height, width = grid.shape[:3]
    if len(planes) == count:
        return F.grid_sample(planes, grid, padding_mode=padding, align_corners=False)
    # one above the other: the planes are not repeated for each
    grid = grid.reshape(1, count * height, width, 2)
    found = F.grid_sample(planes, grid, padding_mode=padding, align_corners=False)[0]
    return found.reshape(-1, count, height, width).transpose(0, 1)


def _continues(device: torch.device) -> bool:
    """Whether torch continues edges itself: on Apple's GPUs it does in its latest versions only."""
    return device.type != "mps"
