"""Samples of planes: edges go on outside, also where torch does not continue them itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from imos_core import sampling
from imos_core.device import pick_device


@settings(deadline=None)  # torch is slow at first
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 99))
def test_edges_go_on_where_torch_does_not_continue_them(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(2, 3, height, width, generator=generator)
    x, y = 4 * torch.rand(2, 2, 9, 8, generator=generator) - 2
    expected = F.grid_sample(
        planes, torch.stack([x, y], -1), padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(sampling.sample_at(planes, x, y, border=True), expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_continues", lambda device: False)
        found = sampling.sample_at(planes, x, y, border=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_one_plane_serves_many_places():
    plane = torch.rand(1, 2, 20, 30)
    x, y = 2 * torch.rand(5, 1, 7) - 1, 2 * torch.rand(5, 6, 1) - 1
    for border in (True, False):
        together = sampling.sample_at(plane, x, y, border=border)
        alone = sampling.sample_at(plane.expand(5, -1, -1, -1), x, y, border=border)
        torch.testing.assert_close(together, alone)


def test_an_apple_gpu_has_to_be_asked_for(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    assert pick_device("mps").type == "mps"
    assert not sampling._continues(pick_device("mps"))
