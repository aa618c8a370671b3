"""Accidents of single slices: missing, ghosted, blurred, torn, shaken or overexposed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from imos_core.data.smoothing import blur


def damaged(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Damage one frame, seldom two; never the first, which is the prompt.

    Parameters
    ----------
    frames : Tensor
        `(T, C, S, S)`.
    rng : Generator
        Source of the random choices.

    Returns
    -------
    Tensor
        `(T, C, S, S)`; what was given is left as it was.
    """
    if len(frames) < 3:
        return frames
    frames = frames.clone()
    for _ in range(2 if rng.random() < 0.2 else 1):
        place = int(rng.integers(1, len(frames)))
        kind = _KINDS[rng.choice(len(_KINDS), p=_SHARES)]
        frames[place] = kind(frames[place], frames[place - 1], rng)
    return frames


def _missing(frame: Tensor, before: Tensor, rng: np.random.Generator) -> Tensor:
    """Nearly nothing there: an even grey with a trace of what should be."""
    level = float(rng.choice([0.0, rng.uniform(0, 1)]))
    return level + rng.uniform(0, 0.1) * (frame - frame.mean())


def _ghost(frame: Tensor, before: Tensor, rng: np.random.Generator) -> Tensor:
    """Shine the slice before through; a whole copy would belie the truth of this one."""
    share = rng.uniform(0.3, 0.6)
    return (1 - share) * frame + share * before


def _blurred(frame: Tensor, before: Tensor, rng: np.random.Generator) -> Tensor:
    soft = blur(frame[None], rng.uniform(1.8, 3.5))[0]
    return soft * rng.uniform(0.4, 1.1)


def _folded(frame: Tensor, before: Tensor, rng: np.random.Generator) -> Tensor:
    """Lay a dark, soft fold or a bright tear across the section."""
    height, width = frame.shape[-2:]
    angle = rng.uniform(0, np.pi)
    y = torch.linspace(-0.5, 0.5, height)[:, None]
    x = torch.linspace(-0.5, 0.5, width)
    across = y * float(np.cos(angle)) + x * float(np.sin(angle)) - rng.uniform(-0.3, 0.3)
    along = x * float(np.cos(angle)) - y * float(np.sin(angle))
    bent = across + rng.uniform(0, 0.05) * torch.sin(rng.uniform(3, 12) * along)
    band = torch.exp(-((bent / rng.uniform(0.01, 0.05)) ** 2)) * rng.uniform(0.5, 1)
    ink = float(rng.choice([0.0, 0.0, 1.0]))
    return frame + band * (ink - frame)


def _shaken(frame: Tensor, before: Tensor, rng: np.random.Generator) -> Tensor:
    """Motion during exposure: shifted copies on top of each other."""
    heading, reach = rng.uniform(0, 2 * np.pi), rng.uniform(3, 9)
    steps = np.linspace(-0.5, 0.5, 5)
    moves = [
        (round(s * reach * float(np.sin(heading))), round(s * reach * float(np.cos(heading))))
        for s in steps
    ]
    return torch.stack([frame.roll(move, (-2, -1)) for move in moves]).mean(0)


def _jumped(frame: Tensor, before: Tensor, rng: np.random.Generator) -> Tensor:
    """Lines read while something moved: bands of rows are shifted."""
    height = frame.shape[-2]
    edges = np.sort(rng.integers(0, height, 2))
    torn = frame.clone()
    shift = int(rng.choice([-1, 1]) * rng.integers(1, 5))
    torn[..., edges[0] : edges[1], :] = frame[..., edges[0] : edges[1], :].roll(shift, -1)
    return torn


def _overexposed(frame: Tensor, before: Tensor, rng: np.random.Generator) -> Tensor:
    return frame * rng.uniform(1.4, 2.2) + rng.uniform(0, 0.2)


_KINDS = (_missing, _ghost, _blurred, _folded, _shaken, _jumped, _overexposed)
_SHARES = (0.1, 0.15, 0.25, 0.2, 0.12, 0.08, 0.1)
