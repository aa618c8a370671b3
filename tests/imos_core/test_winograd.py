"""Winograd's convolution gives what the direct one gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imos_core.model import winograd
from imos_core.model.blocks import FeatureFusion
from imos_core.model.winograd import WinogradConv2d, Workspace, convolve

SIZES = st.integers(1, 13)


def both(inner, outer, bias=True):
    torch.manual_seed(inner * 31 + outer)
    direct = nn.Conv2d(inner, outer, 3, padding=1, bias=bias).requires_grad_(False)
    return direct, WinogradConv2d(direct, Workspace())


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 3), height=SIZES, width=SIZES, bias=st.booleans(), relu=st.booleans())
def test_same_as_the_direct_convolution(batch, height, width, bias, relu):
    direct, quick = both(5, 7, bias)
    x = torch.randn(batch, 5, height, width)
    kept = x.clone()
    found = convolve(quick, x, relu=relu)
    torch.testing.assert_close(found, convolve(direct, x, relu=relu), atol=5e-6, rtol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last) or 1 in found.shape
    assert torch.equal(x, kept)


def test_strips_of_a_large_image_fit_together(monkeypatch):
    monkeypatch.setattr(winograd, "_TILES", 6)
    direct, quick = both(3, 4)
    x = torch.randn(2, 3, 37, 22).to(memory_format=torch.channels_last)
    torch.testing.assert_close(quick(x), direct(x), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("onednn", [True, False])
def test_parts_of_the_channels_add_up(onednn, monkeypatch):
    if not onednn:
        monkeypatch.setattr(winograd, "native", lambda dtype: False)
    direct, quick = both(9, 4)
    x = torch.randn(2, 9, 10, 11)
    parts = convolve(quick, x[:, :6], bias=False) + convolve(quick, x[:, 6:], first=6)
    torch.testing.assert_close(parts, direct(x), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("objects", [1, 3])
def test_image_and_objects_are_fused_as_by_direct_convolutions(objects):
    torch.manual_seed(0)
    fuse = FeatureFusion(6, 5, 8, 2).requires_grad_(False)
    image, group = torch.randn(2, 6, 9, 7), torch.randn(2 * objects, 5, 9, 7)
    kept = image.clone(), group.clone()
    with torch.no_grad():
        wanted = fuse(image, group)
        room = Workspace()
        for block in (fuse.block1, fuse.block2):
            for name, child in list(block.named_children()):
                setattr(block, name, WinogradConv2d(child, room))
        torch.testing.assert_close(fuse(image, group), wanted, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip((image, group), kept, strict=True))


def test_room_is_shared_and_nothing_of_the_convolution_before_is_left_in_it():
    room = Workspace()
    large, small = nn.Conv2d(8, 3, 3, padding=1), nn.Conv2d(2, 5, 3, padding=1)
    for direct, size in ((large, 20), (small, 9), (large, 5)):
        x = torch.randn(1, direct.in_channels, size, size + 2)
        with torch.inference_mode():
            found = WinogradConv2d(direct, room)(x)
            torch.testing.assert_close(found, direct(x), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "serves"),
    [
        ({}, True),
        ({"stride": 2}, False),
        ({"padding": 0}, False),
        ({"dilation": 2}, False),
        ({"groups": 2}, False),
        ({"kernel_size": 1}, False),
        ({"in_channels": 128}, False),
    ],
)
def test_what_it_serves(options, serves):
    given = {"in_channels": 256, "out_channels": 256, "kernel_size": 3, "padding": 1, **options}
    with torch.device("meta"):
        assert WinogradConv2d.serves(nn.Conv2d(**given)) is serves
