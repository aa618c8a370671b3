"""Axes in another order and held axes, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imos_core.arrays.axes import AxesView, held
from imos_core.arrays.channels import limits_of, pick_channels

ARRAY = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


@given(st.permutations(range(4)), st.integers(1, 4), st.data())
def test_a_view_is_the_transposed_array_at_a_place(order, count, data):
    axes, left_out = order[:count], sorted(order[count:])
    at = {a: data.draw(st.integers(0, ARRAY.shape[a] - 1)) for a in left_out}
    view = AxesView(ARRAY, axes, at)
    there = np.transpose(ARRAY, [*axes, *left_out])[(..., *(at[a] for a in left_out))]
    key = tuple(
        data.draw(st.integers(0, n - 1) | st.just(slice(None)) | st.just(slice(1, n)))
        for n in there.shape
    )
    assert (view.shape, view.ndim, view.dtype) == (there.shape, there.ndim, there.dtype)
    np.testing.assert_array_equal(view[key], there[key])
    np.testing.assert_array_equal(view[key[:1]], there[key[:1]])
    np.testing.assert_array_equal(view[(..., key[-1])], there[..., key[-1]])
    np.testing.assert_array_equal(np.asarray(view), there)


@given(st.dictionaries(st.integers(0, 3), st.integers(0, 1), max_size=3))
def test_held_axes_are_gone(at):
    wanted = ARRAY[tuple(at.get(a, slice(None)) for a in range(4))]
    np.testing.assert_array_equal(held(ARRAY, at)[:], wanted)


def test_what_is_masked_is_unknown_at_a_place_and_in_channels_too():
    masked = np.ma.masked_less(ARRAY.astype(np.uint16), 70)
    view = held(masked, {0: 1})
    np.testing.assert_array_equal(view[0], np.where(ARRAY[1, 0] < 70, np.nan, ARRAY[1, 0]))
    assert view.dtype == view[0].dtype == np.float32
    channels = pick_channels(masked, 0, [0, 1], 0, {}, limits=[(0, 60), (0, 120)])[:]
    assert not channels[..., 0].any()
    np.testing.assert_allclose(
        channels[0, ..., 1], np.where(ARRAY[1, 0] < 70, 0, ARRAY[1, 0] / 120)
    )


def test_tensors_of_torch_are_seen_as_arrays():
    tensor = torch.tensor(ARRAY, dtype=torch.bfloat16, requires_grad=True)
    view = held(tensor, {0: 1})
    np.testing.assert_array_equal(view[2], ARRAY[1, 2])
    assert view.dtype == np.float32
    channels = pick_channels(tensor, 0, [0, 1], 0, {})
    assert channels[1].shape == (4, 5, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_channel_that_hardly_shows_anything_keeps_its_shades(dtype):
    sparse = np.zeros((2, 3, 64, 64), dtype)
    sparse[0] = np.arange(64)
    sparse[1, :, 20:24, 20:24] = [100, 100, 400, 400]  # less than 0.5 % of the slice
    shades = pick_channels(sparse, 0, [0, 1], 0, {1: sparse[1, 1] > 400})[1][20:24, 20:24, 1]
    np.testing.assert_allclose(shades, [[0.25, 0.25, 1, 1]] * 4)


@pytest.mark.parametrize("dtype", [np.uint16, np.float64])
def test_a_channel_shows_what_is_painted_however_little_that_is(dtype):
    channel = np.random.default_rng(0).integers(90, 110, (3, 256, 256)).astype(dtype)
    painted = np.zeros((256, 256), np.uint8)
    painted[40:46, 40:46] = 1
    alike = limits_of(channel, 0, {1: painted})
    channel[1, 39:48, 39:51] = 2600  # less than 0.5 % of the slice
    channel[1, 41:45, 41:45] = 1600
    assert limits_of(channel, 0, {1: np.zeros_like(painted)})[1] < 150
    low, high = limits_of(channel, 0, {1: painted})
    assert (low, high) == (alike[0], 2600)
    channel[1, 38:50, 38:52] = 100
    channel[1, 100:] = 9000
    high = limits_of(channel, 0, {1: painted})[1]
    assert high == 9000, "noise is not spread where the object does not show"
