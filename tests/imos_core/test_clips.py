"""Clips: windows that are renewed on the way show the same object in the same place."""

import numpy as np
import pytest
import torch
from tiny import disc_volume

from imos_core.data.clips import ClipConfig, draw_clip
from imos_core.data.sources import LabelledVolume
from imos_core.training.unroll import renew_window


@pytest.mark.parametrize("length", [1, 12])
def test_a_renewed_window_shows_what_the_old_one_showed(length):
    image, labels = disc_volume(length, 96)
    volume = LabelledVolume(image, labels)
    rng = np.random.default_rng(5)
    agreements, sides = [], []
    for _ in range(40):
        clip = draw_clip(volume, ClipConfig(frames=6, size=64), rng, turns=[3, 5])
        if clip is None or not clip.mask[6].any():
            continue
        assert len(clip.frames) == len(clip.mask) == len(clip.others) == 8
        for entry, move in zip((3, 6), clip.moves, strict=True):
            old = renew_window(clip.mask[entry - 1][None, None], move[None])[0, 0] > 0.5
            new = clip.mask[entry] > 0.5
            agreements.append(float((old & new).sum() / (old | new).sum()))
            sides.append(float(move[0]))
    assert np.median(agreements) > 0.93
    assert min(sides) < 1 < max(sides) or len(set(sides)) > 5


def test_without_a_turn_windows_stay():
    image, labels = disc_volume(12, 96)
    clip = draw_clip(
        LabelledVolume(image, labels), ClipConfig(frames=5, size=64), np.random.default_rng(0)
    )
    assert clip is not None
    assert len(clip.frames) == 5
    assert clip.moves.shape == (0, 3)


def test_renewing_a_window_is_an_affine_map():
    planes = torch.zeros(1, 1, 8, 8)
    planes[..., 2:4, 4:6] = 1
    same = renew_window(planes, torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.allclose(same, planes, atol=1e-6)
    # half the side, around (row 3, column 5) of 8: pixels double
    zoomed = renew_window(planes, torch.tensor([[0.5, 3 / 8 - 0.5, 5 / 8 - 0.5]]))
    assert zoomed[0, 0, 2:6, 2:6].mean() == pytest.approx(0.7656, abs=1e-3)  # (1 + 3/4) ^ 2 / 4
    assert zoomed[0, 0].sum() == pytest.approx(16, rel=0.1)
    # what lies outside the old window is nothing
    away = renew_window(planes, torch.tensor([[1.0, 1.0, 0.0]]))
    assert not away.any()
