"""Objects of single images that begin and end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imos_core.data.caps import draw_caps
from imos_core.data.clips import ClipConfig, draw_clip
from imos_core.data.sources import LabelledVolume

y, x = np.mgrid[:80, :100]
MASK = ((y - 34) / 18) ** 2 + ((x - 52) / 11) ** 2 < 1
MASK &= ~((y > 40) & (x > 54))  # no symmetry
GRID = torch.from_numpy(np.stack([x, y], -1) + 0.5).float()


def seen(caps, entry):
    """Sample the mask as the frame shows it, to the nearest pixel."""
    there = caps(entry, GRID).floor().long()
    rows, cols = there[..., 1].clamp(0, 79), there[..., 0].clamp(0, 99)
    return MASK[rows.numpy(), cols.numpy()]


@pytest.mark.parametrize("seed", range(12))
def test_the_object_has_the_size_of_sections_of_a_ball(seed):
    caps = draw_caps(MASK, 9, np.random.default_rng(seed))
    assert ((caps.scales >= 0) & (caps.scales <= 1)).all()
    assert caps.scales[0] > 0.2
    largest = int(caps.scales.argmax())
    assert (np.diff(caps.scales[: largest + 1]) >= 0).all(), "it grows, and then it shrinks"
    assert (np.diff(caps.scales[largest:]) <= 0).all()
    for entry, scale in enumerate(caps.scales):
        area = int(seen(caps, entry).sum())
        assert area == pytest.approx(scale**2 * MASK.sum(), rel=0.1, abs=6)
        if scale == 0:
            assert area <= 1, "the very centre has no direction to be drawn to"


def test_far_from_the_object_nothing_moves_and_nothing_is_torn():
    caps = draw_caps(MASK, 9, np.random.default_rng(3))
    for entry in range(9):
        moved = caps(entry, GRID)
        away = torch.hypot(
            (GRID[..., 0] - caps.centre[1]) / caps.half[1],
            (GRID[..., 1] - caps.centre[0]) / caps.half[0],
        )
        far = away >= caps.outer
        assert torch.allclose(moved[far], GRID[far], atol=1e-3)
        # from the centre outward along a row, what is seen comes from farther and farther out
        row = moved[int(caps.centre[0]), int(caps.centre[1]) + 1 :, 0]
        assert (row.diff() > 0).all()


def test_clips_begin_small_and_end_empty():
    image = np.where(MASK, 180, 60).astype(np.uint8)
    volume = LabelledVolume(image[None], MASK[None].astype(np.uint8))
    config = ClipConfig(frames=8, size=48, caps=1.0)
    grown = gone = 0
    for seed in range(40):
        clip = draw_clip(volume, config, np.random.default_rng(seed))
        assert clip is not None
        area = clip.mask.sum((1, 2))
        assert area[0] >= 6
        grown += int(area.max() > 2.5 * area[0])
        gone += int(area[-1] == 0)
    assert grown > 10
    assert gone > 4
