"""Organs close together in fat, with bones, vessels, gas and look-alikes, as in CT and MRI."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imos_core.synthetic.bodies import (
    Body,
    draw_body,
    forked,
    new_canvas,
    patch_of,
    random_body,
    with_domes,
)
from imos_core.synthetic.fields import curve, noise
from imos_core.synthetic.scanners import ct_scan, mr_scan
from imos_core.synthetic.seeds import nearest_seeds, territories

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.bodies import Canvas
    from imos_core.synthetic.fields import Field, Labels, Shape

AIR, FAT, MUSCLE, BONE, MARROW, GAS, FLUID, LUNG = range(8)
_BODIES = 16  # materials from here on are single bodies, those from _ORGANS on packed organs
_ORGANS = 64
_MOST_ORGANS = 180


class Palette(NamedTuple):
    """Looks of every material in one scan."""

    level: Field
    grain: Field
    """Amplitude of the texture."""
    ct: bool
    organ: float
    """Level about which the packed organs lie."""
    spread: float
    """How far they lie from it, and from each other."""


def organs(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Organs close together in fat, with bones, vessels, gas and look-alikes, in CT or MRI."""
    size = min(shape[1:])
    thick = rng.uniform(0.7, 5)  # distance of slices in voxels of the plane
    palette = _draw_palette(rng)
    canvas = new_canvas(rng, shape)
    material = canvas.material
    room = np.full(shape, 1e3, np.float32)
    outside = np.zeros(shape, bool)
    if rng.random() < 0.6:
        room, outside = _trunk(rng, canvas)
    annotated = np.zeros(256, np.uint8)
    _pack(rng, canvas, palette, annotated, room, thick)
    if rng.random() < 0.4:
        _lungs(rng, canvas, room)
    for k in range(int(rng.integers(2, 9))):
        _free_body(rng, canvas, palette, annotated, k, size, thick)
    if rng.random() < 0.7:
        _bones(rng, canvas, annotated, size, thick)
    material[outside] = AIR
    clean = palette.level[material]
    fine = noise(rng, shape, (1.5, 2.5, 2.5)) * np.float32(rng.uniform(0.2, 1))
    coarse = noise(rng, shape, (3, 7, 7)) * np.float32(rng.uniform(0.2, 1))
    clean += palette.grain[material] * (fine + coarse)
    image = ct_scan(rng, clean) if palette.ct else mr_scan(rng, np.clip(clean, 0, None))
    return image, annotated[material].astype(np.uint16)


def _draw_palette(rng: np.random.Generator) -> Palette:
    level, grain = np.zeros(256, np.float32), np.zeros(256, np.float32)
    ct = bool(rng.random() < 0.55)
    if ct:  # Hounsfield units
        organ, spread = rng.uniform(40, 120), rng.uniform(3, 28)
        level[:8] = [-1000, -100, 50, rng.uniform(350, 900), rng.uniform(150, 350), -900, 8, -820]
        level[FAT:MARROW] += rng.normal(0, [12, 8, 40])
        grain[:8] = [0, 8, 8, 90, 60, 0, 3, 30]
    else:
        organ = rng.uniform(0.3, 0.65)
        spread = organ * rng.choice([rng.uniform(0.03, 0.1), rng.uniform(0.1, 0.35)])
        fat = rng.choice([rng.uniform(0.7, 1.0), rng.uniform(0.05, 0.3)])  # or saturated
        fluid = rng.choice([rng.uniform(0.9, 1.2), rng.uniform(0.05, 0.3)])  # T2 or T1
        muscle = organ * rng.uniform(0.4, 0.9)
        level[:8] = [0.01, fat, muscle, 0.06, rng.uniform(0.3, 0.8), 0.02, fluid, 0.05]
        grain[:8] = [0, 0.03, 0.03, 0.02, 0.05, 0.0, 0.02, 0.02]
    count = 256 - _BODIES
    level[_BODIES:] = organ + rng.normal(0, spread, count)
    grain[_BODIES:] = (8 if ct else 0.06 * organ) * rng.uniform(0.1, 1.6, count)
    return Palette(level, grain, ct, organ, spread)


def _outline(rng: np.random.Generator, shape: Shape) -> Body:
    """Draw the section of a trunk, limb or head, which reaches through all slices."""
    t, h, w = shape
    size = min(h, w)
    centre = (t / 2, h * rng.uniform(0.45, 0.55), w * rng.uniform(0.45, 0.55))
    body = random_body(rng, shape, size * rng.uniform(0.38, 0.6), 1e4, centre, drift=0.05)
    taper = 1 + rng.uniform(-0.25, 0.25) * np.linspace(-1, 1, t) + 0.03 * curve(rng, t, 12)
    return body._replace(
        flatness=np.full(t, rng.uniform(0.6, 1), np.float32),
        angle=np.full(t, rng.normal(0, 0.1), np.float32),
        radius=(body.radius.mean() * taper).astype(np.float32),
        roughness=body.roughness * 0.4,
    )


def _trunk(rng: np.random.Generator, canvas: Canvas) -> tuple[Field, npt.NDArray[np.bool_]]:
    """Draw skin, fat and muscle around a cavity; return the depth below its wall, and outside."""
    calm = canvas._replace(dy=canvas.dy * np.float32(0.4), dx=canvas.dx * np.float32(0.4))
    patch = patch_of(calm, _outline(rng, canvas.material.shape))
    room = np.full(canvas.material.shape, -1e3, np.float32)
    outside = np.ones(canvas.material.shape, bool)
    if patch is None:
        return room, outside
    size = min(canvas.material.shape[1:])
    fat = size * rng.uniform(0.01, 0.09)
    muscle = size * rng.uniform(0.01, 0.07)
    target = canvas.material[patch.box]
    target[patch.inside] = MUSCLE
    target[patch.inside & (patch.depth < fat)] = FAT
    target[patch.inside & (patch.depth < 1.2)] = MUSCLE  # skin
    room[patch.box] = patch.depth - np.float32(fat + muscle)
    outside[patch.box] = ~patch.inside
    return room, outside


def _pack(
    rng: np.random.Generator,
    canvas: Canvas,
    palette: Palette,
    annotated: npt.NDArray[np.uint8],
    room: Field,
    thick: float,
) -> None:
    """Fill the cavity with organs of nearly one intensity, thin planes of fat between them."""
    shape = canvas.material.shape
    size = min(shape[1:])
    spacing = size / rng.uniform(2.2, 5.5)
    seeds = nearest_seeds(rng, shape, spacing, thick, 4, rng.choice([0, 0.4]), rng.uniform(1, 2))
    parts = territories(rng, seeds, rng.uniform(0, 0.4), rng.uniform(0.02, 0.1) * spacing)
    material = (_ORGANS + np.arange(parts.number) % _MOST_ORGANS).astype(np.uint8)
    kind = rng.random(parts.number)
    material[kind < 0.2] = FAT
    material[(kind > 0.2) & (kind < 0.25)] = GAS
    material[(kind > 0.25) & (kind < 0.3)] = FLUID
    plane = rng.uniform(0, 1.8) + rng.uniform(0.3, 1.5) * noise(rng, shape, (4, 14, 14))
    inside = room > 0
    target = canvas.material
    target[inside] = np.where(parts.depth > plane, material[parts.owner], FAT)[inside]
    area = np.bincount(target.ravel(), minlength=256)
    area[:_ORGANS] = 0
    shown = np.flatnonzero(area)
    if len(shown):  # people paint large organs rather than crumbs of the border
        share = area[shown] / area.sum()
        wanted = min(int(rng.integers(3, 11)), len(shown))
        chosen = rng.choice(shown, wanted, replace=False, p=share)
        annotated[chosen] = 1 + np.arange(len(chosen), dtype=np.uint8)


def _lungs(rng: np.random.Generator, canvas: Canvas, room: Field) -> None:
    """Draw one or two large bodies of air that end as domes."""
    t, h, w = canvas.material.shape
    size = min(h, w)
    for side in (-1, 1)[: int(rng.integers(1, 3))]:
        centre = (
            rng.uniform(-0.3, 1.3) * t,
            h * rng.uniform(0.4, 0.6),
            w * (0.5 + side * rng.uniform(0.17, 0.25)),
        )
        radius = size * rng.uniform(0.08, 0.2)
        length = max(t * rng.uniform(0.3, 0.9), 2)
        body = random_body(rng, canvas.material.shape, radius, length, centre, drift=0.4)
        body = with_domes(rng, body, (centre[0] - length, centre[0] + length))
        patch = patch_of(canvas, body)
        if patch is not None:
            gas = LUNG if rng.random() < 0.7 else GAS
            canvas.material[patch.box][patch.inside & (room[patch.box] > 0)] = gas


def _free_body(
    rng: np.random.Generator,
    canvas: Canvas,
    palette: Palette,
    annotated: npt.NDArray[np.uint8],
    k: int,
    size: int,
    thick: float,
) -> None:
    """Draw a kidney, vessel, bladder, bowel loop or lesion; more than half are annotated."""
    shape = canvas.material.shape
    t = shape[0]
    core, wall = _BODIES + 2 * k, _BODIES + 2 * k + 1
    style = rng.choice(["solid", "vessel", "hollow", "lesion", "cortex"])
    contrast = max(palette.spread, 0.05 * palette.organ) * rng.choice([-1, 1])
    radius = size * rng.uniform(0.04, 0.17)
    length = max(radius * rng.uniform(0.8, 3) / thick, 1.5)
    drift = 1.0
    palette.level[wall] = palette.organ + rng.normal(0, palette.spread)
    if style == "vessel":
        radius, length, drift = size * rng.uniform(0.015, 0.07), t * rng.uniform(0.5, 2), 2.0
        palette.level[core] = palette.organ * rng.choice([1, rng.uniform(1.3, 3.5)])
    elif style == "hollow":
        palette.level[core] = palette.level[rng.choice([FLUID, GAS, FLUID, FAT])]
    elif style == "cortex":
        palette.level[core] = palette.organ + contrast
        palette.level[wall] = palette.organ + contrast * rng.uniform(1.5, 4)
    else:
        palette.level[core] = palette.organ + contrast * rng.uniform(0.5, 3)
    body = random_body(rng, shape, radius, length, drift=drift)
    middle = rng.uniform(-0.1, 1.1) * t
    body = with_domes(rng, body, (middle - length, middle + length))
    bodies = [body]
    if rng.random() < (0.6 if style == "vessel" else 0.2):
        bodies.append(forked(rng, body))
    if rng.random() < 0.8:
        rim = FAT if rng.random() < 0.6 else MUSCLE  # a thin plane around it
        for b in bodies:
            shell = b._replace(radius=np.where(b.radius > 1, b.radius + rng.uniform(0.5, 1.6), 0))
            draw_body(canvas, shell, rim)
    for b in bodies:
        draw_body(canvas, b, core, wall if style in ("hollow", "cortex") else None)
    if rng.random() < 0.65:
        annotated[[core, wall]] = annotated.max() + 1


def _bones(
    rng: np.random.Generator,
    canvas: Canvas,
    annotated: npt.NDArray[np.uint8],
    size: int,
    thick: float,
) -> None:
    """Draw a row of vertebrae or a shaft, and ribs that cross the slices at a slant."""
    shape = canvas.material.shape
    t, h, w = shape
    centre = (t / 2, h * rng.uniform(0.65, 0.85), w * rng.uniform(0.35, 0.65))
    spine = random_body(rng, shape, size * rng.uniform(0.05, 0.12), 1e4, centre, drift=0.2)
    if rng.random() < 0.6:  # vertebrae: the disc between two of them is soft
        period = max(size * rng.uniform(0.15, 0.3) / thick, 3)
        wave = np.cos(2 * np.pi * (np.arange(t) / period + rng.random()))
        spine = spine._replace(radius=(spine.radius * np.clip(0.8 + wave, 0, 1)).astype(np.float32))
    draw_body(canvas, spine, MARROW, BONE)
    for _ in range(int(rng.integers(0, 9))):
        angle, away = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.3, 0.45)
        place = (rng.uniform(0, t), h / 2 + away * np.sin(angle), w / 2 + away * np.cos(angle))
        rib = random_body(rng, shape, size * rng.uniform(0.015, 0.04), rng.uniform(2, 9), place, 4)
        draw_body(canvas, rib._replace(radius=np.clip(rib.radius, 0, None)), MARROW, BONE)
    if rng.random() < 0.3:
        annotated[[MARROW, BONE]] = annotated.max() + 1
