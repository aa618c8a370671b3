"""Clips: short windows of a labelled volume, cut, moved and stained as inference meets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from imos_core.boxes import box_of
from imos_core.cutting import sample
from imos_core.data.augment import stain
from imos_core.data.caps import draw_caps
from imos_core.data.occlusion import occlude
from imos_core.data.thin_plate import thin_plate_warps
from imos_core.label_ids import carries
from imos_core.preprocess import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from imos_core.data.sources import LabelledVolume
    from imos_core.data.thin_plate import Warp


@dataclass(frozen=True)
class ClipConfig:
    """How clips are cut."""

    frames: int = 4
    """Frames per clip."""
    size: int = 128
    """Window of a clip in network pixels."""
    max_skip: int = 3
    """Largest step between frames, in slices."""
    beginnings: float = 0.25
    """Share of sequence clips whose prompt is the first slice of an object."""
    endings: float = 0.2
    """Share of sequence clips that run across the end of an object."""
    turns: float = 0.0
    """Share of batches in which the window is renewed on the way, as windows are at inference."""
    thin_plate: float = 0.0
    """Share of clips from static images that a thin-plate spline bends."""
    caps: float = 0.0
    """Share of clips from static images whose object grows from a cap, or shrinks and is gone."""
    occlusions: float = 0.0
    """Share of clips through which something passes in front; none where the window is renewed."""


@dataclass(frozen=True)
class Clip:
    """One training example: the first frame is the prompt."""

    frames: Tensor
    """`(T, 3, S, S)` float, normalised."""
    mask: Tensor
    """`(T, S, S)` float, 1 inside the object."""
    others: Tensor
    """`(T, S, S)` float, 1 inside other objects that are known to the network."""
    moves: Tensor
    """`(K, 3)` new windows in terms of the old ones: side, row and column of their centres."""


def draw_clip(
    volume: LabelledVolume,
    config: ClipConfig,
    rng: np.random.Generator,
    turns: Sequence[int] = (),
) -> Clip | None:
    """Cut one clip around one object, or return None if the volume offers none.

    Parameters
    ----------
    volume : LabelledVolume
        Where to cut.
    config : ClipConfig
        How to cut.
    rng : Generator
        Source of the random choices.
    turns : sequence of int
        Frames, in order and from 1 on, that are seen through a new window: for each the clip has
        one entry more, just before it, which shows the frame before through the new window.
    """
    axis = int(rng.integers(3)) if volume.isotropic else 0
    image, labels = np.moveaxis(volume.image, axis, 0), np.moveaxis(volume.labels, axis, 0)
    spans = {label: where[axis] for label, where in volume.extents.items()}
    order, wanted = _draw_order(len(labels), spans, config, rng)
    first = labels[order[0]]
    counts = _count(first)
    ids = np.flatnonzero(counts)
    ids = ids[ids != 0]
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
    seen = carries(first, target)
    caps = None
    if static and config.caps and rng.random() < config.caps:
        caps = draw_caps(seen, config.frames, rng)
    window = _place(seen, config, rng, 1.0 if caps is None else float(caps.scales[0]))
    warps = _motion(config, rng, static)
    place = torch.tensor([1.0, 0.0, 0.0])
    local = window.local(place)
    frames, masks, others, moves = [], [], [], []

    def see(entry: int) -> None:
        grid = window.on_slice(warps[entry](local))
        if caps is not None:
            grid = caps(entry, grid)
        plane = labels[order[entry]]
        frames.append(_sample_image(image[order[entry]], grid))
        masks.append(_sample_mask(carries(plane, target), grid))
        # half of the clips know no others: there is nothing to sample
        others.append(
            _sample_mask(carries(plane, known), grid) if known else torch.zeros_like(masks[-1])
        )

    for entry in range(len(order)):
        if entry in turns:
            move = _renew(masks[-1], rng)
            moves.append(move)
            place = torch.cat([place[:1] * move[:1], place[1:] + place[:1] * move[1:]])
            local = window.local(place)
            see(entry - 1)
        see(entry)
    mask = torch.stack(masks)
    if mask[0].sum() < 6:
        return None
    images, known_others = torch.stack(frames).expand(-1, 3, -1, -1), torch.stack(others)
    if config.occlusions and not turns and rng.random() < config.occlusions:
        images, mask, known_others = occlude(images, mask, known_others, rng)
    return Clip(_normalised(stain(images, rng)), mask, known_others, _stacked(moves))


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
        early = begin + int(rng.random() < 0.3)
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
    draw = rng.random()
    if draw < 0.5:
        return []
    rest = [int(i) for i in np.flatnonzero(_count(labels)) if i != 0 and i not in target]
    return rest if draw < 0.75 else [i for i in rest if rng.random() < 0.5]


def _count(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """Pixels of every label; several times faster than `numpy.unique`."""
    return np.bincount(labels.ravel().astype(np.intp, copy=False))


@dataclass(frozen=True)
class _Window:
    """A window that is turned, stretched and flipped, somewhere on a slice."""

    size: int
    centre: tuple[float, float]
    side: float
    angle: float
    aspect: float
    flip: float

    def local(self, move: Tensor) -> Tensor:
        """Where its pixels are relative to its centre, in sides: `(S, S, 2)`, (x, y)."""
        base = (torch.arange(self.size) + 0.5) / self.size - 0.5
        y, x = torch.meshgrid(move[0] * base + move[1], move[0] * base + move[2], indexing="ij")
        cos, sin = float(np.cos(self.angle)), float(np.sin(self.angle))
        stretch = torch.tensor([self.aspect, 1 / self.aspect], dtype=torch.float32)
        return torch.stack([self.flip * (cos * x - sin * y), sin * x + cos * y], -1) * stretch

    def on_slice(self, local: Tensor) -> Tensor:
        """Bring coordinates `(S, S, 2)` from sides to pixels of the slice."""
        return local * self.side + torch.tensor(self.centre[::-1], dtype=torch.float32)


def _place(
    mask: npt.NDArray[np.bool_], config: ClipConfig, rng: np.random.Generator, scale: float
) -> _Window:
    """Place a window around an object that is seen at a scale."""
    height, width = mask.shape
    box = box_of(mask)
    assert box is not None
    centre = np.array([s.start + s.stop for s in box]) / 2
    extent = scale * max(s.stop - s.start for s in box)
    side = max(extent * rng.uniform(1.5, 3.3), rng.uniform(28, 64))
    side = min(side, 1.15 * max(height, width))
    centre = centre + rng.uniform(-0.16, 0.16, 2) * side
    # stay inside the image, as windows do at inference
    for axis, length in enumerate((height, width)):
        half = min(side / 2, length / 2)
        centre[axis] = np.clip(centre[axis], half, length - half)
    angle = rng.normal(0, 0.15) + rng.integers(4) * np.pi / 2
    aspect = float(np.exp(rng.normal(0, 0.08)))
    flip = 1.0 if rng.random() < 0.5 else -1.0
    middle = float(centre[0]), float(centre[1])
    return _Window(config.size, middle, float(side), float(angle), aspect, flip)


def _stacked(moves: list[Tensor]) -> Tensor:
    return torch.stack(moves) if moves else torch.zeros(0, 3)


def _renew(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw a new window around an object in an old one: side, row and column of its centre."""
    if not mask.any() or rng.random() < 0.3:
        return torch.tensor([1.0, 0.0, 0.0])
    rows, cols = torch.nonzero(mask.any(1))[:, 0], torch.nonzero(mask.any(0))[:, 0]
    size = len(mask)
    extent = float(torch.maximum(rows[-1] - rows[0], cols[-1] - cols[0]) + 1) / size
    side = float(np.clip(2.2 * extent * np.exp(rng.normal(0, 0.15)), 0.4, 2.2))
    centre = [float(places[0] + places[-1] + 1) / 2 / size - 0.5 for places in (rows, cols)]
    offset = rng.uniform(-0.05, 0.05, 2) * side
    return torch.tensor([side, centre[0] + float(offset[0]), centre[1] + float(offset[1])])


def _motion(config: ClipConfig, rng: np.random.Generator, static: bool) -> list[Warp]:
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
    amplitude = float(rng.uniform(0.01, 0.05)) * speed
    bends: list[Warp] = []
    if static and config.thin_plate and rng.random() < config.thin_plate:
        bends = thin_plate_warps(steps, rng)

    def make(index: int) -> Warp:
        t = float(times[index])
        offset = torch.tensor(rng.normal(0, 1, 2) * jitter_size, dtype=torch.float32)
        if index == 0:
            offset = torch.zeros(2)

        def warp(grid: Tensor) -> Tensor:
            if t == 0:  # where everything starts from
                return grid
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
                mixed = coarse[0] * t + coarse[1] * float(np.sin(3 * t)) * 0.5
                field = F.grid_sample(
                    mixed[None],
                    2 * grid[None],
                    mode="bicubic",
                    padding_mode="border",
                    align_corners=True,
                )
                grid = grid + amplitude * field[0].permute(1, 2, 0)
            if bends:
                grid = bends[index](grid)
            return grid + offset

        return warp

    return [make(i) for i in range(steps)]


def _sample_image(plane: npt.NDArray[np.uint8], grid: Tensor) -> Tensor:
    """Sample `(H, W)` or `(H, W, 3)` at `grid`: `(1 or 3, S, S)` float in 0..1."""
    pixels = torch.from_numpy(plane.astype(np.float32)) / 255
    pixels = pixels[None] if pixels.ndim == 2 else pixels[..., :3].permute(2, 0, 1)
    return sample(pixels, grid, border=True)


def _sample_mask(mask: npt.NDArray[np.bool_], grid: Tensor) -> Tensor:
    """Sample a boolean `(H, W)` at `grid`: `(S, S)` float, 0 or 1."""
    plane = torch.from_numpy(mask.astype(np.float32))[None]
    return (sample(plane, grid, border=False)[0] > 0.5).float()


def _normalised(frames: Tensor) -> Tensor:
    """Normalise `(T, 3, S, S)`; of grey clips, one channel for all three."""
    planes = frames[:, :1] if frames.stride(1) == 0 else frames
    return normalise(planes, "zscore").expand(-1, 3, -1, -1)
