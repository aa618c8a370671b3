"""Trend: the guide sees how the mask has just changed, in inference as in training."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny import TINY, disc_volume, tiny_model

from imos_core import propagate
from imos_core.data.batches import Batch
from imos_core.model import IMOS, Guide
from imos_core.preprocess import normalise
from imos_core.propagator import Propagator
from imos_core.training.unroll import renew_window, training_pass

CONFIG = replace(TINY, trend=True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return IMOS(CONFIG).requires_grad_(False)


def guided(model, earlier):
    """Logits of a slice whose mask was once `earlier`."""
    frame = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    features = model.encode_query(frame)
    value, hidden = model.encode_value(frame, features.f16, model.initial_hidden(frame, 1), mask)
    guide = Guide(frame, frame, mask, torch.zeros_like(mask), features.f4, earlier)
    return model.decode(features, value, hidden, guide=guide)[0]


def test_a_fresh_network_ignores_it_a_trained_one_does_not(model):
    small = torch.zeros(1, 1, 32, 32)
    small[..., 12:20, 12:20] = 1
    assert torch.equal(guided(model, small), guided(model, None))
    torch.nn.init.normal_(model.decoder.guide.trend.weight)
    assert not torch.allclose(guided(model, small), guided(model, None), atol=1e-3)
    # a mask that did not change has no trend
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    assert torch.equal(guided(model, mask), guided(model, None))


@pytest.fixture
def guides(monkeypatch):
    """Every guide that a decoder is shown, in order, beside the probabilities that it led to."""
    seen = []
    decode = IMOS.decode

    def watched(self, *args, guide=None, **options):
        logits, hidden = decode(self, *args, guide=guide, **options)
        seen.append((guide, torch.sigmoid(logits.detach().float())))
        return logits, hidden

    monkeypatch.setattr(IMOS, "decode", watched)
    return seen


def test_a_sequence_remembers_the_mask_before_the_last(model, guides):
    propagator = Propagator(model)
    frames = torch.randn(4, 3, 32, 32)
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:24] = 1
    propagator.memorize(frames[0], mask)
    for frame in frames[1:]:
        propagator.segment(frame)
    first, second, third = (guide for guide, _ in guides)
    assert torch.equal(first.earlier_mask, first.previous_mask)
    assert torch.equal(second.earlier_mask, first.previous_mask)
    assert torch.equal(third.earlier_mask, second.previous_mask)


def test_windows_remember_it_too_and_move_it_along(guides):
    image, labels = disc_volume(6, 64)
    model = tiny_model(CONFIG)
    prompt = labels[0].astype(np.uint8)
    list(propagate(image, {0: prompt}, model=model, device="cpu", window="auto"))
    assert len(guides) == 5
    assert torch.equal(guides[0][0].earlier_mask, guides[0][0].previous_mask)
    for (before, _), (now, _) in pairwise(guides):
        if torch.equal(now.previous_frame, before.frame):  # the window stayed
            assert torch.equal(now.earlier_mask, before.previous_mask)
        assert now.earlier_mask.shape == now.previous_mask.shape


def test_clips_show_it_through_the_new_window(guides):
    image, labels = disc_volume(5, 64)
    frames = torch.from_numpy(image).float()[:, None].expand(-1, 3, -1, -1) / 255
    mask = torch.from_numpy(labels.astype(np.float32))[None]
    moves = torch.tensor([[[0.8, 0.1, 0.0]]])
    batch = Batch(
        normalise(frames, "zscore")[None],
        mask,
        torch.zeros_like(mask),
        torch.tensor([2]),
        moves,
    )
    training_pass(tiny_model(CONFIG), batch, iteration=0, warm_up=(1, 2))
    first, second, third = (guide for guide, _ in guides)
    assert torch.equal(first.earlier_mask, mask[:, :1])
    expected = renew_window(mask[:, :1], moves[:, 0])
    assert torch.equal(second.earlier_mask, expected)
    assert torch.equal(third.earlier_mask, second.previous_mask)
