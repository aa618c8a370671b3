"""Electron microscopy: packed neurites with membranes, mitochondria with cristae and vesicles."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imos_core.synthetic.bodies import new_canvas, patch_of, random_body, with_domes
from imos_core.synthetic.fields import noise
from imos_core.synthetic.seeds import nearest_seeds, territories

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.fields import Field, Labels, Shape
    from imos_core.synthetic.seeds import Territories


def membranes(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Packed neurites with membranes, or the mitochondria in them: electron microscopy."""
    size = min(shape[1:])
    spacing = max(size / rng.uniform(2.2, 8), 5)
    thick = rng.choice([rng.uniform(0.4, 1.2), rng.uniform(1, 4)])
    giants = rng.choice([0, rng.uniform(0.1, 0.7)])
    bending = rng.uniform(1, 2.6)
    seeds = nearest_seeds(rng, shape, spacing, thick, 4, giants, bending)
    cells = territories(rng, seeds, rng.uniform(0, 0.55), 0.03 * spacing)
    clean, wall = _stained(rng, cells, spacing)
    _put_vesicles(rng, clean, cells, wall, rng.uniform(1.2, 2.4))
    organelles = _put_mitochondria(rng, clean, cells, spacing, thick)
    # contrast against the resin, as the stain goes
    clean *= np.float32(rng.uniform(0.75, 1.1))
    if organelles.max() >= 3 and rng.random() < 0.3:
        return clean, organelles
    labels = (cells.owner + 1).astype(np.uint16)
    if rng.random() < 0.65:  # membranes count as background
        labels[cells.depth < wall * rng.uniform(0.5, 1.0)] = 0
    unseen = rng.random(cells.number + 2) < rng.uniform(0, 0.3)  # nobody annotated these
    labels[unseen[labels]] = 0
    return clean, labels


def _stained(rng: np.random.Generator, cells: Territories, spacing: float) -> tuple[Field, Field]:
    """Paint cytoplasm and membranes; return also how thick each membrane is."""
    shape = cells.depth.shape
    thickness = rng.uniform(0.5, 1.3)
    per_cell = np.ones(cells.number, np.float32)
    if rng.random() < 0.3:  # myelin
        per_cell[rng.random(cells.number) < 0.12] = rng.uniform(2, 4)
    swell = np.clip(1 + 0.25 * noise(rng, shape, (3, 8, 8)), 0.5, 1.8)
    if rng.random() < 0.6:  # synapses and membranes cut at a slant are thick and smeared
        swell += np.clip(noise(rng, shape, (3, spacing / 2, spacing / 2)) - 1.3, 0, 1) * np.float32(
            rng.uniform(0.5, 2.5)
        )
    wall = np.float32(thickness) * per_cell[cells.owner] * swell
    shade = rng.normal(0, rng.uniform(0.01, 0.09), cells.number).astype(np.float32)
    cytoplasm = rng.uniform(0.58, 0.8)
    clean = np.float32(cytoplasm) + shade[cells.owner]
    clean += noise(rng, shape, (1.3, 2, 2)) * np.float32(rng.uniform(0.02, 0.08))
    clean += noise(rng, shape, (3, 7, 7)) * np.float32(rng.uniform(0, 0.05))
    if rng.random() < 0.6:  # reticulum and filaments: thin lines where a smooth field is zero
        step = spacing / rng.uniform(2, 5)
        ridge = np.exp(-((noise(rng, shape, (2.5, step, step)) / np.float32(0.1)) ** 2))
        where = noise(rng, shape, (4, spacing, spacing)) > rng.uniform(0, 1)
        ridge *= where & (cells.depth > 2 * wall)
        clean -= ridge * np.float32(rng.uniform(0.1, 0.3))
    faint = np.clip(0.9 + 0.2 * noise(rng, shape, (4, 15, 15)), 0.25, 1)  # uneven staining
    dark = rng.uniform(0.08, 0.3)
    sheet = np.clip(1.4 - cells.depth / wall, 0, 1) * faint
    clean += sheet * (np.float32(dark) - clean)
    return clean.astype(np.float32), wall


def _put_vesicles(
    rng: np.random.Generator,
    clean: Field,
    cells: Territories,
    wall: Field,
    radius: float,
) -> None:
    """Stamp small dark rings, close together, into a few cells."""
    filled = rng.random(cells.number) < rng.uniform(0, 0.35)
    tries = max(clean.size // 220, 1)
    place = [rng.integers(0, n, tries) for n in clean.shape]
    t, y, x = place
    cluster = noise(rng, clean.shape, (4, 9, 9)) > 0.2
    good = filled[cells.owner[t, y, x]] & cluster[t, y, x]
    good &= cells.depth[t, y, x] > wall[t, y, x] + radius
    t, y, x = t[good], y[good], x[good]
    reach = int(np.ceil(radius + 1))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    away = np.hypot(dy, dx)
    ring = np.clip(1.2 - np.abs(away - radius), 0, 1) * rng.uniform(0.15, 0.4)
    core = np.where(away < radius - 0.5, rng.choice([-0.06, 0.06, 0.25]), 0)  # some are dense
    stamp = (ring + core).astype(np.float32)
    _, h, w = clean.shape
    rows = np.clip(y[:, None, None] + dy, 0, h - 1)
    columns = np.clip(x[:, None, None] + dx, 0, w - 1)
    clean[t[:, None, None], rows, columns] -= stamp


class _Looks(NamedTuple):
    """How the mitochondria of one volume are stained."""

    matrix: float
    rim: float
    cristae: float
    period: float


def _put_mitochondria(
    rng: np.random.Generator, clean: Field, cells: Territories, spacing: float, thick: float
) -> Labels:
    """Draw mitochondria within cells; return their labels."""
    shape = clean.shape
    labels = np.zeros(shape, np.uint16)
    canvas = new_canvas(rng, shape)
    looks = _Looks(
        rng.uniform(0.25, 0.5), rng.uniform(0.05, 0.22), rng.uniform(0, 0.2), rng.uniform(2.4, 6)
    )
    wobble = noise(rng, shape, (2, 5, 5))
    wanted = int(rng.integers(2, 26) if rng.random() < 0.8 else 0)
    deepest = np.flatnonzero(cells.depth > max(0.16 * spacing, 2.5))
    if not len(deepest):
        return labels
    for index in rng.choice(deepest, min(wanted, len(deepest)), replace=False):
        t, y, x = (int(i) for i in np.unravel_index(index, shape))
        # a body fills most of its neurite, or lies in a corner of it
        radius = min(float(cells.depth[t, y, x]) * rng.uniform(0.6, 1.2), spacing * 0.4)
        length = max(radius * rng.uniform(1.2, 5) / thick, 1.2)
        body = random_body(rng, shape, radius, length, (t, y, x))
        flatness = np.clip(body.flatness * rng.uniform(0.6, 1.1), 0.35, 1.2)
        body = body._replace(flatness=flatness.astype(np.float32), roughness=0.1 * radius)
        patch = patch_of(
            canvas, with_domes(rng, body, (t - length - rng.random(), t + length + rng.random()))
        )
        if patch is None:
            continue
        box = patch.box
        home = cells.owner[t, y, x]
        inside = patch.inside & (cells.owner[box] == home) & (labels[box] == 0)
        depth = np.minimum(patch.depth, cells.depth[box] - 1.2)
        inside &= depth > 0
        if inside.sum() < 30:
            continue
        _stain(rng, clean[box], inside, depth, patch.u, wobble[box], looks)
        labels[box][inside] = labels.max() + 1
    return labels


def _stain(
    rng: np.random.Generator,
    target: Field,
    inside: npt.NDArray[np.bool_],
    depth: Field,
    across: Field,
    wobble: Field,
    looks: _Looks,
) -> None:
    """Paint one mitochondrion: dark double rim, grey matrix, cristae across it."""
    phase = across * np.float32(2 * np.pi / looks.period) + 3 * wobble
    body = (
        looks.matrix
        + rng.normal(0, 0.03)
        - looks.cristae * np.clip(0.5 + 1.5 * np.sin(phase), 0, 1)
    )
    rim = np.clip(1.6 - depth, 0, 1)
    painted = body + rim * (looks.rim - body)
    target[inside] = painted[inside]
