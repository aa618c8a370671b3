"""Smooth random fields and curves: coarse noise spread with spline matrices."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Field: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.uint16]
Shape: TypeAlias = tuple[int, int, int]


@lru_cache(maxsize=256)
def _spline_matrix(size: int, scale: float) -> Field:
    """Cubic B-spline weights `(size, knots)` that spread knots `scale` voxels apart."""
    position = np.arange(size)[:, None] / scale + 1
    distance = np.abs(position - np.arange(int(np.ceil(size / scale)) + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def noise(rng: np.random.Generator, shape: Shape, scale: tuple[float, float, float]) -> Field:
    """Smooth noise `(T, H, W)` of mean 0 and variance about 1, with features of `scale` voxels."""
    t, h, w = (_spline_matrix(n, float(s)) for n, s in zip(shape, scale, strict=True))
    knots = rng.standard_normal((t.shape[1], h.shape[1], w.shape[1]), dtype=np.float32)
    # the mean squared weight of a cubic B-spline is 0.479 per axis
    field = (h @ (knots @ w.T)) * np.float32(0.479**-1.5)
    return (t @ field.reshape(len(knots), -1)).reshape(shape)


def curve(rng: np.random.Generator, length: int, scale: float) -> Field:
    """Smooth random curve `(length,)` of variance about 1."""
    matrix = _spline_matrix(length, float(scale))
    curve: Field = matrix @ rng.standard_normal(matrix.shape[1], dtype=np.float32)
    return curve / np.float32(0.479**0.5)
