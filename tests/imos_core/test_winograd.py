"""Winograd's convolution gives what the direct one gives."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imos_core.model import winograd
from imos_core.model.blocks import FeatureFusion, Upsample, add_image
from imos_core.model.fused import native
from imos_core.model.winograd import WinogradConv2d, Workspace, add_residual, convolve

SIZES = st.integers(1, 13)


def both(inner, outer, bias=True):
    torch.manual_seed(inner * 31 + outer)
    direct = nn.Conv2d(inner, outer, 3, padding=1, bias=bias).requires_grad_(False)
    return direct, WinogradConv2d(direct, Workspace())


@pytest.fixture(params=[True, False])
def onednn(request, monkeypatch):
    """Whose products: oneDNN's, or those of `torch.bmm`."""
    if request.param and not native(torch.float32):
        pytest.skip("there is no oneDNN")
    monkeypatch.setattr(winograd, "by_onednn", lambda: request.param)


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


@pytest.mark.usefixtures("onednn")
def test_strips_of_a_large_image_fit_together(monkeypatch):
    monkeypatch.setattr(winograd, "_TILES", 6)
    direct, quick = both(3, 4)
    x = torch.randn(2, 3, 37, 22).to(memory_format=torch.channels_last)
    torch.testing.assert_close(quick(x), direct(x), atol=5e-6, rtol=1e-5)


@pytest.mark.usefixtures("onednn")
def test_parts_of_the_channels_add_up():
    direct, quick = both(9, 4)
    x = torch.randn(2, 9, 10, 11)
    parts = convolve(quick, x[:, :6], bias=False) + convolve(quick, x[:, 6:], first=6)
    torch.testing.assert_close(parts, direct(x), atol=5e-6, rtol=1e-5)


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_small_images_are_convolved_several_at_a_time(batch, monkeypatch):
    monkeypatch.setattr(winograd, "_TILES", 13)  # two images of six tiles
    direct, quick = both(6, 5)
    turns = []
    multiply = winograd._Factors.multiply
    monkeypatch.setattr(
        winograd._Factors, "multiply", lambda *a: (turns.append(a[1].shape[1]), multiply(*a))
    )
    x = torch.randn(batch, 6, 7, 10)
    torch.testing.assert_close(quick(x), direct(x), atol=5e-6, rtol=1e-5)
    assert turns == [12] * (batch // 2) + [6] * (batch % 2)


@pytest.mark.parametrize("into_input", [False, True])
def test_a_residual_is_added_to_a_tensor(into_input):
    first, quick_first = both(6, 6)
    second, quick_second = both(6, 6, bias=False)
    quick_second.workspace = quick_first.workspace
    x = torch.randn(2, 6, 9, 12).to(memory_format=torch.channels_last)
    onto = x if into_input else torch.randn(2, 6, 9, 12)
    wanted = onto + second(first(x.relu()).relu())
    kept = x.clone()
    assert add_residual(quick_first, quick_second, x, onto) is onto
    torch.testing.assert_close(onto, wanted, atol=1e-5, rtol=1e-5)
    assert into_input or torch.equal(x, kept)


@pytest.mark.parametrize("objects", [1, 3])
def test_channels_still_lie_last_where_an_image_was_added(objects):
    # else whatever comes next, such as enlarging, takes PyTorch's slow way
    image = torch.randn(1, 4, 6, 8).to(memory_format=torch.channels_last)
    group = torch.randn(objects, 4, 6, 8).to(memory_format=torch.channels_last)
    wanted = group + image
    for in_place in (False, True):
        found = add_image(group, image, in_place=in_place)
        assert torch.equal(found, wanted)
        larger = nn.functional.interpolate(found, scale_factor=2, mode="bilinear")
        assert larger.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("objects", [1, 2])
def test_enlarging_leaves_what_it_was_given(objects):
    torch.manual_seed(0)
    up = Upsample(5, 6, 4).requires_grad_(False)
    for size in ((4, 5), (8, 10)):
        skip, group = torch.randn(1, 5, 8, 10), torch.randn(objects, 6, *size)
        kept = skip.clone(), group.clone()
        wanted = up(skip, group)
        quick = copy.deepcopy(up)
        room = Workspace()
        for name in ("conv1", "conv2", "downsample"):
            child = getattr(quick.out_conv, name)
            setattr(quick.out_conv, name, WinogradConv2d(child, room))
        quick.in_place = quick.out_conv.in_place = True
        torch.testing.assert_close(quick(skip, group), wanted, atol=1e-5, rtol=1e-5)
        assert all(torch.equal(a, b) for a, b in zip((skip, group), kept, strict=True))


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
