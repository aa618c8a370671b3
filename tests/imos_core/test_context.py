"""Image context: geometry, what stays frozen, what is clipped, and what a fresh network does."""

from dataclasses import replace

import pytest
import torch
from tiny import TINY

from imos_core.config import CONTEXT_DIMS
from imos_core.model import IMOS
from imos_core.model.context import ImageContext
from imos_core.model.inference import for_inference


@pytest.fixture(scope="module")
def context():
    torch.manual_seed(0)
    return ImageContext().eval()


def test_every_cell_has_zero_mean_and_unit_variance(context):
    fine, coarse = context(torch.randn(2, 3, 48, 64))
    assert fine.shape == (2, CONTEXT_DIMS[0], 12, 16)
    assert coarse.shape == (2, CONTEXT_DIMS[1], 6, 8)
    for features in (fine, coarse):
        assert features.mean(1).abs().max() < 1e-4
        assert torch.allclose(features.var(1, correction=0), torch.tensor(1.0), atol=0.02)


def test_a_step_of_one_cell_moves_everything_by_one_cell(context):
    """Uneven padding must not let cells drift against the image."""
    frame = torch.randn(1, 3, 192, 192)
    fine, coarse = context(frame)
    moved_fine, moved_coarse = context(frame.roll(8, 3))
    inner = (..., slice(9, -9), slice(9, -9))
    assert torch.allclose(moved_coarse.roll(-1, 3)[inner], coarse[inner], atol=1e-3)
    assert torch.allclose(moved_fine.roll(-2, 3)[inner], fine[inner], atol=1e-3)


def test_context_is_frozen_and_a_fresh_network_ignores_it():
    model = IMOS(replace(TINY, context=True, descriptors=True))
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert all(n.startswith(("key_encoder.context", "key_encoder.descriptors")) for n in frozen)
    assert any(n.startswith("key_encoder.context") for n in frozen)
    assert not model.key_encoder.recognise.weight.any()


@pytest.mark.parametrize("stride", [8, 16])
def test_for_inference_computes_the_same_context(stride):
    torch.manual_seed(1)
    model = IMOS(replace(TINY, context=True, memory_stride=stride))
    torch.nn.init.normal_(model.key_encoder.recognise.weight)
    for name, parameter in model.key_encoder.context.named_parameters():
        if name.endswith("weight"):
            parameter.mul_(4.0)  # so that something is clipped
    fast = for_inference(model, torch.float32)
    frame = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        for ours, theirs in zip(fast.encode_query(frame), model.encode_query(frame), strict=True):
            assert ours.shape == theirs.shape
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-2)
