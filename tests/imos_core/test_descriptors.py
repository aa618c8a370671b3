"""Dense descriptors: geometry, invariance, what stays frozen, and what they add to the guide."""

from dataclasses import replace

import pytest
import torch
from tiny import TINY

from imos_core.config import DESCRIPTOR_DIM
from imos_core.model import IMOS, Guide
from imos_core.model.descriptors import DenseDescriptors
from imos_core.model.guide import GuideEncoder, LocalMatching


@pytest.fixture(scope="module")
def described():
    torch.manual_seed(0)
    return DenseDescriptors().eval()


def test_one_unit_variance_descriptor_per_cell(described):
    out = described(torch.randn(2, 3, 48, 64))
    assert out.shape == (2, DESCRIPTOR_DIM, 12, 16)
    assert torch.allclose(out.square().mean(1), torch.ones(2, 12, 16), atol=1e-4)


def test_brightness_and_contrast_change_nothing(described):
    frame = torch.randn(1, 3, 64, 64)
    assert torch.allclose(described(frame), described(3 * frame + 7), atol=1e-3)


def test_descriptors_are_frozen_the_rest_is_not():
    model = IMOS(replace(TINY, descriptors=True))
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(n.startswith("key_encoder.descriptors.") for n in frozen)


def test_a_fresh_network_ignores_its_descriptors():
    """What they feed starts at zero, so that trained weights may grow them."""
    config = replace(TINY, descriptors=True)
    torch.manual_seed(1)
    guide = GuideEncoder(config)
    assert not guide.tracked.weight.any()
    model = IMOS(config)
    assert not model.key_encoder.describe.weight.any()
    assert model.decoder.trust_tracked.item() == 0


@pytest.mark.parametrize("shift", [(0, 3), (2, -4)])
def test_distinct_features_carry_the_mask_along(shift):
    """Where every cell has its own feature, the mask goes where the features go."""
    torch.manual_seed(2)
    matching = LocalMatching(16, temperature=5.0, nearness=-12.0).eval()
    features = torch.randn(1, 16, 16, 16)
    cells = (torch.rand(1, 32, 16, 16) > 0.5).float()
    moved, flow = matching(features, features.roll(shift, (2, 3)), cells)
    inner = (..., slice(4, -4), slice(4, -4))
    assert torch.allclose(moved[inner], cells.roll(shift, (2, 3))[inner], atol=0.02)
    assert torch.allclose(flow[inner][0, 0], torch.full((8, 8), -float(shift[0])), atol=0.1)
    assert torch.allclose(flow[inner][0, 1], torch.full((8, 8), -float(shift[1])), atol=0.1)


def test_a_described_network_segments():
    model = IMOS(replace(TINY, descriptors=True)).eval()
    frame = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        features = model.encode_query(frame)
        assert features.f4.shape[1] == model.config.f4_channels
        hidden = model.initial_hidden(frame, 1)
        mask = torch.rand(2, 1, 32, 32)
        value, hidden = model.encode_value(frame, features.f16, hidden, mask)
        guide = Guide(frame, frame, mask, torch.zeros_like(mask), features.f4)
        logits, _ = model.decode(features, value, hidden, guide=guide)
    assert logits.shape == (2, 1, 32, 32)
    assert torch.isfinite(logits).all()
