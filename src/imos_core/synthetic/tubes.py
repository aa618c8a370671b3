"""Trees of tubes that wander through the slices, branch and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imos_core.synthetic.bodies import draw_body, new_canvas, random_body
from imos_core.synthetic.fields import noise

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.fields import Field, Labels, Shape


def tubes(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Trees of tubes that wander through the slices, branch and end."""
    t, h, w = shape
    size = min(h, w)
    thick = rng.uniform(1, 4)  # voxels of the plane per slice
    depth = np.full(shape, -9, np.float32)
    owner = np.zeros(shape, np.uint16)
    trees = int(rng.integers(3, 12))
    thickness = size * rng.uniform(0.018, 0.06)
    extent = np.array([t * thick, h, w])
    for tree in range(1, trees + 1):
        radius = thickness * rng.uniform(0.6, 1.8)
        start = rng.uniform(0, 1, 3) * extent
        heading = rng.normal(size=3) * [rng.uniform(1, 4), 1, 1]
        for way in (1, -1):  # both ways from the start, so that most tubes cross their middle slice
            _grow(rng, depth, owner, tree, (start, way * heading, radius), thick)
    inside = depth > 0
    ground = rng.uniform(0.2, 0.65)
    shade = ground + rng.choice([-1, 1]) * rng.uniform(0.12, 0.4) + rng.normal(0, 0.06, trees + 1)
    texture = noise(rng, shape, (2, 3, 3)) * np.float32(rng.uniform(0.01, 0.06))
    cloud = noise(rng, shape, (5, size / 8, size / 8)) * np.float32(rng.uniform(0.02, 0.1))
    clean = ground + texture + cloud
    clean = np.where(inside, shade.astype(np.float32)[owner] + texture * 0.5, clean)
    if rng.random() < 0.5:
        rim = np.abs(depth - 0.5) < rng.uniform(0.7, 1.4)
        clean = np.where(
            rim, np.float32(ground + rng.choice([-1, 1]) * rng.uniform(0.1, 0.3)), clean
        )
    canvas = new_canvas(rng, shape)
    for _ in range(int(rng.integers(0, 6))):  # bodies of the same shade, not part of any tube
        draw_body(
            canvas, random_body(rng, shape, size * rng.uniform(0.03, 0.12), rng.uniform(3, 20)), 1
        )
    distractor = (canvas.material == 1) & ~inside
    clean[distractor] = float(shade.mean()) + rng.normal(0, 0.05)
    return clean.astype(np.float32), np.where(inside, owner, 0).astype(np.uint16)


def _grow(
    rng: np.random.Generator,
    depth: Field,
    owner: Labels,
    tree: int,
    tip: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float],
    thick: float,
) -> None:
    """Walk from a tip, drawing a ball at every step, until the tube leaves, thins out or ends."""
    extent = np.array(depth.shape) * [thick, 1, 1]
    tips = [(*tip, 0)]
    steps = 0
    while tips and steps < 500:
        point, heading, radius, generation = tips.pop()
        curl = rng.uniform(0.05, 0.25)
        life = rng.geometric(0.006)
        while steps < 500 and life and radius > 1.2:
            if np.any(point < -3 * radius) or np.any(point > extent + 3 * radius):
                break
            steps, life = steps + 1, life - 1
            _draw_ball(depth, owner, tree, point, radius, thick)
            heading = heading / np.linalg.norm(heading) + rng.normal(0, curl, 3)
            point = point + heading / np.linalg.norm(heading) * max(radius * 0.5, 1)
            radius = float(np.clip(radius * rng.normal(0.998, 0.02), 0, 2 * tip[2]))
            if generation < 3 and rng.random() < 0.012:
                fork = heading + rng.normal(0, 0.9, 3)
                tips.append((point, fork, radius * rng.uniform(0.55, 0.9), generation + 1))
                radius *= 0.9


def _draw_ball(
    depth: Field,
    owner: Labels,
    tree: int,
    centre: npt.NDArray[np.float64],
    radius: float,
    thick: float,
) -> None:
    """Keep the greater depth inside a ball (centre and radius in voxels of the plane)."""
    reach = radius + 2.5
    low = np.floor((centre - reach) / [thick, 1, 1]).astype(int).clip(0)
    high = np.ceil((centre + reach) / [thick, 1, 1]).astype(int) + 1
    box = tuple(slice(a, max(b, a)) for a, b in zip(low, high, strict=True))
    part = depth[box]
    if not part.size:
        return
    z, y, x = (np.arange(a, a + n) for a, n in zip(low, part.shape, strict=True))
    square = (
        ((z * thick - centre[0]) ** 2)[:, None, None]
        + ((y - centre[1]) ** 2)[:, None]
        + (x - centre[2]) ** 2
    )
    ball = (radius - np.sqrt(square)).astype(np.float32)
    deeper = ball > part
    part[deeper] = ball[deeper]
    owner[box][deeper] = tree
