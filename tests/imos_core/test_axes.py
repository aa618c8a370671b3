"""Axes in another order and held axes, against numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imos_core.axes import AxesView, held

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
