"""Winograd's convolution in bfloat16 is as near to the exact one as bfloat16 allows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from imos_core.config import IMOS_R50
from imos_core.model import IMOS, inference, winograd_half
from imos_core.model.inference import for_inference
from imos_core.model.winograd import Workspace, add_residual, convolve
from imos_core.model.winograd_half import HalfWinogradConv2d, half_pays

SIZES = st.integers(1, 11)


def both(inner, outer, bias=True):
    torch.manual_seed(inner * 31 + outer)
    direct = nn.Conv2d(inner, outer, 3, padding=1, bias=bias).requires_grad_(False)
    return direct, HalfWinogradConv2d(direct, Workspace(torch.bfloat16))


def near(found, exact, most=0.012):
    """Whether a result in bfloat16 is off by some roundings (2 ** -9) only."""
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).norm() <= most * exact.norm()


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=SIZES,
    width=SIZES,
    bias=st.booleans(),
    relu=st.booleans(),
    most=st.sampled_from([1, 7, 900]),
)
def test_same_as_the_exact_convolution(batch, height, width, bias, relu, most):
    direct, quick = both(24, 17, bias)
    x = torch.randn(batch, 24, height, width).bfloat16()
    kept = x.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_half, "_TILES", most)
        found = convolve(quick, x, relu=relu)
    near(found, direct.double()((x.relu() if relu else x).double()))
    assert found.is_contiguous(memory_format=torch.channels_last) or 1 in found.shape
    assert torch.equal(x, kept)


def test_it_rounds_hardly_more_than_a_direct_one():
    direct, quick = both(256, 64)
    x = (torch.randn(1, 256, 1, 1) + 0.3 * torch.randn(1, 256, 24, 24)).relu().bfloat16()
    exact = direct.double()(x.double())
    usual = F.conv2d(x, direct.weight.bfloat16(), direct.bias.bfloat16(), padding=1)
    off, usually = ((y.double() - exact).norm() for y in (quick(x), usual))
    assert off < 2.5 * usually


def test_parts_of_the_channels_add_up():
    direct, quick = both(9, 4)
    x = torch.randn(2, 9, 10, 11).bfloat16()
    parts = convolve(quick, x[:, :6], bias=False) + convolve(quick, x[:, 6:], first=6)
    near(parts, direct.double()(x.double()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_residual_is_added_to_a_tensor(dtype):
    first, quick_first = both(6, 6)
    second, quick_second = both(6, 6, bias=False)
    quick_second.workspace = quick_first.workspace
    x = torch.randn(2, 6, 9, 12).bfloat16().to(memory_format=torch.channels_last)
    onto = torch.randn(2, 6, 9, 12).to(dtype)
    wanted = onto.double() + second.double()(first.double()(x.double().relu()).relu())
    assert add_residual(quick_first, quick_second, x, onto) is onto
    near(onto.bfloat16(), wanted)


def test_it_is_chosen_where_vector_units_multiply(monkeypatch):
    monkeypatch.setattr(winograd_half, "native", lambda dtype: True)
    for level, matrices, pays in (
        ("AVX512", False, True),
        ("AVX512", True, False),
        ("AVX2", False, False),
    ):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda level=level: level)
        monkeypatch.setattr(
            torch.cpu, "_is_amx_tile_supported", lambda says=matrices: says, raising=False
        )
        assert half_pays() is pays


@pytest.mark.parametrize("pays", [True, False])
def test_a_network_in_bfloat16_computes_so_where_it_pays(pays, monkeypatch):
    monkeypatch.setattr(inference, "half_pays", lambda: pays)
    network = for_inference(IMOS(IMOS_R50), torch.bfloat16)
    kinds = [m for m in network.modules() if isinstance(m, HalfWinogradConv2d)]
    assert len(kinds) == (17 if pays else 0)
