"""Photometric augmentation: what stains, noise, blur and drift do to real slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor


def stain(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the looks of a clip: `(T, 3, S, S)` in 0..1 in and out (not clipped).

    The same contrast for all frames, plus what changes from frame to frame in real data: gain,
    offset, noise, blur, a damaged slice.
    """
    grey = bool((frames[:, :1] == frames).all())
    if not grey and rng.random() < 0.5:
        weights = torch.tensor(rng.dirichlet([2, 3, 2]), dtype=torch.float32)
        frames = (frames * weights[:, None, None]).sum(1, keepdim=True).expand(-1, 3, -1, -1)
        grey = True
    if rng.random() < 0.6:
        gamma = float(np.exp(rng.normal(0, 0.35)))
        frames = frames.clamp(0, 1) ** gamma
    if rng.random() < 0.25:
        frames = 1 - frames
    if not grey and rng.random() < 0.8:
        gain = torch.tensor(np.exp(rng.normal(0, 0.2, 3)), dtype=torch.float32)
        frames = frames * gain[:, None, None]
    if rng.random() < 0.3:
        frames = frames * _smooth(frames.shape[-1], rng, 0.35)
    if rng.random() < 0.5:
        steps = frames.shape[0]
        gains = 1 + rng.normal(0, 0.06, steps)
        frames = frames * _per_frame(gains) + _per_frame(rng.normal(0, 0.03, steps))
    if rng.random() < 0.35:
        frames = _blur(frames, rng.uniform(0.4, 1.6))
    if rng.random() < 0.45:
        frames = frames + _noise(frames, grey, rng)
    if rng.random() < 0.06 and len(frames) > 2:
        damaged = int(rng.integers(1, len(frames)))
        frames = frames.clone()
        frames[damaged] = _blur(frames[damaged : damaged + 1], 2.5)[0] * 0.5
    return frames


def _per_frame(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None]


def _smooth(size: int, rng: np.random.Generator, depth: float) -> Tensor:
    """Return a smooth gain field around 1, `(size, size)`."""
    coarse = torch.tensor(rng.normal(0, 1, (1, 1, 4, 4)), dtype=torch.float32)
    field = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[0, 0]
    return torch.exp(depth * 0.6 * field)


def _noise(frames: Tensor, grey: bool, rng: np.random.Generator) -> Tensor:
    """Gaussian noise, white or with a grain of a few pixels, additive or speckle."""
    seed = int(rng.integers(2**31))
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if grey else 3
    steps, _, height, width = frames.shape
    noise = torch.randn((steps, channels, height, width), generator=generator)
    if rng.random() < 0.5:
        noise = _blur(noise, 0.8) * 2.5
    if rng.random() < 0.3:
        noise = noise * frames * 2
    deviation = float(frames.std()) * rng.uniform(0.03, 0.4)
    return noise * deviation


def _blur(frames: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `(T, C, S, S)`."""
    radius = max(int(np.ceil(2.5 * sigma)), 1)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = frames.shape[1]
    padded = F.pad(frames, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)
