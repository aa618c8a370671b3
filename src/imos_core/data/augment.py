"""Photometric augmentation: what scanners, microscopes and cameras do to real slices.

Effects come in the order of the world: the scene, the optics, the sensor, the display, the file,
and then accidents that befall single slices. The first frame is the prompt: accidents spare it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imos_core.data.damage import damaged
from imos_core.data.smoothing import blur

if TYPE_CHECKING:
    import numpy.typing as npt

Effect: TypeAlias = Callable[[Tensor, np.random.Generator], Tensor]
"""Changes a clip `(T, C, S, S)`, C being 1 or 3, without changing the tensor that it got."""


def stain(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the looks of a clip.

    The same contrast for all frames, plus what changes from frame to frame in real data: drift of
    gain and offset, noise, focus, damaged slices.

    Parameters
    ----------
    frames : Tensor
        `(T, 3, S, S)` in 0..1.
    rng : Generator
        Source of the random choices.

    Returns
    -------
    Tensor
        `(T, 3, S, S)` in 0..1; grey clips stay grey.
    """
    grey = bool((frames[:, :1] == frames).all())
    planes = frames[:, :1] if grey else frames  # one channel costs a third of three
    if not grey and rng.random() < 0.4:
        planes = _mixed_to_grey(planes, rng)
    for chance, effect in _EFFECTS:
        if rng.random() < chance:
            planes = effect(planes, rng)
    return planes.clamp(0, 1).expand(-1, 3, -1, -1)


def _mixed_to_grey(frames: Tensor, rng: np.random.Generator) -> Tensor:
    weights = torch.tensor(rng.dirichlet([2, 3, 2]), dtype=torch.float32)
    return torch.einsum("c,tcyx->tyx", weights, frames)[:, None]


def _recolour(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Other stains and lamps: hue, saturation, and a gain per channel."""
    if frames.shape[1] == 1:
        return frames
    angle = rng.normal(0, 0.35) if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi)
    # turn about the grey axis (Rodrigues), with a saturation that differs from 1
    axis = np.full(3, 3**-0.5)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * 3**-0.5
    onto = np.outer(axis, axis)
    turn = np.cos(angle) * (np.eye(3) - onto) + np.sin(angle) * cross
    matrix = onto + np.exp(rng.normal(0, 0.35)) * turn
    matrix = np.exp(rng.normal(0, 0.15, 3))[:, None] * matrix
    mix = torch.tensor(matrix, dtype=torch.float32)
    return torch.einsum("dc,tcyx->tdyx", mix, frames).clamp(0, 1.2)


def _speculars(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Small bright highlights that wander; more of them on colour."""
    steps, _, height, width = frames.shape
    count = int(rng.integers(1, 9 if frames.shape[1] == 3 else 4))
    start, speed = rng.uniform(0, 1, (2, 1, count)), rng.normal(0, 0.03, (2, 1, count))
    place = start + speed * np.arange(steps)[None, :, None]
    place += rng.normal(0, 0.01, (2, steps, count))
    size = np.exp(rng.uniform(np.log(0.006), np.log(0.04), (2, 1, count)))
    rows, columns = (
        torch.exp(
            -0.5
            * _square(
                (torch.linspace(0, 1, n) - _tensor(place[a])[..., None])
                / _tensor(size[a])[..., None]
            )
        )
        for a, n in ((0, height), (1, width))
    )
    shine = _tensor(rng.uniform(0.2, 1.0, (steps, count)))[..., None]
    light = torch.einsum("tky,tkx->tyx", rows * shine, columns)
    return frames + light[:, None]


def _shade(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Uneven light or coil sensitivity, which may change along the clip."""
    steps, _, height, width = frames.shape
    coarse = rng.normal(0, 1, (2, 1, 4, 4))
    ends = F.interpolate(_tensor(coarse), (height, width), mode="bicubic", align_corners=True)
    change = rng.uniform(0, 0.8) if rng.random() < 0.4 else 0.0
    share = torch.linspace(0, 1, steps)[:, None, None, None] * change
    field = ends[:1] if not change else ends[:1] * (1 - share) + ends[1:] * share
    return frames * torch.exp(rng.uniform(0.05, 0.35) * field)


def _defocus(frames: Tensor, rng: np.random.Generator) -> Tensor:
    return blur(frames, rng.uniform(0.4, 1.6))


def _hunt_focus(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Focus that comes and goes from frame to frame, least in the prompt."""
    soft = blur(frames, rng.uniform(0.8, 2.2))
    share = np.clip(rng.normal(0.3, 0.4, len(frames)), 0, 1)
    share[0] *= 0.3
    return frames + _per_frame(share) * (soft - frames)


def _thicken(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Thick slices: every one shows something of its neighbours."""
    if len(frames) < 2:
        return frames
    before = torch.cat([frames[:1], frames[:-1]])
    after = torch.cat([frames[1:], frames[-1:]])
    share = rng.uniform(0.1, 0.5)
    return (1 - share) * frames + share / 2 * (before + after)


def _coarsen(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Fewer pixels along one axis (anisotropy) or both, spread to the old number."""
    height, width = frames.shape[-2:]
    factor = rng.uniform(0.3, 0.75)
    rows, columns = ((1, 0), (0, 1), (1, 1))[rng.integers(3)]
    small = (
        max(int(height * factor), 8) if rows else height,
        max(int(width * factor), 8) if columns else width,
    )
    how = ("nearest-exact", "bilinear")[rng.integers(2)]
    low = F.interpolate(frames, small, mode="area")
    return F.interpolate(low, (height, width), mode=how)


def _noise(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise of sensors: white or grainy, additive, of photons, speckle, or Rician."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    noise = torch.randn(frames.shape, generator=generator)
    grainy = rng.random() < 0.4
    if grainy:
        noise = blur(noise, 0.8) * 2.8  # of variance 1 again
    deviation = float(frames.std()) * np.exp(rng.uniform(np.log(0.03), np.log(0.45)))
    level = deviation * np.exp(rng.normal(0, 0.15, len(frames)))  # not the same in every frame
    noise = noise * _per_frame(level)
    kind = rng.random()
    if kind < 0.4:
        return frames + noise
    if kind < 0.6:  # photons
        return frames + noise * (1.6 * frames.clamp_min(0)).sqrt()
    if kind < 0.8:  # speckle
        return frames * (1 + 2 * noise)
    other = torch.randn(frames.shape, generator=generator) * _per_frame(level)
    return torch.hypot(frames + noise, other)


def _stripe(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Rows or columns of uneven gain, as detectors, knives and curtaining leave them."""
    steps, _, height, width = frames.shape
    along = bool(rng.integers(2))
    lines = rng.normal(0, 1, (1 if rng.random() < 0.5 else steps, 1, height if along else width))
    lines = lines * (rng.random(lines.shape) < rng.uniform(0.1, 1))
    bands = _tensor(lines * rng.uniform(0.01, 0.08))[..., None]
    return frames + (bands if along else bands.transpose(-1, -2))


def _gamma(frames: Tensor, rng: np.random.Generator) -> Tensor:
    return frames.clamp(0, 1) ** float(np.exp(rng.normal(0, 0.35)))


def _narrow_window(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Display window narrower or wider than the range."""
    low, high = rng.uniform(-0.3, 0.2), rng.uniform(0.75, 1.3)
    return ((frames - low) / (high - low)).clamp(0, 1)


def _invert(frames: Tensor, rng: np.random.Generator) -> Tensor:
    return 1 - frames


def _drift(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Gain and offset that wander and jump, and a contrast that fades or grows along the clip."""
    steps = len(frames)
    time = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    trend = rng.normal(0, 0.15) if rng.random() < 0.4 else 0.0
    gain = np.exp(rng.normal(0, 0.06, steps) + trend * time)
    offset = rng.normal(0, 0.03, steps) + rng.normal(0, 0.05) * time
    if rng.random() < 0.3:
        middle = frames.mean((1, 2, 3), keepdim=True)
        contrast = np.exp(rng.normal(0, 0.35) * time)
        frames = middle + (frames - middle) * _per_frame(contrast)
    return frames * _per_frame(gain) + _per_frame(offset)


def _compress(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Blocks of JPEG and video: coarse cosine coefficients of 8 x 8 pixels."""
    steps, channels, height, width = frames.shape
    if height % 8 or width % 8:
        return frames
    k, n = np.arange(8)[:, None], np.arange(8)
    basis = np.cos(np.pi * (2 * n + 1) * k / 16) * np.where(k == 0, 0.125**0.5, 0.5)
    cosine = _tensor(basis)
    step = rng.uniform(0.03, 0.18) * _tensor(0.3 + (k + n) / 5)  # details are stored coarsest
    blocks = frames.reshape(steps, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    stored = torch.round(cosine @ blocks @ cosine.T / step) * step
    restored = cosine.T @ stored @ cosine
    return restored.transpose(3, 4).reshape(frames.shape)


_EFFECTS: tuple[tuple[float, Effect], ...] = (
    (0.7, _recolour),
    (0.08, _speculars),
    (0.3, _shade),
    (0.08, _thicken),
    (0.3, _defocus),
    (0.08, _hunt_focus),
    (0.1, _coarsen),
    (0.45, _noise),
    (0.06, _stripe),
    (0.55, _gamma),
    (0.15, _narrow_window),
    (0.25, _invert),
    (0.5, _drift),
    (0.08, _compress),
    (0.1, damaged),
)


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _per_frame(values: npt.NDArray[np.float64]) -> Tensor:
    return _tensor(values)[:, None, None, None]


def _square(values: Tensor) -> Tensor:
    return values * values
