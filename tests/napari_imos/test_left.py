"""What runs left is told for every slice along every axis, and takes up little more than itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imos_core.boxes import box_of
from napari_imos._record.left import LeftLabels, within

ALL = slice(None)


@given(data=st.data(), shape=st.sampled_from([(3, 70, 130), (2, 3, 65, 64), (66, 2, 3, 5)]))
def test_it_says_what_was_written_last(data, shape):
    left, dense = LeftLabels(), np.zeros(shape, np.int32)

    def draw_where():
        whole = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=2, max_size=2))
        return tuple(
            ALL if a in whole else data.draw(st.integers(0, n - 1)) for a, n in enumerate(shape)
        )

    def draw_part(n):
        start = data.draw(st.integers(0, n - 1))
        return slice(start, data.draw(st.integers(start, n)))

    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    axis, *others = data.draw(st.permutations(range(len(shape))))
    fixed = {a: data.draw(st.integers(0, shape[a] - 1)) for a in others[: len(shape) - 3]}

    def check_along():
        part = dense[tuple(fixed.get(a, ALL) for a in range(len(shape)))]
        part = np.moveaxis(part, axis - sum(a < axis for a in fixed), 0).reshape(shape[axis], -1)
        shown = {n: set(np.flatnonzero((part == n).any(1)).tolist()) for n in (1, 2, 3, 6, 9)}
        for label, slices in shown.items():
            assert left.along(axis, fixed, label) == slices
        assert left.all_along(axis, fixed) == {n: slices for n, slices in shown.items() if slices}

    for _ in range(data.draw(st.integers(1, 5))):
        check_along()
        where = draw_where()
        plane = dense[where]
        count = data.draw(st.integers(1, plane.size))
        voxels = rng.choice(plane.size, count, replace=False).astype(np.int32)
        values = rng.integers(0, 4, count, dtype=np.int32)
        left.write(where, voxels, values, shape)
        plane[np.unravel_index(voxels, plane.shape)] = values
        where = draw_where()
        np.testing.assert_array_equal(left.read(where, dense[where]), dense[where])
        held = left.held(where, dense[where])
        if held is None:
            assert not dense[where].any()
        else:
            np.testing.assert_array_equal(held, dense[where])
        box = left.box(where, dense[where])
        kept = np.zeros_like(dense[where])
        if box is not None:
            kept[box] = dense[where][box]
        np.testing.assert_array_equal(kept, dense[where])
        rows, columns = dense[where].shape
        part = within(where, (draw_part(rows), draw_part(columns)))
        np.testing.assert_array_equal(left.read(part, dense[part]), dense[part])
    check_along()
    whole = np.zeros_like(dense)
    for key, plane in left.planes():
        assert plane.any()
        whole[key] = plane
    np.testing.assert_array_equal(whole, dense)
    held = np.where(data.draw(st.booleans()), dense, 0)
    held[tuple(n // 2 for n in shape)] = 1  # as a fill bucket may leave one voxel
    held[tuple(n // 3 for n in shape)] = 5
    left.rename({1: 9, 3: 1, 2: 0}, {1: {1: 1, 5: 6}}, held)
    was = dense.copy()
    dense[(was == 1) & (held != 1)] = 9
    dense[(was == 1) & (held == 5)] = 6
    dense[was == 3] = 1
    dense[was == 2] = 0
    whole[:] = 0
    for key, plane in left.planes():
        assert plane.any()
        whole[key] = plane
    np.testing.assert_array_equal(whole, dense)
    check_along()


def test_a_box_holds_all_and_no_more():
    plane = np.zeros((7, 9), int)
    assert box_of(plane) is None
    plane[2, 3] = plane[4, 8] = 1
    assert box_of(plane) == (slice(2, 5), slice(3, 9))


def test_a_copy_is_its_own():
    left, other = LeftLabels(), LeftLabels()
    at, voxels = (1, ALL, ALL), np.arange(5, dtype=np.int32)
    left.write(at, voxels, np.full(5, 3), (2, 8, 9))
    other.take(left)
    left.write(at, voxels, np.full(5, 4), (2, 8, 9))
    like = np.zeros((8, 9), int)
    assert left.read(at, like).max() == 4
    assert other.read(at, like).max() == 3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_looked_for_once(axis):
    left, where, voxels = LeftLabels(), (1, ALL, ALL), np.arange(150, dtype=np.int32)
    # so high that no number holds label and position together
    left.write(where, voxels, np.full(150, 2**64 - 1, np.uint64), (2, 3, 70))
    found = left.all_along(axis, {})
    assert found == {2**64 - 1: [{1}, {0, 1, 2}, set(range(70))][axis]}
    assert left.all_along(axis, {}) is found
    left.clear()
    assert left.all_along(axis, {}) == {}


def size_of(left):
    return sum(tile.nbytes for tiles in left._planes.values() for tile in tiles.values())


@pytest.mark.parametrize("corner", [0, 1000, 1983])
def test_an_object_in_a_large_plane_takes_up_little(corner):
    left, at = LeftLabels(), (0, ALL, ALL)
    mask = np.zeros((2048, 2048), bool)
    mask[corner : corner + 65, corner : corner + 65] = True
    voxels = np.flatnonzero(mask).astype(np.int32)
    left.write(at, voxels, np.full(voxels.size, 7, np.int32), (1, 2048, 2048))
    assert size_of(left) <= 4 * 129 * 193
    # what was taken back takes up nothing
    left.write(at, voxels, np.zeros(voxels.size, np.int32), (1, 2048, 2048))
    assert size_of(left) == 0
    assert left.held(at, mask.astype(np.int32)) is None
