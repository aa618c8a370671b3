"""Bodies: stacks of deforming ellipses, painted into a map of materials."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imos_core.synthetic.fields import curve, noise

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.fields import Field, Shape


class Canvas(NamedTuple):
    """What bodies are drawn on: two shared displacement fields and the map of materials."""

    dy: Field
    dx: Field
    lobes: Field
    material: npt.NDArray[np.uint8]


def new_canvas(rng: np.random.Generator, shape: Shape) -> Canvas:
    """Draw the displacements that all bodies of a volume share."""
    size = min(shape[1:])
    step = (rng.uniform(5, 12), size / rng.uniform(4, 8), size / rng.uniform(4, 8))
    bend = size * rng.uniform(0.01, 0.035)
    return Canvas(
        dy=noise(rng, shape, step) * np.float32(bend),
        dx=noise(rng, shape, step) * np.float32(bend),
        lobes=noise(rng, shape, (rng.uniform(4, 9), size / 14, size / 14)),
        material=np.zeros(shape, np.uint8),
    )


class Body(NamedTuple):
    """A stack of ellipses: centre, radii and angle for each slice."""

    y: Field
    x: Field
    radius: Field
    """Radius of the section in voxels, 0 or less where the body is absent."""
    flatness: Field
    angle: Field
    roughness: float
    """Amplitude of the lobes on its surface, voxels."""


def random_body(
    rng: np.random.Generator,
    shape: Shape,
    radius: float,
    length: float,
    centre: tuple[float, float, float] | None = None,
    drift: float = 1.0,
) -> Body:
    """Draw a body at random: it swells, turns, drifts, and ends within or beyond the volume."""
    t, h, w = shape
    if centre is None:
        centre = (
            rng.uniform(-0.1, 1.1) * t,
            rng.uniform(0.12, 0.88) * h,
            rng.uniform(0.12, 0.88) * w,
        )
    slices = np.arange(t, dtype=np.float32)
    s = np.abs(slices - np.float32(centre[0])) / np.float32(length)
    power = rng.choice([2.0, 3.0, 6.0])
    profile = np.sqrt(np.clip(1 - s**power, 0, None))
    profile *= np.clip(1 + rng.uniform(0.02, 0.15) * curve(rng, t, rng.uniform(5, 12)), 0.4, None)
    wander = radius * drift * rng.uniform(0.05, 0.3)
    tilt = rng.normal(0, 0.35 * drift * radius / max(length, 1), 2)
    swing = curve(rng, t, rng.uniform(8, 20)), curve(rng, t, rng.uniform(8, 20))
    along = slices - np.float32(centre[0])
    return Body(
        y=np.float32(centre[1]) + wander * swing[0] + tilt[0] * along,
        x=np.float32(centre[2]) + wander * swing[1] + tilt[1] * along,
        radius=np.float32(radius) * profile,
        flatness=rng.uniform(0.45, 1) + 0.08 * curve(rng, t, 10),
        angle=rng.uniform(0, np.pi) + 0.15 * curve(rng, t, 10),
        roughness=radius * rng.uniform(0.0, 0.14),
    )


def draw_body(canvas: Canvas, body: Body, material: int, wall: int | None = None) -> None:
    """Paint a body over what is there; with `wall` its rim becomes another material."""
    present = np.flatnonzero(body.radius > 0.5)
    if not len(present):
        return
    _, h, w = canvas.material.shape
    reach = float(body.radius.max()) * 1.25 / 0.85 + 3 * float(np.abs(canvas.dy).max()) / 2
    first, last = present[0], present[-1] + 1
    top = max(int(body.y[present].min() - reach), 0)
    bottom = min(int(body.y[present].max() + reach) + 1, h)
    left = max(int(body.x[present].min() - reach), 0)
    right = min(int(body.x[present].max() + reach) + 1, w)
    if top >= bottom or left >= right:
        return
    box = (slice(first, last), slice(top, bottom), slice(left, right))

    def column(values: Field) -> Field:
        return values[first:last, None, None].astype(np.float32)

    y = np.arange(top, bottom, dtype=np.float32)[:, None] - column(body.y) + canvas.dy[box]
    x = np.arange(left, right, dtype=np.float32) - column(body.x) + canvas.dx[box]
    cos, sin = column(np.cos(body.angle)), column(np.sin(body.angle))
    flatness = column(np.clip(body.flatness, 0.35, 1.2))
    u = (y * cos + x * sin) * np.sqrt(flatness)
    v = (x * cos - y * sin) / np.sqrt(flatness)
    depth = column(body.radius) - np.sqrt(u * u + v * v)
    depth += np.float32(body.roughness) * canvas.lobes[box]
    inside = (depth > 0) & (column(body.radius) > 0.5)
    target = canvas.material[box]
    target[inside] = material
    if wall is not None:
        thickness = 1.2 + 0.12 * float(body.radius.max())
        target[inside & (depth < thickness)] = wall
