"""Ultrasound: a smooth object in tissue, seen through speckle, shadows and a sector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from imos_core.synthetic.bodies import draw_body, new_canvas, random_body
from imos_core.synthetic.fields import curve, noise

if TYPE_CHECKING:
    from imos_core.synthetic.fields import Field, Labels, Shape


def speckle(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Ultrasound: a smooth object in tissue, seen through speckle, shadows and a sector."""
    t, h, w = shape
    size = min(h, w)
    canvas = new_canvas(rng, shape)
    canvas.material[...] = 1
    echo = np.zeros(16, np.float32)
    echo[1] = rng.uniform(0.3, 0.6)
    echo[2:6] = np.clip(echo[1] + rng.normal(0, 0.2, 4), 0.05, 1)
    for _ in range(int(rng.integers(2, 7))):
        draw_body(
            canvas,
            random_body(rng, shape, size * rng.uniform(0.04, 0.2), rng.uniform(8, 60)),
            int(rng.integers(2, 6)),
        )
    objects = int(rng.integers(1, 4))
    for k in range(objects):
        body = random_body(
            rng,
            shape,
            size * rng.uniform(0.08, 0.27),
            t * rng.uniform(0.4, 1.6),
            (t * rng.uniform(0.2, 0.8), h * rng.uniform(0.25, 0.75), w * rng.uniform(0.2, 0.8)),
            drift=1.6,
        )
        echo[8 + k] = np.clip(echo[1] + rng.choice([-1, -1, 1]) * rng.uniform(0.12, 0.45), 0.02, 1)
        wall = 12 + k if rng.random() < 0.6 else None
        echo[12 + k] = np.clip(echo[8 + k] + rng.uniform(0.2, 0.5), 0, 1)
        draw_body(canvas, body, 8 + k, wall)
    tissue = noise(rng, shape, (6, size / 10, size / 10)) * np.float32(0.12)
    level = gaussian_filter(echo[canvas.material] + tissue, (0, 1, 1.5))
    # fully developed speckle: the length of a complex normal amplitude blurred by the pulse
    pulse = (rng.uniform(0, 1.2), rng.uniform(0.5, 1.1), rng.uniform(0.9, 2.2))
    parts = [gaussian_filter(rng.standard_normal(shape, dtype=np.float32), pulse) for _ in range(2)]
    length = np.hypot(*parts)
    length /= length.mean()
    rows = np.arange(h, dtype=np.float32)[:, None]
    columns = np.arange(w, dtype=np.float32) - np.float32(w / 2)
    beam = columns / (rows + np.float32(h * rng.uniform(0.2, 1.5)))  # (h, w): constant along a beam
    image = level + np.float32(rng.uniform(0.09, 0.17)) * np.log(length + 0.05)
    image -= np.float32(rng.uniform(0, 0.35)) * rows / h
    for _ in range(int(rng.integers(0, 4))):
        centre, width = rng.uniform(beam.min(), beam.max()), rng.uniform(0.02, 0.1)
        slide = centre + 0.05 * curve(rng, t, 8)[:, None, None]
        shadow = np.exp(-(((beam - slide) / width) ** 2)) * (rows > h * rng.uniform(0, 0.5))
        image -= np.float32(rng.uniform(0.1, 0.4)) * shadow
    labels = np.zeros(16, np.uint16)
    for k in range(objects):
        labels[[8 + k, 12 + k]] = k + 1
    truth = labels[canvas.material]
    if rng.random() < 0.5:
        outside = np.abs(beam) > np.abs(beam).max() * rng.uniform(0.55, 0.9)
        image[:, outside] = image.min()
        truth[:, outside] = 0
    return image.astype(np.float32), truth
