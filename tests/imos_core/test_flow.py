"""Optical flow: known shifts, sub-pixel steps, brightness, and warping as its inverse."""

import pytest
import torch
from torch.nn import functional as F

from imos_core.model.flow import optical_flow, warp


def _texture(size=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 1, size // 6, size // 6, generator=generator)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)


@pytest.mark.parametrize("step", [(0.0, 0.0), (3.0, -2.0), (0.5, 0.25), (-7.0, 5.0)])
def test_a_shift_is_found(step):
    before = _texture()
    known = torch.tensor(step)[None, :, None, None].expand(1, 2, 96, 96)
    now = warp(before, known)
    found = optical_flow(now, before)
    inner = (..., slice(20, -20), slice(20, -20))
    assert (found - known)[inner].abs().mean() < 0.1


def test_nothing_moves_where_there_is_no_texture():
    flat = torch.ones(1, 1, 64, 64)
    assert not optical_flow(flat, flat).any()


def test_halves_of_a_batch_do_not_mix():
    a, b = _texture(64, 1), _texture(64, 2)
    both = optical_flow(torch.cat([a.roll(2, 3), b]), torch.cat([a, b]))
    assert torch.allclose(both[:1], optical_flow(a.roll(2, 3), a), atol=1e-4)
    assert torch.allclose(both[1:], optical_flow(b, b), atol=1e-4)


def test_half_precision_around_it_changes_nothing():
    before = _texture(64)
    now = before.roll(3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        inside = optical_flow(now, before)
    assert torch.equal(inside, optical_flow(now, before))


def test_warping_moves_a_mask_back_to_where_it_came_from():
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 10:20, 8:18] = 1
    flow = torch.zeros(1, 2, 32, 32)
    flow[:, 0] = -4  # now(x) = before(x - 4): it went right by four
    assert torch.equal(warp(mask, flow), mask.roll(4, 3))
