"""Occlusion: something passes in front of the object, and its mask has a hole for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor


def occlude(
    frames: Tensor, mask: Tensor, others: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Let a patch of another place pass through a clip; the prompt stays free of it.

    Parameters
    ----------
    frames : Tensor
        `(T, 3, S, S)` intensities.
    mask, others : Tensor
        `(T, S, S)` the object, and other objects that are known.
    rng : Generator
        Source of the random choices.

    Returns
    -------
    frames, mask, others : Tensor
        New tensors; nothing is labelled where the patch is.
    """
    steps, _, _, size = frames.shape
    rows, cols = torch.nonzero(mask[0] > 0.5, as_tuple=True)
    if steps < 2 or not len(rows):
        return frames, mask, others
    aim = np.array([float(rows.float().mean()), float(cols.float().mean())])
    heading = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(heading), np.cos(heading)])
    speed = size * rng.uniform(0.15, 0.5)
    meets = rng.uniform(1, steps - 0.5)  # when the patch is at the object
    radius = size * rng.uniform(0.06, 0.16)
    lobes, phase, depth = int(rng.integers(2, 6)), rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
    # the looks of another place of the same clip: neither its contrast nor its grain gives it away
    texture = torch.roll(frames, tuple(rng.integers(size // 4, size, 2).tolist()), (-2, -1))
    texture = texture.flip(-1) * float(np.exp(rng.normal(0, 0.25)))
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float32)] * 2, indexing="ij")
    covered = torch.zeros(steps, size, size, dtype=torch.bool)
    for t in range(1, steps):
        centre = aim + direction * speed * (t - meets)
        dy, dx = y - float(centre[0]), x - float(centre[1])
        edge = radius * (1 + depth * torch.cos(lobes * torch.atan2(dy, dx) + phase))
        covered[t] = dy.square() + dx.square() < edge.square()
    free = (~covered).to(mask.dtype)
    return torch.where(covered[:, None], texture, frames), mask * free, others * free
