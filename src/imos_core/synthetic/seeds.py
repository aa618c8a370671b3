"""Scattered seeds, the nearest of them for every voxel, and the territories that they divide."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from imos_core.synthetic.fields import noise

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.fields import Field, Shape


class Seeds(NamedTuple):
    """The nearest seeds of every voxel, best first."""

    nearest: npt.NDArray[np.intp]
    """`(K, T, H, W)`; the number of seeds where there are fewer than K."""
    offset: list[list[Field]]
    """K candidates by three components, each `(T, H, W)`: voxel minus seed, voxels."""
    position: Field
    """`(N, 3)` the seeds, in voxels of the plane."""

    @property
    def number(self) -> int:
        """How many seeds there are."""
        return len(self.position)


def nearest_seeds(
    rng: np.random.Generator,
    shape: Shape,
    spacing: float,
    thick: float,
    candidates: int = 3,
    giants: float = 0.0,
    bending: float = 1.0,
) -> Seeds:
    """Scatter seeds about `spacing` voxels apart and find the nearest few of each voxel.

    The space is warped smoothly; `thick` is the distance of two slices in voxels of the plane.
    A share `giants` of the seeds that could have twice the room have it; `bending` multiplies the
    warp.
    """
    extent = np.array([shape[0] * thick, shape[1], shape[2]])
    margin = spacing * 0.7
    tries = rng.uniform(
        -margin, extent + margin, (int(6 * np.prod((extent + 2 * margin) / spacing)) + 8, 3)
    )
    seeds = tries[_thinned(tries, spacing * 0.8)].astype(np.float32)
    if giants:
        wide = tries[_thinned(tries, spacing * 2.2)].astype(np.float32)
        wide = wide[rng.random(len(wide)) < giants]
        if len(wide):
            distance, _ = cKDTree(wide).query(seeds)
            seeds = np.concatenate([wide, seeds[distance > spacing * 1.5]])
    step = spacing * rng.uniform(0.5, 1.0)
    scale = (max(step / thick, 1.5), step, step)
    bend = np.float32(bending * spacing * rng.uniform(0.05, 0.16))
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
    _, index = cKDTree(seeds).query(coarse.reshape(-1, 3), k=candidates)
    index = index.reshape(*coarse.shape[:3], candidates)
    rows = np.minimum((np.arange(shape[1]) + stride // 2) // stride, coarse.shape[1] - 1)
    columns = np.minimum((np.arange(shape[2]) + stride // 2) // stride, coarse.shape[2] - 1)
    index = np.ascontiguousarray(np.moveaxis(index[:, rows][:, :, columns], -1, 0))
    padded = np.vstack([seeds, np.full((1, 3), 1e5, np.float32)])
    offset = [[points[a] - padded[:, a][index[k]] for a in range(3)] for k in range(candidates)]
    return Seeds(index, offset, seeds)


def _thinned(tries: npt.NDArray[np.float64], distance: float) -> npt.NDArray[np.bool_]:
    """Poisson-disc thinning: a seed stays unless an earlier one that stayed is too close."""
    pairs = cKDTree(tries).query_pairs(distance, output_type="ndarray")
    keep = np.ones(len(tries), bool)
    for earlier, later in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]:
        if keep[earlier]:
            keep[later] = False
    return keep


class Territories(NamedTuple):
    """A division of the space among groups of seeds."""

    owner: npt.NDArray[np.intp]
    """`(T, H, W)` number of the group, from 0."""
    depth: Field
    """`(T, H, W)` distance to the nearest other territory, in voxels of the plane."""
    number: int


def territories(
    rng: np.random.Generator, seeds: Seeds, merging: float, roundness: float = 0.0
) -> Territories:
    """Give every voxel to its nearest seed, and some seeds to the group of their neighbour.

    Groups make shapes that bend and branch, so that their sections split and merge. With
    `roundness` (voxels), corners count as less deep, so that what lies deep enough is round.
    """
    n = seeds.number
    group = np.arange(n + 1)
    joins = np.flatnonzero(rng.random(n) < merging)
    if len(joins) and n > 1:
        _, near = cKDTree(seeds.position).query(seeds.position[joins], k=2)
        # scipy 1.11 finds no components where indices are longer
        pairs = (joins.astype(np.int32), near[:, 1].astype(np.int32))
        graph = coo_array((np.ones(len(joins)), pairs), shape=(n + 1, n + 1))
        _, group = connected_components(graph, directed=False)
    square = np.stack([sum(o * o for o in offset) for offset in seeds.offset])
    # sorted on the coarse grid only, so that the best on the fine one is among the first
    best = np.argmin(square, 0)[None]
    nearest = np.take_along_axis(square, best, 0)[0]
    owner = group[np.take_along_axis(seeds.nearest, best, 0)[0]]
    own = [np.take_along_axis(np.stack([o[a] for o in seeds.offset]), best, 0)[0] for a in range(3)]
    depth = np.full_like(nearest, 1e3)
    crowd = np.zeros_like(nearest)
    for k, offset in enumerate(seeds.offset):
        apart = sum((o - p) ** 2 for o, p in zip(offset, own, strict=True))
        # distance to the plane half way between the two seeds
        plane = (square[k] - nearest) / (2 * np.sqrt(apart) + np.float32(1e-3))
        other = group[seeds.nearest[k]] != owner
        np.minimum(depth, plane, out=depth, where=other)
        if roundness:
            crowd += np.exp(np.maximum(-plane / np.float32(roundness), -60)) * other
    if roundness:
        depth = np.where(crowd > 0, -np.float32(roundness) * np.log(crowd + 1e-30), depth)
    return Territories(owner, depth, int(group.max()) + 1)
