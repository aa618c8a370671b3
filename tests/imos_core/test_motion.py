"""What sets single images in motion: thin-plate splines, and what passes in front."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import disc_volume

from imos_core.data.clips import ClipConfig, draw_clip
from imos_core.data.occlusion import occlude
from imos_core.data.sources import LabelledVolume
from imos_core.data.thin_plate import thin_plate_warps


def _grid(size=16):
    base = (torch.arange(size) + 0.5) / size - 0.5
    y, x = torch.meshgrid(base, base, indexing="ij")
    return torch.stack([x, y], -1)


def test_the_first_frame_rests_and_later_ones_go_further():
    grid = _grid()
    moved = [
        float((warp(grid) - grid).abs().mean())
        for warp in thin_plate_warps(5, np.random.default_rng(0))
    ]
    assert moved[0] == pytest.approx(0, abs=1e-6)
    assert 0.002 < moved[-1] < 0.1
    assert moved[-1] > moved[1]


def test_a_thin_plate_bends_smoothly_and_does_not_fold():
    grid = _grid(32)
    for seed in range(5):
        warped = thin_plate_warps(3, np.random.default_rng(seed))[-1](grid)
        # x grows along columns, y along rows
        assert (warped[:, 1:, 0] > warped[:, :-1, 0]).all()
        assert (warped[1:, :, 1] > warped[:-1, :, 1]).all()
        assert (warped - grid).std() > 1e-3


def test_only_single_images_are_bent():
    image, labels = disc_volume(6, 64)
    for length, same in ((6, True), (1, False)):
        volume = LabelledVolume(image[:length], labels[:length])
        clips = [
            draw_clip(
                volume,
                ClipConfig(frames=3, size=32, thin_plate=share),
                np.random.default_rng(4),
            )
            for share in (0.0, 1.0)
        ]
        assert all(c is not None for c in clips)
        assert bool((clips[0].mask == clips[1].mask).all()) is same


def test_something_passes_in_front_of_the_object_and_never_of_the_prompt():
    _, labels = disc_volume(6, 64)
    mask = torch.from_numpy(labels.astype(np.float32))
    frames = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    others = 1 - mask
    covered = 0
    for seed in range(10):
        seen, left, left_others = occlude(frames, mask, others, np.random.default_rng(seed))
        assert (seen[0] == frames[0]).all()
        assert (left[0] == mask[0]).all()
        gone = (left + left_others) == 0
        # what is covered looks different, what is not stays as it was
        assert (seen == frames).all(1)[~gone].all()
        assert not (left * left_others).any()
        covered += int((mask - left).sum() > 0)
    assert covered >= 8


def test_clips_are_occluded_as_often_as_asked():
    volume = LabelledVolume(*disc_volume(1, 64))
    config = ClipConfig(frames=4, size=48, occlusions=1.0)
    holes = 0
    for seed in range(12):
        clip = draw_clip(volume, config, np.random.default_rng(seed))
        plain = draw_clip(volume, ClipConfig(frames=4, size=48), np.random.default_rng(seed))
        assert clip is not None
        assert plain is not None
        holes += int((clip.mask < plain.mask).any())
    assert holes >= 8
