"""Endoscopy-like colour video: wet tissue, bumps on it, and rigid tools that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, map_coordinates

from imos_core.synthetic.fields import curve, noise
from imos_core.synthetic.tools import draw_tool

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.fields import Field, Labels, Shape

_VIEW = 1.8  # the tissue is this much larger than a frame: the camera moves over it


def instruments(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Wet tissue with bumps under a moving camera, and rigid tools that enter, move and leave."""
    size = min(shape[1:])
    bumps = int(rng.integers(0, 4))
    tissue = _draw_tissue(rng, int(size * _VIEW), size, bumps)
    rows, columns = _camera(rng, shape, len(tissue.height))
    frames, labels = _look(rng, tissue, rows, columns, shape)
    tools = int(rng.integers(0 if bumps else 1, 4))
    for _ in range(tools):
        draw_tool(rng, frames, labels)
    return _camera_looks(rng, frames, labels), labels


class _Tissue(NamedTuple):
    """A square of tissue: fields `(S, S)`."""

    hue: Field
    """0..1 between the two colours of the tissue."""
    vessel: Field
    """0..1 how much of a vessel shows."""
    height: Field
    """Relief in voxels."""
    ripple: Field
    """Fine relief of the wet surface, voxels."""
    labels: Labels


def _plane(rng: np.random.Generator, side: int, step: float) -> Field:
    field: Field = noise(rng, (1, side, side), (1, max(step, 1), max(step, 1)))[0]
    return field


def _draw_tissue(rng: np.random.Generator, side: int, size: int, bumps: int) -> _Tissue:
    """Draw folds, vessels, and bumps with a colour near or far from the rest."""
    hue = 0.5 + 0.2 * _plane(rng, side, size / 3) + 0.1 * _plane(rng, side, size / 12)
    hue += np.float32(rng.uniform(0.02, 0.1)) * _plane(rng, side, 2.5)
    height = size * (0.1 * _plane(rng, side, size / 1.5) + 0.02 * _plane(rng, side, size / 6))
    if rng.random() < 0.6:  # folds: sharp crests where a smooth field is zero
        crest = np.abs(_plane(rng, side, size / rng.uniform(1.2, 2.5)))
        height += np.float32(size * rng.uniform(0.03, 0.12)) * np.exp(-crest / 0.25)
    labels = np.zeros((side, side), np.uint16)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    for k in range(1, bumps + 1):
        cy, cx = side * (0.5 + rng.uniform(-0.3, 0.3, 2))
        radius, angle = size * rng.uniform(0.05, 0.2), rng.uniform(0, np.pi)
        flat, lobes = rng.uniform(0.6, 1), int(rng.integers(2, 4))
        v, u = (y - cy) * np.cos(angle) + (x - cx) * np.sin(angle), (x - cx) * np.cos(angle)
        u = (u - (y - cy) * np.sin(angle)) / np.float32(flat)
        turn = np.arctan2(v, u)
        edge = radius * (1 + rng.uniform(0, 0.15) * np.cos(lobes * turn + rng.uniform(0, 6)))
        inner = np.clip(1 - (np.hypot(u, v) / edge) ** 2, 0, 1)
        height += np.float32(radius * rng.uniform(0.1, 0.9)) * inner ** rng.uniform(0.6, 1.6)
        shown = inner > 0
        hue += shown * np.float32(rng.normal(0, 0.3))
        hue += shown * np.float32(rng.uniform(0, 0.15)) * _plane(rng, side, radius / 3)
        labels[shown] = k
    vessel = _vessels(rng, side, size) * np.where(labels > 0, np.float32(rng.uniform(0, 1)), 1)
    ripple = _plane(rng, side, 2.2) * np.float32(rng.uniform(0.02, 0.25))
    ripple += _plane(rng, side, size / 20) * np.float32(rng.uniform(0.2, 0.8))
    return _Tissue(np.clip(hue, 0, 1), vessel, gaussian_filter(height, 0.8), ripple, labels)


def _vessels(rng: np.random.Generator, side: int, size: int) -> Field:
    """Draw trees of thinning lines."""
    picture = Image.new("L", (side, side))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 14))):
        tips = [
            (rng.uniform(0, side, 2), rng.uniform(0, 2 * np.pi), size * rng.uniform(0.008, 0.03))
        ]
        while tips:
            place, heading, width = tips.pop()
            while width > 0.5:
                heading += rng.normal(0, 0.25)
                there = place + size * 0.04 * np.array([np.cos(heading), np.sin(heading)])
                ink = int(255 * min(width / 2, 1))
                pen.line((*place, *there), fill=ink, width=max(round(width), 1))
                place, width = there, width * 0.95
                if rng.random() < 0.08 and len(tips) < 8:
                    tips.append((place, heading + rng.choice([-0.7, 0.7]), width * 0.8))
    drawn: Field = gaussian_filter(np.asarray(picture, np.float32) / 255, rng.uniform(0.5, 1.0))
    return drawn


def _camera(rng: np.random.Generator, shape: Shape, side: int) -> tuple[Field, Field]:
    """Move over the tissue, turn, zoom, and let it breathe: rows and columns `(T, H, W)`."""
    t, h, w = shape
    size = min(h, w)
    pace = rng.uniform(5, 14)
    travel = size * rng.choice([rng.uniform(0, 0.06), rng.uniform(0.05, 0.25)])
    zoom = np.exp(rng.uniform(0, 0.25) * curve(rng, t, pace))[:, None, None]
    turn = (rng.uniform(0, 0.25) * curve(rng, t, pace))[:, None, None]
    y = np.arange(h, dtype=np.float32)[:, None] - h / 2
    x = np.arange(w, dtype=np.float32) - w / 2
    shrink = size / max(h, w)  # the tissue has room for a square only
    rows = zoom * shrink * (np.cos(turn) * y - np.sin(turn) * x)
    columns = zoom * shrink * (np.sin(turn) * y + np.cos(turn) * x)
    wave = (rng.uniform(3, 9), size / rng.uniform(1.5, 4), size / rng.uniform(1.5, 4))
    breath = np.float32(size * rng.choice([0, rng.uniform(0.005, 0.05)]))
    for field in (rows, columns):
        shake = rng.normal(0, rng.choice([0, 0.5, 1.5]), t)
        path = side / 2 + travel * curve(rng, t, pace) + shake
        field += path[:, None, None].astype(np.float32) + breath * noise(rng, shape, wave)
        np.clip(field, 1, side - 2, out=field)
    return rows.astype(np.float32), columns.astype(np.float32)


def _look(
    rng: np.random.Generator, tissue: _Tissue, rows: Field, columns: Field, shape: Shape
) -> tuple[Field, Labels]:
    """Light the tissue from the camera, so that highlights wander over it."""
    t, h, w = shape

    def seen(field: Field) -> Field:
        found: Field = map_coordinates(field, [rows, columns], order=1, mode="nearest")
        return found

    slope = [seen(np.gradient(tissue.height, axis=a)) for a in (0, 1)]
    fine = [seen(np.gradient(tissue.ripple, axis=a)) for a in (0, 1)]
    labels = tissue.labels[np.rint(rows).astype(int), np.rint(columns).astype(int)]
    y = (np.arange(h, dtype=np.float32)[:, None] / h - 0.5) * np.float32(rng.uniform(0.8, 1.6))
    x = (np.arange(w, dtype=np.float32) / w - 0.5) * np.float32(rng.uniform(0.8, 1.6))
    sway = 0.15 * rng.random() * np.stack([curve(rng, t, 6), curve(rng, t, 6)])
    y, x = y + sway[0][:, None, None].astype(np.float32), x + sway[1][:, None, None]
    length = np.sqrt((1 + slope[0] ** 2 + slope[1] ** 2) * (1 + y * y + x * x))
    light = np.clip((1 + slope[0] * y + slope[1] * x) / length, 0.05, 1)
    light /= 1 + np.float32(rng.uniform(0.3, 2.5)) * (y * y + x * x)  # far from the lamp
    first = np.array([rng.uniform(0.6, 0.95), rng.uniform(0.2, 0.5), rng.uniform(0.12, 0.4)])
    second = first * rng.uniform(0.75, 1.25, 3) + [0.1, rng.uniform(0, 0.25), rng.uniform(0, 0.2)]
    blood = first * [rng.uniform(0.6, 0.9), rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.7)]
    hue = seen(tissue.hue)[..., None]
    colour = first.astype(np.float32) + hue * (second - first).astype(np.float32)
    show = seen(tissue.vessel)[..., None] * np.float32(rng.uniform(0.2, 0.9))
    colour += show * (blood.astype(np.float32) - colour)
    frames = colour * light[..., None]
    away = (slope[0] + fine[0] - y) ** 2 + (slope[1] + fine[1] - x) ** 2
    gloss = np.exp(-away / np.float32(rng.uniform(0.02, 0.12) ** 2))
    frames += (gloss * np.float32(rng.uniform(0, 0.9)))[..., None]
    return frames.astype(np.float32), labels.astype(np.uint16)


def _camera_looks(rng: np.random.Generator, frames: Field, labels: Labels) -> Field:
    """Add haze, exposure, noise and the dark frame of an endoscope, outside which nothing is."""
    t, h, w, _ = frames.shape
    if rng.random() < 0.2:
        smoke = np.clip(noise(rng, (t, h, w), (3, h / 2, w / 2)), 0, 2) * rng.uniform(0.05, 0.25)
        frames += smoke[..., None].astype(np.float32) * (np.float32(0.8) - frames)
    exposure = 1 + rng.uniform(0, 0.12) * curve(rng, t, 5)
    frames *= exposure[:, None, None, None].astype(np.float32) * np.float32(rng.uniform(0.9, 1.4))
    grain = rng.standard_normal((t, h, w, 1), dtype=np.float32)
    tint = rng.standard_normal((t, (h + 1) // 2, (w + 1) // 2, 3), dtype=np.float32)
    tint = tint.repeat(2, 1).repeat(2, 2)[:, :h, :w]  # colour is coarser than brightness
    frames += np.float32(rng.uniform(0, 0.03)) * grain + np.float32(rng.uniform(0, 0.015)) * tint
    frames = np.clip(frames, 0, 1) ** np.float32(rng.uniform(0.7, 1.2))
    if rng.random() < 0.5:
        outside = _frame(rng, h, w)
        frames[:, outside] = rng.uniform(0, 0.06)
        labels[:, outside] = 0
    return frames


def _frame(rng: np.random.Generator, h: int, w: int) -> npt.NDArray[np.bool_]:
    """Draw what an endoscope leaves dark: outside a circle, or the corners."""
    y = np.abs(np.arange(h)[:, None] / h - 0.5)
    x = np.abs(np.arange(w) / w - 0.5)
    if rng.random() < 0.5:
        return np.hypot(y, x) > rng.uniform(0.48, 0.62)
    return y + x > rng.uniform(0.72, 0.9)
