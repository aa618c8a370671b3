"""Clips: short windows of a labelled volume, cut, moved and stained as inference meets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from imos_core.data.augment import stain
from imos_core.preprocess import normalise
from imos_core.windows import sample

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from torch import Tensor

    from imos_core.data.sources import LabelledVolume


@dataclass(frozen=True)
class ClipConfig:
    """How clips are cut."""

    frames: int = 4
    """Frames of a clip."""
    size: int = 128
    """Height and width of the window in network pixels."""
    max_skip: int = 3
    """Largest step between frames of a clip, in slices."""
    min_pixels: int = 8
    """Smallest object, in pixels of the prompt slice."""
    beginnings: float = 0.25
    """Share of clips that start where an object begins."""
    endings: float = 0.2
    """Share of clips that run across the end of an object."""


@dataclass(frozen=True)
class Clip:
    """One training example: the first frame is the prompt."""

    frames: Tensor
    """`(T, 3, S, S)` float, normalised."""
    mask: Tensor
    """`(T, S, S)` float, 1 inside the object."""
    others: Tensor
    """`(T, S, S)` float, 1 inside other objects that are known to the network."""


def draw_clip(volume: LabelledVolume, config: ClipConfig, rng: np.random.Generator) -> Clip | None:
    """Cut one clip around one object, or return None if the volume offers none."""
    axis = int(rng.integers(3)) if volume.isotropic else 0
    image, labels = np.moveaxis(volume.image, axis, 0), np.moveaxis(volume.labels, axis, 0)
    spans = {label: where[axis] for label, where in volume.extents.items()}
    order, wanted = _draw_order(len(labels), spans, config, rng)
    first = labels[order[0]]
    ids, counts = np.unique(first, return_counts=True)
    ids = ids[(ids != 0) & (counts >= config.min_pixels)]
    if not len(ids):
        return None
    ending = ids[~np.isin(ids, labels[order[-1]])]
    # objects that end are rare, and a mask that goes on without its object is the worst mistake
    chosen = ending if len(ending) and rng.random() < 0.3 else ids
    target = [int(rng.choice(chosen)) if wanted is None or wanted not in ids else wanted]
    rest = [int(i) for i in ids if i not in target]
    if rest and rng.random() < 0.08:
        target.append(int(rng.choice(rest)))  # an object of several parts
    known = _draw_known(labels[order], target, rng)

    static = len(labels) == 1
    grids = _grids(np.isin(first, target), config, rng, static)
    frames, masks, others = [], [], []
    for grid, index in zip(grids, order, strict=True):
        frames.append(_sample_image(image[index], grid))
        plane = labels[index]
        masks.append(_sample_mask(np.isin(plane, target), grid))
        others.append(_sample_mask(np.isin(plane, known), grid))
    mask = torch.stack(masks)
    if mask[0].sum() < 6:
        return None
    return Clip(normalise(stain(torch.stack(frames), rng), "zscore"), mask, torch.stack(others))


def _draw_order(
    length: int, spans: dict[int, slice], config: ClipConfig, rng: np.random.Generator
) -> tuple[list[int], int | None]:
    """Draw the slices of a clip, forward or backward, with skips.

    Anywhere, or at the beginning of an object, or across its end; then the object is named too.
    """
    if length == 1:
        return [0] * config.frames, None
    # mostly neighbours, as at inference; skips stand for thick slices
    skip = min(int(rng.geometric(0.6)), config.max_skip)
    steps = rng.integers(1, skip + 1, config.frames - 1)
    while steps.sum() >= length and steps.max() > 1:
        steps = np.maximum(steps - 1, 1)
    offsets = np.concatenate([[0], np.cumsum(steps)])
    # a video shorter than the clip rests on its last frame
    offsets = np.minimum(offsets, length - 1)
    latest = length - 1 - int(offsets[-1])
    backward = rng.random() < 0.5
    start, wanted = int(rng.integers(0, latest + 1)), None
    draw = rng.random()
    if spans and draw < config.beginnings + config.endings:
        label = int(rng.choice(list(spans)))
        span = spans[label]
        begin, end = span.start, span.stop
        if backward:
            begin, end = length - end, length - begin
        early = begin + int(rng.integers(0, 2))
        late = max(end - int(rng.integers(1, offsets[-1] + 1)), begin)
        place = early if draw < config.beginnings else late
        if place <= latest:
            start, wanted = place, label
    order = start + offsets
    if backward:
        order = length - 1 - order
    return [int(i) for i in order], wanted


def _draw_known(
    labels: npt.NDArray[np.integer], target: list[int], rng: np.random.Generator
) -> list[int]:
    """Draw which other objects the person has painted too: none, some or all."""
    rest = [int(i) for i in np.unique(labels) if i != 0 and i not in target]
    draw = rng.random()
    if not rest or draw < 0.5:
        return []
    return rest if draw < 0.75 else [i for i in rest if rng.random() < 0.5]


def _grids(
    mask: npt.NDArray[np.bool_], config: ClipConfig, rng: np.random.Generator, static: bool
) -> list[Tensor]:
    """Sampling grids `(S, S, 2)` in pixels (x, y): one window, moving a little."""
    height, width = mask.shape
    rows, cols = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    centre = np.array([rows[0] + rows[-1] + 1, cols[0] + cols[-1] + 1]) / 2
    extent = max(rows[-1] - rows[0], cols[-1] - cols[0]) + 1
    side = max(extent * rng.uniform(1.5, 3.3), rng.uniform(28, 64))
    side = min(side, 1.15 * max(height, width))
    centre = centre + rng.uniform(-0.16, 0.16, 2) * side
    # stay inside the image, as windows do at inference
    for axis, length in enumerate((height, width)):
        half = min(side / 2, length / 2)
        centre[axis] = np.clip(centre[axis], half, length - half)
    angle = rng.normal(0, 0.15) + rng.integers(4) * np.pi / 2
    aspect = np.exp(rng.normal(0, 0.08))
    flip = 1.0 if rng.random() < 0.5 else -1.0
    base = (torch.arange(config.size) + 0.5) / config.size - 0.5
    y, x = torch.meshgrid(base, base, indexing="ij")
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    local = torch.stack([flip * (cos * x - sin * y), sin * x + cos * y], -1)
    local = local * torch.tensor([aspect, 1 / aspect], dtype=torch.float32)
    fields = _motion(config, rng, static)
    shift = torch.tensor([centre[1], centre[0]], dtype=torch.float32)
    return [warp(local) * side + shift for warp in fields]


def _motion(
    config: ClipConfig, rng: np.random.Generator, static: bool
) -> list[Callable[[Tensor], Tensor]]:
    """One warp of window coordinates (-0.5..0.5) per frame.

    Real volumes move by themselves: they get jitter between sections, and now and then a camera
    that drifts and turns. Static images get that too, and a swelling or shrinking of the object
    and a smooth deformation that grow with time.
    """
    steps = config.frames
    jitter_size = 0.012 if rng.random() < 0.3 else 0.0
    times = torch.linspace(0, 1, steps) if steps > 1 else torch.zeros(1)
    speed = rng.uniform(0.3, 1.0) if static else 0.0
    camera = speed if static else float(rng.random() < 0.25)
    far = 0.07 if rng.random() < 0.6 else 0.18
    drift = torch.tensor(rng.normal(0, far, 2) * camera, dtype=torch.float32)
    turn = float(rng.normal(0, 0.15)) * camera
    grow = float(rng.normal(0, 0.25 if static else 0.1)) * camera
    bulge = float(rng.uniform(-0.6, 0.6)) * speed
    bulge_width = float(rng.uniform(0.15, 0.35))
    bulge_centre = torch.tensor(rng.normal(0, 0.08, 2), dtype=torch.float32)
    coarse = torch.tensor(rng.normal(0, 1, (2, 2, 5, 5)), dtype=torch.float32)
    field = F.interpolate(coarse, (config.size,) * 2, mode="bicubic", align_corners=True)
    amplitude = float(rng.uniform(0.01, 0.05)) * speed

    def make(index: int) -> Callable[[Tensor], Tensor]:
        t = float(times[index])
        offset = torch.tensor(rng.normal(0, 1, 2) * jitter_size, dtype=torch.float32)
        if index == 0:
            offset = torch.zeros(2)

        def warp(grid: Tensor) -> Tensor:
            if camera:
                cos, sin = float(np.cos(turn * t)), float(np.sin(turn * t))
                scale = float(np.exp(grow * t))
                gx, gy = grid[..., 0], grid[..., 1]
                grid = scale * torch.stack([cos * gx - sin * gy, sin * gx + cos * gy], -1)
                grid = grid + drift * t
            if speed:
                away = grid - bulge_centre
                weight = torch.exp(-away.square().sum(-1, keepdim=True) / bulge_width**2)
                grid = grid + bulge * t * weight * away
                mixed = field[0] * t + field[1] * float(np.sin(3 * t)) * 0.5
                grid = grid + amplitude * mixed.permute(1, 2, 0)
            return grid + offset

        return warp

    return [make(i) for i in range(steps)]


def _sample_image(plane: npt.NDArray[np.uint8], grid: Tensor) -> Tensor:
    """Sample `(H, W)` or `(H, W, 3)` at `grid`: `(3, S, S)` float in 0..1."""
    pixels = torch.from_numpy(plane.astype(np.float32)) / 255
    pixels = pixels[None] if pixels.ndim == 2 else pixels[..., :3].permute(2, 0, 1)
    return sample(pixels, grid, border=True).expand(3, -1, -1)


def _sample_mask(mask: npt.NDArray[np.bool_], grid: Tensor) -> Tensor:
    """Sample a boolean `(H, W)` at `grid`: `(S, S)` float, 0 or 1."""
    plane = torch.from_numpy(mask.astype(np.float32))[None]
    return (sample(plane, grid, border=False)[0] > 0.5).float()
