"""Thin-plate spline warps, which set single images in motion as XMem does."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

Warp: TypeAlias = "Callable[[Tensor], Tensor]"
"""Moves window coordinates `(S, S, 2)`, (x, y) in -0.5..0.5."""


_POINTS = 12  # control points, anywhere in the window
_DEVIATION = 0.02  # how far they move until the last frame, in sides of the window


def thin_plate_warps(steps: int, rng: np.random.Generator) -> list[Warp]:
    """Draw one warp per frame; the first frame rests, later ones go further.

    Parameters
    ----------
    steps : int
        Frames.
    rng : Generator
        Source of the random choices.

    Returns
    -------
    list of callable
        Each maps window coordinates `(..., 2)` to window coordinates.
    """
    places = rng.uniform(-0.5, 0.5, (_POINTS, 2))
    steady, swinging = rng.normal(0, _DEVIATION, (2, _POINTS, 2))

    def make(time: float) -> Warp:
        # a path, not a jitter: what moves in one direction does so in the next frame too
        moves = steady * time + swinging * np.sin(3 * time) * 0.5
        spline = RBFInterpolator(places, moves, kernel="thin_plate_spline")

        def warp(grid: Tensor) -> Tensor:
            flat = grid.reshape(-1, 2).double().numpy()
            field = torch.from_numpy(spline(flat)).to(grid.dtype)
            return grid + field.reshape(grid.shape)

        return warp

    return [make(t) for t in np.linspace(0, 1, steps)]
