"""Augmentation: looks change within 0..1, the prompt is spared accidents, inputs are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imos_core.data import augment, damage
from imos_core.data.augment import stain
from imos_core.data.damage import damaged

EFFECTS = [effect for _, effect in augment._EFFECTS]
NEED_COLOUR = {augment._recolour}
NEED_NEIGHBOURS = {augment._thicken, damaged}
NEED_WHOLE_BLOCKS = {augment._compress}


def clip(frames=4, size=(24, 32), channels=3, seed=0):
    """A textured clip with a bright, drifting square, in 0.05..0.95."""
    generator = torch.Generator().manual_seed(seed)
    pixels = 0.1 + 0.4 * torch.rand(frames, channels, *size, generator=generator)
    for t in range(frames):
        pixels[t, :, 4:12, 2 + t : 10 + t] += 0.4
    return pixels


def grey_clip(frames=4, size=(24, 32)):
    return clip(frames, size, channels=1).expand(-1, 3, -1, -1)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("make", [clip, grey_clip])
def test_stained_clips_keep_their_range_and_their_input(make):
    frames = make()
    before = frames.clone()
    changed = 0
    for seed in range(40):
        out = stain(frames, rng(seed))
        assert out.shape == frames.shape
        assert out.isfinite().all()
        assert 0 <= float(out.min()) <= float(out.max()) <= 1
        assert torch.equal(frames, before)
        changed += not torch.equal(out, frames)
    assert changed >= 38


def test_grey_stays_grey_and_colour_mostly_stays_colour():
    coloured = 0
    for seed in range(40):
        grey = stain(grey_clip(), rng(seed))
        assert torch.equal(grey[:, 0], grey[:, 1])
        assert torch.equal(grey[:, 0], grey[:, 2])
        out = stain(clip(), rng(seed))
        coloured += bool((out[:, 0] != out[:, 1]).any())
    assert 10 < coloured < 36  # some become grey: scanners know no colours


def test_the_same_seed_stains_alike_and_another_does_not():
    for seed in range(10):
        first, again = stain(clip(), rng(seed)), stain(clip(), rng(seed))
        assert torch.equal(first, again)
    assert not torch.equal(stain(clip(), rng(3)), stain(clip(), rng(4)))


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda e: e.__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_effect_changes_something_but_not_its_input(effect, channels):
    frames = clip(channels=channels)
    before = frames.clone()
    outs = [effect(frames, rng(seed)) for seed in range(5)]
    assert torch.equal(frames, before)
    assert all(out.shape == frames.shape for out in outs)
    assert all(out.isfinite().all() for out in outs)
    changed = sum(not torch.equal(out, frames) for out in outs)
    assert changed == (0 if effect in NEED_COLOUR and channels == 1 else 5)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda e: e.__name__)
@pytest.mark.parametrize("shape", [(1, 24, 32), (3, 17, 23), (1, 9, 11), (2, 16, 16)])
def test_every_effect_takes_single_frames_and_odd_sizes(effect, shape):
    steps, *size = shape
    frames = clip(steps, size)
    out = effect(frames, rng(1))
    assert out.shape == frames.shape
    assert out.isfinite().all()
    idle = (effect in NEED_NEIGHBOURS and steps < 2 + (effect is damaged)) or (
        effect in NEED_WHOLE_BLOCKS and any(n % 8 for n in size)
    )
    assert torch.equal(out, frames) == idle


def test_single_frames_of_odd_sizes_are_stained():
    for seed in range(20):
        for frames in (clip(1, (17, 23)), grey_clip(1, (17, 23))):
            out = stain(frames, rng(seed))
            assert out.shape == frames.shape
            assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_damage_spares_the_prompt_and_most_of_the_others():
    frames = clip(6)
    before = frames.clone()
    struck = []
    for seed in range(60):
        out = damaged(frames, rng(seed))
        assert torch.equal(out[0], frames[0])
        struck.append([t for t in range(6) if not torch.equal(out[t], frames[t])])
    assert torch.equal(frames, before)
    assert {len(places) for places in struck} <= {1, 2}
    assert {t for places in struck for t in places} == {1, 2, 3, 4, 5}


def test_clips_of_two_frames_are_not_damaged():
    frames = clip(2)
    assert damaged(frames, rng()) is frames


def test_grey_frames_are_damaged_alike_in_all_channels():
    for seed in range(20):
        out = damaged(grey_clip(), rng(seed))
        assert torch.equal(out[:, 0], out[:, 1])


@pytest.mark.parametrize("kind", damage._KINDS, ids=lambda k: k.__name__)
def test_every_accident_changes_the_frame_alone(kind):
    frames = clip(2, (17, 24))
    before = frames.clone()
    changed = 0
    for seed in range(8):
        out = kind(frames[1], frames[0], rng(seed))
        assert out.shape == frames[1].shape
        assert out.isfinite().all()
        again = kind(frames[1], frames[0], rng(seed))
        assert torch.equal(out, again)
        changed += not torch.equal(out, frames[1])
    assert torch.equal(frames, before)
    assert changed >= 6  # a band of rows that jumped may be empty


def test_a_ghost_never_hides_the_frame_whose_truth_counts():
    here, before = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    shares = [float(damage._ghost(here, before, rng(seed)).mean()) for seed in range(30)]
    assert 0.25 < min(shares) < max(shares) <= 0.6
