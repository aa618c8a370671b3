"""Rigid tools of endoscopy: a shaft with two jaws that enters, moves fast and leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imos_core.synthetic.fields import curve

if TYPE_CHECKING:
    from imos_core.synthetic.fields import Field, Labels


class _Path(NamedTuple):
    """Where a tool is in every frame."""

    y: Field
    """Tip, voxels."""
    x: Field
    heading: Field
    """Direction from the tip along the shaft, radians."""
    opening: Field
    """0..1 how far the jaws are apart."""


def draw_tool(rng: np.random.Generator, frames: Field, labels: Labels) -> None:
    """Draw one tool over the frames `(T, H, W, 3)` of a video and into its labels."""
    t, h, w, _ = frames.shape
    size = min(h, w)
    path = _draw_path(rng, t, h, w)
    width = size * rng.uniform(0.03, 0.09)
    reach = width * rng.uniform(2, 5)  # of the jaws
    dark = rng.uniform(0.05, 0.25)
    shaft = np.clip(
        dark + rng.normal(0, 0.02, 3)
        if rng.random() < 0.55
        else rng.uniform(0.4, 0.85) + rng.normal(0, [0.04, 0.04, 0.08]),
        0,
        1,
    )
    metal = rng.uniform(0.45, 0.8) + rng.normal(0, 0.02, 3)
    parts = rng.random() < 0.3  # shaft and jaws as two objects
    first = int(labels.max()) + 1
    gloss, shadow = rng.uniform(0.1, 0.8), rng.uniform(0, 0.55)
    bands = rng.random() < 0.3
    rows = np.arange(h, dtype=np.float32)[:, None]
    columns = np.arange(w, dtype=np.float32)
    for k in range(t):
        cos, sin = np.float32(np.cos(path.heading[k])), np.float32(np.sin(path.heading[k]))
        y, x = rows - path.y[k], columns - path.x[k]
        along, across = x * cos + y * sin, y * cos - x * sin
        near = (along > -reach) & (np.abs(across) < 4 * width)
        if not near.any():
            continue
        moved = abs(path.y[k] - path.y[k - 1]) + abs(path.x[k] - path.x[k - 1]) if k else 0.0
        blur = np.float32(0.8 + min(0.12 * moved, 3))  # fast tools are smeared
        body = np.minimum(width - np.abs(across), along - reach)
        jaws = _jaws(along, across, width, reach, float(path.opening[k]))
        tool = np.clip(np.maximum(body, jaws) / blur + 0.5, 0, 1)
        side = across / np.float32(width)
        round_ = np.sqrt(np.clip(1 - side * side, 0.05, 1))
        bright = 0.35 + 0.65 * round_ + gloss * np.exp(-(((side + 0.35) / 0.14) ** 2))
        if bands:
            bright = bright * (1 - 0.5 * (np.abs(along - reach - 1.5 * width) < 0.2 * width))
        colour = np.where((along > reach)[..., None], shaft, metal)
        dim = np.clip(1.2 - np.hypot(rows / h - 0.5, columns / w - 0.5), 0.3, 1)
        shade = np.clip((1.4 * width - np.abs(across - 0.7 * width)) / width, 0, 1) * shadow
        shade *= np.clip((along - 0.4 * reach) / width, 0, 1)
        frame = frames[k]
        frame *= (1 - shade)[..., None]
        frame += tool[..., None] * (colour * (bright * dim)[..., None] - frame)
        inside = tool > 0.5
        labels[k][inside] = first
        if parts:
            labels[k][inside & (along <= reach)] = first + 1


def _jaws(along: Field, across: Field, width: float, reach: float, opening: float) -> Field:
    """Signed depth inside two tapering jaws that hinge where the shaft begins."""
    from_hinge = reach - along
    share = np.clip(from_hinge / reach, 0, 1)
    apart = opening * 0.6 * from_hinge + 0.25 * width
    half = width * (0.55 - 0.4 * share)
    gap = np.minimum(np.abs(across - apart), np.abs(across + apart))
    depth: Field = np.minimum(np.minimum(half - gap, along), from_hinge + 1)
    return depth


def _draw_path(rng: np.random.Generator, t: int, h: int, w: int) -> _Path:
    """Let a tool come in from the border, work for a while, and go."""
    size = min(h, w)
    turn = rng.uniform(0, 2 * np.pi)
    base = np.array([h / 2 + 0.75 * h * np.sin(turn), w / 2 + 0.75 * w * np.cos(turn)])
    goal = np.array([h, w]) * (0.5 + rng.uniform(-0.28, 0.28, 2))
    frames = np.arange(t, dtype=np.float32)
    enters, leaves = rng.uniform(-0.4, 0.5) * t, rng.uniform(0.5, 1.5) * t
    hurry = rng.uniform(1, 5)  # frames to come or go
    inside = np.clip((frames - enters) / hurry, 0, 1) * np.clip((leaves - frames) / hurry, 0, 1)
    inside = inside * inside * (3 - 2 * inside)
    reach = size * rng.choice([rng.uniform(0, 0.08), rng.uniform(0.08, 0.25)])
    pace = rng.uniform(3, 9)
    target_y = goal[0] + reach * curve(rng, t, pace)
    target_x = goal[1] + reach * curve(rng, t, pace)
    # far outside while it is away, so that nothing of it shows
    y = base[0] + inside * (target_y - base[0])
    x = base[1] + inside * (target_x - base[1])
    far_y, far_x = base[0] + 0.6 * (base[0] - h / 2), base[1] + 0.6 * (base[1] - w / 2)
    heading = np.arctan2(far_y - y, far_x - x)
    opening = np.clip(0.4 + 0.4 * curve(rng, t, 4), 0, 1)
    return _Path(
        *(values.astype(np.float32) for values in (y, x, heading, opening)),
    )
