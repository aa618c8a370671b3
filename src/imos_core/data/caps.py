"""Caps: an object of a single image grows from a small cap, or shrinks until it is gone.

In volumes most objects begin and end like a ball: the first slice shows a few pixels, the next ones
many times as many. Single images have no such slices; here the object is drawn together around its
centre, and what lies around it closes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

_SMALLEST = 1e-3


@dataclass(frozen=True)
class Caps:
    """How large an object is in every frame, and how the image follows it."""

    scales: npt.NDArray[np.float64]
    """`(T,)` size against that in the image; 0: gone."""
    centre: tuple[float, float]
    """Row and column."""
    half: tuple[float, float]
    """Half extents, rows and columns."""
    inner: float
    """Farthest pixel of the object from the centre, in half extents."""
    outer: float
    """How far the image is drawn along, in half extents."""

    def __call__(self, entry: int, grid: Tensor) -> Tensor:
        """Say what is seen in a frame, at `(..., 2)` pixels of the image, x and y first."""
        scale = float(self.scales[entry])
        centre = torch.tensor(self.centre[::-1], dtype=grid.dtype)
        away = grid - centre
        half = torch.tensor(self.half[::-1], dtype=grid.dtype)
        seen = (away / half).square().sum(-1, keepdim=True).sqrt().clamp(min=_SMALLEST)
        edge = scale * self.inner
        ring = self.inner + (seen - edge) * (self.outer - self.inner) / (self.outer - edge)
        there = torch.where(seen < edge, seen / max(scale, _SMALLEST), ring)
        return centre + away * torch.where(seen < self.outer, there / seen, 1.0)


def draw_caps(mask: npt.NDArray[np.bool_], frames: int, rng: np.random.Generator) -> Caps:
    """Draw how an object begins or ends.

    Parameters
    ----------
    mask : ndarray
        `(H, W)`, the object.
    frames : int
        Frames of the clip.
    rng : Generator
        Source of the random choices.
    """
    rows, cols = np.nonzero(mask)
    centre = (rows.min() + rows.max() + 1) / 2, (cols.min() + cols.max() + 1) / 2
    half = (np.ptp(rows) + 1) / 2, (np.ptp(cols) + 1) / 2
    far = np.hypot((rows + 0.5 - centre[0]) / half[0], (cols + 0.5 - centre[1]) / half[1]).max()
    # a ball is seen from its height: 0 where it begins, 2 where it ends
    if rng.random() < 0.75:
        start = 1 - np.sqrt(1 - rng.uniform(0.25, 0.75) ** 2)
        speed = (1 - start) / rng.uniform(4, frames + 4)
    else:
        start = rng.uniform(0.8, 1.7)
        speed = (2 - start) / rng.uniform(2, frames + 1)
    height = np.clip(start + speed * np.arange(frames), 0, 2)
    blunt = rng.uniform(0.35, 0.7)
    scales = np.clip(1 - (1 - height) ** 2, 0, 1) ** blunt
    inner = float(far) * 1.02
    outer = inner * rng.uniform(1.6, 3.0)
    return Caps(scales, (float(centre[0]), float(centre[1])), half, inner, float(outer))
