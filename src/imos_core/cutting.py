"""Cutting: windows sampled from slices at the network's working size, and pasted back.

Pixel coordinates are those of `imos_core.windows`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from imos_core.sampling import sample_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from imos_core.windows import Window


def window_lines(
    window: Window, size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pixel coordinates of a window's `size` samples: rows `(h,)` and columns `(w,)`."""
    y = window.y + window.height * _samples(size[0], device)
    x = window.x + window.width * _samples(size[1], device)
    return y, x


def window_grid(window: Window, size: tuple[int, int], device: torch.device) -> Tensor:
    """Pixel coordinates (x, y) of a window's `size` samples, `(h, w, 2)`."""
    y, x = window_lines(window, size, device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def sample(plane: Tensor, grid: Tensor, *, border: bool) -> Tensor:
    """Sample `(C, H, W)` at pixel coordinates (x, y) `(h, w, 2)`: `(C, h, w)`.

    Bilinear; where samples are further apart than pixels, pixels are averaged first.

    Parameters
    ----------
    plane : Tensor
        Image or mask.
    grid : Tensor
        Coordinates.
    border : bool
        Whether the edge is continued outside the plane (images) or 0 is (masks).
    """
    rows = float((grid[1, 0] - grid[0, 0]).norm()) if grid.shape[0] > 1 else 1.0
    cols = float((grid[0, 1] - grid[0, 0]).norm()) if grid.shape[1] > 1 else 1.0
    x, y = grid[None].unbind(-1)
    return _sampled(plane, x, y, (_factor(rows), _factor(cols)), border, (0, 0))[0]


def sample_lines(
    plane: Tensor,
    lines: tuple[Tensor, Tensor],
    factors: tuple[int, int],
    *,
    border: bool,
    origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Sample `(C, H, W)` where rows and columns meet: `(C, h, w)`; a GPU is not waited for.

    Parameters
    ----------
    plane : Tensor
        Image or mask, or a part of it.
    lines : (Tensor, Tensor)
        Rows `(h,)` and columns `(w,)`, as from `window_lines`.
    factors : (int, int)
        Rows and columns of pixels that are averaged first, as `sampling_factor` says.
    border : bool
        See `sample`.
    origin : (int, int)
        Row and column where the part begins.
    """
    y, x = lines
    return _sampled(plane, x[None, None], y[None, :, None], factors, border, origin)[0]


def as_tensor(windows: Sequence[Window], device: torch.device) -> Tensor:
    """Centres and sides of windows, `(B, 4)` as `Window` has them: sent as one tensor."""
    sides = [(w.y, w.x, w.height, w.width) for w in windows]
    return torch.tensor(sides, dtype=torch.float32, device="cpu").to(device)


def sample_windows(
    plane: Tensor,
    windows: Tensor,
    size: tuple[int, int],
    factors: tuple[int, int],
    origin: tuple[int, int],
) -> Tensor:
    """Sample several windows of an image in one go: `(B, C, h, w)`; edges are continued.

    Parameters
    ----------
    plane : Tensor
        `(C, H, W)`, the part of a slice that begins at `origin` and holds their `sampling_box`.
    windows : Tensor
        `(B, 4)`, as `as_tensor` gives them.
    size : (int, int)
        Rows and columns of the result.
    factors : (int, int)
        Their common `sampling_factor`.
    origin : (int, int)
        Row and column where the part begins.
    """
    device = plane.device
    y, x, height, width = windows.unbind(1)
    rows = y[:, None] + height[:, None] * _samples(size[0], device)
    cols = x[:, None] + width[:, None] * _samples(size[1], device)
    return _sampled(plane, cols[:, None, :], rows[:, :, None], factors, True, origin)


def sampling_factor(window: Window, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of pixels that are averaged before the window is sampled."""
    rows = _factor(window.height / size[0]) if size[0] > 1 else 1
    return rows, _factor(window.width / size[1]) if size[1] > 1 else 1


def sampling_box(
    windows: Sequence[Window], shape: tuple[int, int], size: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns of a slice of `shape` that sampling the windows looks at."""
    factors = sampling_factor(windows[0], size)
    box = []
    for length, factor, sides in (
        (shape[0], factors[0], [(w.y - w.height / 2, w.y + w.height / 2) for w in windows]),
        (shape[1], factors[1], [(w.x - w.width / 2, w.x + w.width / 2) for w in windows]),
    ):
        # one averaged pixel more on either side; blocks begin where those of the slice do
        first = np.floor(min(s[0] for s in sides) / factor) - 1
        last = np.ceil(max(s[1] for s in sides) / factor) + 1
        start = int(np.clip(first * factor, 0, (length - 1) // factor * factor))
        stop = int(np.clip(last * factor, start + 1, length))
        box.append(slice(start, stop))
    return box[0], box[1]


def _factor(step: float) -> int:
    return round(step) if step > 1.5 else 1


def _sampled(
    plane: Tensor,
    x: Tensor,
    y: Tensor,
    factors: tuple[int, int],
    border: bool,
    origin: tuple[int, int],
) -> Tensor:
    """Sample `(C, H, W)` at x and y that make `(B, h, w)` together: `(B, C, h, w)`."""
    if factors != (1, 1):
        plane = F.avg_pool2d(plane[None], factors, ceil_mode=True, count_include_pad=False)[0]
    # with plain numbers: tensors would have to be sent
    x = 2 * (x - origin[1]) / (plane.shape[2] * factors[1]) - 1
    y = 2 * (y - origin[0]) / (plane.shape[1] * factors[0]) - 1
    return sample_at(plane[None], x, y, border=border)


def paste(
    prob: Tensor, window: Window, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], Tensor]:
    """Bring a window's probabilities back to the slice.

    Parameters
    ----------
    prob : Tensor
        `(n, h, w)`.
    window : Window
        Where they belong.
    shape : (int, int)
        Height and width of the slice.

    Returns
    -------
    box : (slice, slice)
        Rows and columns of the slice that the window covers.
    patch : Tensor
        `(n, rows, columns)`.
    """
    top = max(int(np.floor(window.y - window.height / 2)), 0)
    left = max(int(np.floor(window.x - window.width / 2)), 0)
    bottom = min(int(np.ceil(window.y + window.height / 2)), shape[0])
    right = min(int(np.ceil(window.x + window.width / 2)), shape[1])
    device, size = prob.device, (prob.shape[-2], prob.shape[-1])
    y = torch.arange(top, bottom, dtype=torch.float32, device=device) + 0.5
    x = torch.arange(left, right, dtype=torch.float32, device=device) + 0.5
    factors = _factor(size[0] / window.height), _factor(size[1] / window.width)
    patch = sample_lines(prob, _cells(window, (y, x), size), factors, border=True)
    return (slice(top, bottom), slice(left, right)), patch


def move_features(features: Tensor, old: Window, new: Window) -> Tensor:
    """Resample features `(C, h, w)` of one window to the geometry of another; 0 outside."""
    size = (features.shape[-2], features.shape[-1])
    lines = _cells(old, window_lines(new, size, features.device), size)
    factors = _factor(new.height / old.height), _factor(new.width / old.width)
    return sample_lines(features.float(), lines, factors, border=False).to(features.dtype)


def _cells(
    window: Window, lines: tuple[Tensor, Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Rows and columns of the slice as those of a window's array of `size`."""
    y = (lines[0] - window.y + window.height / 2) * (size[0] / window.height)
    x = (lines[1] - window.x + window.width / 2) * (size[1] / window.width)
    return y, x


@lru_cache(maxsize=16)  # some ten are asked for in every slice, always the same
def _samples(count: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # who asks next may be training
        return (torch.arange(count, dtype=torch.float32, device=device) + 0.5) / count - 0.5
