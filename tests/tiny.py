"""A very small network with random weights, and a volume with a drifting disc, for fast tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from imos_core.config import IMOS_COMPACT, IMOS_R50, ModelConfig
from imos_core.model import IMOS

TINY = replace(
    IMOS_COMPACT,
    name="tiny",
    query_planes=(4, 8, 8),
    query_depths=(1, 1, 1),
    stem_channels=8,
    value_planes=(8, 8, 8),
    key_dim=8,
    value_dim=8,
    hidden_dim=8,
    decoder_channels=(16, 8, 8),
    guide_channels=8,
    descriptors=False,
    flow=False,
    presence=None,
    window_size=64,
    colour_window_size=None,
    full_size=64,
)
"""The compact preset, narrower still."""

TINY_R50 = replace(
    IMOS_R50,
    name="tiny-r50",
    query_planes=(4, 4, 8),
    query_depths=(1, 1, 1),
    stem_channels=8,
    value_planes=(8, 8, 8),
    value_depths=(1, 1, 1),
    key_dim=8,
    value_dim=8,
    hidden_dim=8,
    decoder_channels=(16, 8, 8),
    gate_reduction=4,
    window_size=64,
    full_size=64,
)
"""The reference preset, narrower: memory stride 16, no guide."""


def tiny_model(config: ModelConfig = TINY) -> IMOS:
    """Build a network with fixed random weights."""
    torch.manual_seed(0)
    return IMOS(config)


def disc_volume(slices: int = 9, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Draw a bright disc that drifts one pixel per slice::

        slice 0   . O . . .
        slice 4   . . O . .
        slice 8   . . . O .

    Returns
    -------
    image : ndarray of uint8
        `(T, size, size)`.
    labels : ndarray of uint16
        `(T, size, size)`, the disc is 1.
    """
    y, x = np.mgrid[:size, :size]
    centre = size // 2 - slices // 2 + np.arange(slices)[:, None, None]
    labels = ((y - size // 2) ** 2 + (x - centre) ** 2 < (size // 6) ** 2).astype(np.uint16)
    noise = np.random.default_rng(0).normal(0, 6, labels.shape)
    image = np.clip(60 + 120 * labels + noise, 0, 255).astype(np.uint8)
    return image, labels
