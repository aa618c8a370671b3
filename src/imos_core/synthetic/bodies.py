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


def with_domes(rng: np.random.Generator, body: Body, ends: tuple[float, float]) -> Body:
    """Let a body begin and end as domes: from a spot to its full section within a few slices.

    Parameters
    ----------
    rng : Generator
        Source of the random choices.
    body : Body
        Body; its radius becomes the largest one times the domes.
    ends : tuple of float
        Where it begins and ends, in slices; the two poles lie between slices as a rule.
    """
    slices = np.arange(len(body.radius), dtype=np.float32)
    middle = sum(ends) / 2
    radius = np.full_like(slices, body.radius.max(initial=1.0))
    for end, away in zip(ends, (slices - ends[0], ends[1] - slices), strict=True):
        # a radius that grows in proportion gives an area that grows with the square
        rise = min(max(rng.uniform(1.5, 7), 1), max(abs(middle - end), 1))
        power = rng.choice([0.5, 1.0, 1.0, 1.6])
        # far away it changes nothing, and a pole outside the volume shows what is left of it
        radius *= (np.clip(away / rise, 0, 1) ** power).astype(np.float32)
    swell = 1 + rng.uniform(0.02, 0.2) * curve(rng, len(slices), rng.uniform(5, 12))
    return body._replace(radius=radius * np.clip(swell, 0.4, None))


def forked(rng: np.random.Generator, body: Body) -> Body:
    """Return a twin that leaves a body on the way, or joins it: the section splits or merges."""
    t = len(body.radius)
    at = rng.uniform(0.2, 0.8) * t
    away = np.clip(np.arange(t, dtype=np.float32) - np.float32(at), 0, None)
    if rng.random() < 0.5:
        away = away[::-1]
    # far enough apart in the end
    reach = max(float(body.radius.max(initial=1)), 2) * rng.uniform(2.2, 4)
    pace = reach / max(float(away.max(initial=0)), 1)
    heading = rng.uniform(0, 2 * np.pi)
    share = rng.uniform(0.5, 0.9)
    # the farther the two are apart, the more each has its own size
    size = np.where(away > 0, np.float32(share), np.float32(0.95))
    return body._replace(
        y=body.y + np.float32(np.sin(heading) * pace) * away,
        x=body.x + np.float32(np.cos(heading) * pace) * away,
        radius=body.radius * size,
    )


class Patch(NamedTuple):
    """Where a body is, and how deep every voxel there lies in it."""

    box: tuple[slice, slice, slice]
    depth: Field
    """Voxels below the surface; negative outside."""
    inside: npt.NDArray[np.bool_]
    u: Field
    """Coordinates along the two axes of the section, scaled so that it is a circle."""
    v: Field


def patch_of(canvas: Canvas, body: Body) -> Patch | None:
    """Find the voxels of a body, or None if it shows nowhere."""
    present = np.flatnonzero(body.radius > 0.5)
    if not len(present):
        return None
    _, h, w = canvas.material.shape
    reach = float(body.radius.max()) * 1.25 / 0.85 + 3 * float(np.abs(canvas.dy).max()) / 2
    first, last = present[0], present[-1] + 1
    top = max(int(body.y[present].min() - reach), 0)
    bottom = min(int(body.y[present].max() + reach) + 1, h)
    left = max(int(body.x[present].min() - reach), 0)
    right = min(int(body.x[present].max() + reach) + 1, w)
    if top >= bottom or left >= right:
        return None
    box = (slice(first, last), slice(top, bottom), slice(left, right))

    def column(values: Field) -> Field:
        return values[first:last, None, None].astype(np.float32)

    y = np.arange(top, bottom, dtype=np.float32)[:, None] - column(body.y) + canvas.dy[box]
    x = np.arange(left, right, dtype=np.float32) - column(body.x) + canvas.dx[box]
    cos, sin = column(np.cos(body.angle)), column(np.sin(body.angle))
    flatness = column(np.clip(body.flatness, 0.35, 1.2))
    u: Field = (y * cos + x * sin) * np.sqrt(flatness)
    v: Field = np.divide(x * cos - y * sin, np.sqrt(flatness))
    depth = column(body.radius) - np.sqrt(u * u + v * v)
    depth += np.float32(body.roughness) * canvas.lobes[box]
    inside = (depth > 0) & (column(body.radius) > 0.5)
    return Patch(box, depth, inside, u, v)


def draw_body(canvas: Canvas, body: Body, material: int, wall: int | None = None) -> None:
    """Paint a body over what is there; with `wall` its rim becomes another material."""
    patch = patch_of(canvas, body)
    if patch is None:
        return
    target = canvas.material[patch.box]
    target[patch.inside] = material
    if wall is not None:
        thickness = 1.2 + 0.12 * float(body.radius.max())
        target[patch.inside & (patch.depth < thickness)] = wall
