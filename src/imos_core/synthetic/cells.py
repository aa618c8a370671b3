"""Packed cells with membranes, and bright nuclei on dark ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from imos_core.synthetic.fields import noise
from imos_core.synthetic.seeds import nearest_seeds

if TYPE_CHECKING:
    from imos_core.synthetic.fields import Field, Labels, Shape


def cells(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Packed cells with membranes: electron microscopy or a membrane stain."""
    size = min(shape[1:])
    spacing = size / rng.uniform(2.5, 8)
    seeds = nearest_seeds(rng, shape, spacing, thick=rng.uniform(0.8, 3.5))
    stretch = rng.uniform(0.8, 1.25, (3, seeds.number + 1)).astype(np.float32)
    distance = np.stack(
        [
            sum(o * o * stretch[a][i] for a, o in enumerate(offset))
            for i, offset in zip(seeds.nearest, seeds.offset, strict=True)
        ]
    )
    order = np.argsort(distance, 0)[:2]
    best = np.take_along_axis(distance, order, 0)
    cell = np.take_along_axis(seeds.nearest, order[:1], 0)[0]
    # half the difference of the two distances is about the depth below the common face
    depth = (np.sqrt(best[1]) - np.sqrt(best[0])) / 2
    thickness = rng.uniform(0.7, 2.2)
    swell = 1 + 0.4 * noise(rng, shape, (3, 8, 8))
    membrane = np.clip(1.5 - depth / (thickness * swell), 0, 1)
    electron = rng.random() < 0.55
    interior = 0.62 if electron else 0.15
    shade = rng.normal(0, rng.uniform(0.01, 0.1), seeds.number + 1).astype(np.float32)
    clean = interior + shade[cell]
    grain = noise(rng, shape, (1.5, 2, 2)) * np.float32(rng.uniform(0.01, 0.07))
    clean += grain + noise(rng, shape, (2, 5, 5)) * np.float32(rng.uniform(0, 0.06))
    organelles = noise(rng, shape, (rng.uniform(1.5, 3), spacing / 5, spacing / 5))
    spots = np.clip((organelles - rng.uniform(1.0, 2.2)) * 3, 0, 1) * (depth > 2 * thickness)
    strength = rng.uniform(0.05, 0.35) * (-1 if electron else 1)
    clean += np.float32(strength) * spots
    edge = rng.uniform(0.08, 0.25) if electron else rng.uniform(0.45, 0.95)
    faint = np.clip(0.85 + 0.25 * noise(rng, shape, (4, 15, 15)), 0.1, 1)  # uneven staining
    clean += membrane * faint * (np.float32(edge) - clean)
    labels = (cell + 1).astype(np.uint16)
    if rng.random() < 0.6:  # space between the cells counts as background
        labels[depth < rng.uniform(0.3, 1.0) * thickness] = 0
    empty = rng.random(seeds.number + 2) < rng.uniform(0, 0.25)  # cells that nobody annotated
    labels[empty[labels]] = 0
    return clean.astype(np.float32), labels


def nuclei(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Bright textured ellipsoids on dark ground, many of them touching."""
    spacing = min(shape[1:]) / rng.uniform(3.5, 9)
    seeds = nearest_seeds(rng, shape, spacing, thick=rng.uniform(0.8, 3.0))
    turn, _ = np.linalg.qr(rng.normal(size=(seeds.number + 1, 3, 3)))
    radius = spacing * rng.uniform(0.38, 0.62) * rng.uniform(0.7, 1.25, (seeds.number + 1, 3))
    to_unit = (turn / radius[:, None, :]).astype(np.float32)  # (seed, component, axis)
    candidates = []
    for i, offset in zip(seeds.nearest[:2], seeds.offset[:2], strict=True):
        q = np.zeros(shape, np.float32)
        for axis in range(3):
            u = sum(offset[c] * to_unit[:, c, axis][i] for c in range(3))
            q += u * u
        candidates.append(q)
    second = candidates[1] < candidates[0]
    nucleus = np.where(second, seeds.nearest[1], seeds.nearest[0])
    rho = np.sqrt(np.where(second, candidates[1], candidates[0]))
    rho -= np.float32(rng.uniform(0, 0.08)) * noise(rng, shape, (2, spacing / 4, spacing / 4))
    missing = rng.random(seeds.number + 1) < rng.uniform(0.05, 0.5)
    inside = (rho < 1) & ~missing[nucleus]
    brightness = np.exp(rng.normal(-0.5, rng.uniform(0.1, 0.5), seeds.number + 1)).astype(
        np.float32
    )
    chromatin = 1 + np.float32(rng.uniform(0.03, 0.3)) * noise(
        rng, shape, (2, spacing / 6, spacing / 6)
    )
    body = brightness[nucleus] * chromatin * (1 - np.float32(rng.uniform(0, 0.4)) * rho**2)
    haze = gaussian_filter1d(
        gaussian_filter1d(inside.astype(np.float32), spacing / 4, 1), spacing / 4, 2
    )
    ground = rng.uniform(0.02, 0.15) + rng.uniform(0, 0.25) * haze
    ground = ground * (1 + 0.3 * noise(rng, shape, (3, 12, 12)))
    clean = np.where(inside, np.maximum(body, ground * 1.15), ground)
    return (0.7 * clean).astype(np.float32), np.where(inside, nucleus + 1, 0).astype(np.uint16)
