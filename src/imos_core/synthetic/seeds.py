"""Scattered seeds and the nearest of them for every voxel of a warped volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from imos_core.synthetic.fields import noise

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.fields import Field, Shape


class Seeds(NamedTuple):
    """The nearest seeds of every voxel, best first."""

    nearest: npt.NDArray[np.intp]
    """`(3, T, H, W)`; the number of seeds where there are fewer than three."""
    offset: list[list[Field]]
    """Three candidates by three components, each `(T, H, W)`: voxel minus seed, voxels."""
    number: int


def nearest_seeds(rng: np.random.Generator, shape: Shape, spacing: float, thick: float) -> Seeds:
    """Scatter seeds about `spacing` voxels apart and find the nearest three of each voxel.

    The space is warped smoothly; `thick` is the distance of two slices in voxels of the plane.
    """
    extent = np.array([shape[0] * thick, shape[1], shape[2]])
    margin = spacing * 0.7
    tries = rng.uniform(
        -margin, extent + margin, (int(6 * np.prod((extent + 2 * margin) / spacing)) + 8, 3)
    )
    # Poisson-disc thinning: a seed stays unless an earlier one that stayed is too close
    pairs = cKDTree(tries).query_pairs(spacing * 0.8, output_type="ndarray")
    keep = np.ones(len(tries), bool)
    for earlier, later in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]:
        if keep[earlier]:
            keep[later] = False
    seeds = tries[keep].astype(np.float32)
    step = spacing * rng.uniform(0.5, 1.0)
    scale = (max(step / thick, 1.5), step, step)
    bend = np.float32(spacing * rng.uniform(0.05, 0.16))
    axes = [np.arange(n, dtype=np.float32) for n in shape]
    axes[0] = axes[0] * np.float32(thick)
    jitter = rng.normal(0, rng.choice([0, 0.4, 1.0]), (2, shape[0], 1, 1)).astype(np.float32)
    points = [
        noise(rng, shape, scale) * bend + axes[0][:, None, None],
        noise(rng, shape, scale) * bend + axes[1][:, None] + jitter[0],
        noise(rng, shape, scale) * bend + axes[2] + jitter[1],
    ]
    stride = max(int(spacing / 8), 1)
    coarse = np.stack([p[:, ::stride, ::stride] for p in points], -1)
    _, index = cKDTree(seeds).query(coarse.reshape(-1, 3), k=3)
    index = index.reshape(*coarse.shape[:3], 3)
    rows = np.minimum((np.arange(shape[1]) + stride // 2) // stride, coarse.shape[1] - 1)
    columns = np.minimum((np.arange(shape[2]) + stride // 2) // stride, coarse.shape[2] - 1)
    index = np.ascontiguousarray(np.moveaxis(index[:, rows][:, :, columns], -1, 0))
    padded = np.vstack([seeds, np.full((1, 3), 1e5, np.float32)])
    offset = [[points[a] - padded[:, a][index[k]] for a in range(3)] for k in range(3)]
    return Seeds(index, offset, len(seeds))
