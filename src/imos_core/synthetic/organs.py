"""Bodies among look-alikes inside tissue, as in CT and MRI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imos_core.synthetic.bodies import draw_body, new_canvas, random_body
from imos_core.synthetic.fields import noise

if TYPE_CHECKING:
    from imos_core.synthetic.fields import Field, Labels, Shape


def organs(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Bodies among look-alikes inside tissue, as in CT and MRI."""
    canvas = new_canvas(rng, shape)
    material = canvas.material
    size = min(shape[1:])
    objects = int(rng.integers(2, 8))
    first = 10  # materials below are background, distractors and walls
    palette = np.zeros(64, np.float32)
    base = rng.uniform(0.25, 0.6)
    palette[1:6] = base + rng.normal(0, 0.12, 5)
    if rng.random() < 0.6:  # the outline of a body in air, with a rim of fat
        outline = random_body(
            rng,
            shape,
            size * rng.uniform(0.42, 0.6),
            1e4,
            (0, shape[1] / 2, shape[2] / 2),
            drift=0.05,
        )
        outline = outline._replace(
            flatness=np.full(shape[0], rng.uniform(0.7, 1), np.float32),
            radius=outline.radius * 0 + outline.radius.mean(),
        )
        draw_body(canvas, outline, 1, wall=2)
    else:
        material[...] = 1
    tissue = noise(rng, shape, (rng.uniform(5, 12), size / 6, size / 6))
    for level, bound in ((3, rng.uniform(0.3, 1.1)), (4, rng.uniform(1.0, 1.8))):
        material[(tissue > bound) & (material == 1)] = level
    palette[6:9] = base + rng.normal(0, 0.25, 3)
    for _ in range(int(rng.integers(2, 9))):
        body = random_body(rng, shape, size * rng.uniform(0.03, 0.16), rng.uniform(4, 40))
        draw_body(canvas, body, int(rng.integers(3, 9)))
    radii = np.sort(size * rng.uniform(0.04, 0.22, objects))[::-1]  # small ones lie on top
    intensity = rng.choice(palette[1:9], objects) + rng.choice([-1, 1], objects) * rng.uniform(
        0.05, 0.3, objects
    )
    lumen = np.zeros(64, np.uint8)
    lumen[first : first + objects] = np.arange(1, objects + 1)
    for k in range(objects):
        body = random_body(
            rng,
            shape,
            radii[k],
            shape[0] * rng.uniform(0.25, 1.2),
            None
            if k
            else (shape[0] / 2, shape[1] * rng.uniform(0.3, 0.7), shape[2] * rng.uniform(0.3, 0.7)),
        )
        wall = None
        palette[first + k] = intensity[k]
        if rng.random() < 0.25:  # hollow: the wall belongs to the object
            wall = first + objects + k
            palette[wall] = intensity[k] + rng.choice([-1, 1]) * rng.uniform(0.08, 0.25)
            lumen[wall] = k + 1
        draw_body(canvas, body, first + k, wall)
        if rng.random() < 0.2:  # a second lobe that leaves the first: the section splits
            away = np.linspace(-1, 1, shape[0], dtype=np.float32) * radii[k] * rng.uniform(1, 2)
            side = rng.choice([-1, 1], 2)
            twin = body._replace(
                y=body.y + side[0] * away,
                x=body.x + side[1] * away,
                radius=body.radius * rng.uniform(0.4, 0.8),
            )
            draw_body(canvas, twin, first + k, wall)
    clean = np.clip(palette, 0.02, 1)[material]
    fine = noise(rng, shape, (1.5, 2.5, 2.5)) * np.float32(rng.uniform(0.0, 0.04))
    coarse = noise(rng, shape, (3, 6, 6)) * np.float32(rng.uniform(0.0, 0.05))
    textured = rng.uniform(0, 1.6, 64).astype(np.float32)
    textured[0] = 0
    return clean + textured[material] * (fine + coarse), lumen[material].astype(np.uint16)
