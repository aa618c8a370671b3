"""OnGrid: an image on the voxels of labels that lie elsewhere in it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from imos_core.arrays.on_grid import Grid, OnGrid

SHAPE = (12, 20, 24)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(1, 255, SHAPE).astype(np.uint8)


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(-9, 9)] * 3),
    st.tuples(*[st.integers(1, 14)] * 3),
    st.data(),
)
def test_moved_it_is_a_part_of_the_padded_array(starts, shape, data):
    array = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    view = OnGrid(array, starts, (1, 1, 1), shape, -5)
    whole = np.pad(array, 40, constant_values=-5)[
        tuple(slice(40 + s, 40 + s + n) for s, n in zip(starts, shape, strict=True))
    ]
    assert (view.shape, view.dtype) == (shape, array.dtype)
    key = tuple(
        data.draw(
            st.integers(0, n - 1) | st.just(slice(None)) | st.just(slice(n // 3, n, 2)),
            label="key",
        )
        for n in shape
    )
    np.testing.assert_array_equal(view[key], whole[key])


def test_finer_voxels_are_interpolated(pixels):
    view = OnGrid(pixels, (0, 2, -0.25), (1, 0.5, 0.5), (12, 30, 20), 0)
    places = np.meshgrid(
        np.arange(12), 2 + 0.5 * np.arange(30), -0.25 + 0.5 * np.arange(20), indexing="ij"
    )
    wanted = ndimage.map_coordinates(
        pixels.astype(np.float32), places, order=1, mode="grid-constant"
    )
    assert view.dtype == np.float32
    np.testing.assert_allclose(view[:], wanted, atol=1e-3)
    np.testing.assert_allclose(view[5], wanted[5], atol=1e-3)
    np.testing.assert_allclose(view[5, 3:20], wanted[5, 3:20], atol=1e-3)


def test_coarser_voxels_show_the_mean_of_many():
    rng = np.random.default_rng(0)
    noise = rng.normal(100, 30, (4, 200, 200)).astype(np.float32)
    view = OnGrid(noise, (0, 2, 2), (1, 5, 5), (4, 39, 39), 0)
    plane = view[1, 2:-2, 2:-2]
    assert plane.mean() == pytest.approx(100, abs=2)
    assert plane.std() < 12


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_voxels_far_from_zero_keep_their_shades(pixels, dtype):
    far = pixels.astype(dtype) + 10**12
    place = (0, 2, -0.25), (1, 0.5, 0.5), (12, 30, 20)
    wanted = OnGrid(pixels, *place, 7)[:]
    np.testing.assert_allclose(OnGrid(far, *place, 10**12 + 7)[:] - 10**12, wanted, atol=1e-3)
    holes = far.astype(float)
    holes[3, 4:6, 4:6] = np.nan
    assert np.ptp(OnGrid(holes, *place, 10**12 + 7)[:]) < 256


def test_colours_stay_last(pixels):
    colour = np.stack([pixels, pixels[::-1], 255 - pixels], -1)
    for steps in ((1, 1, 1), (1, 2, 2)):
        view = OnGrid(colour, (1, 0, 0), steps, (10, 8, 8), 0)
        assert view.shape == (10, 8, 8, 3)
        assert view[3].shape == (8, 8, 3)
        alone = OnGrid(colour[..., 1], (1, 0, 0), steps, (10, 8, 8), 0)
        np.testing.assert_allclose(view[3][..., 1], alone[3], atol=1e-3)


def test_nothing_is_read_of_what_is_not_asked_for(pixels):
    read = []

    class Watched:
        shape, dtype = pixels.shape, pixels.dtype

        def __getitem__(self, key):
            read.append(pixels[key].size)
            return pixels[key]

    OnGrid(Watched(), (2, 5, 5), (1, 1, 1), (8, 10, 10), 0)[4]
    OnGrid(Watched(), (2, 5, 5), (1, 1, 1), (30, 10, 10), 0)[25]
    assert read == [100]


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("steps", [(1, 1, 1), (0.5, 0.5, 2)])
def test_chunks_are_read_once_and_only_what_is_beneath_the_grid(steps, axis):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 30, 28, 3)).astype(np.uint8)
    read = []

    class Chunked:
        shape, dtype, chunks = pixels.shape, pixels.dtype, (8, 30, 7, 3)

        def __getitem__(self, key):
            read.append(key)
            return pixels[key]

    shape, starts = (16, 9, 10), (3, 4, 5)
    view = OnGrid(Chunked(), starts, steps, shape, 0, axis)
    plain = OnGrid(pixels, starts, steps, shape, 0, axis)
    middle = shape[axis] // 2
    for k in [*range(middle, shape[axis]), *range(middle - 1, -1, -1)]:
        where = (slice(None),) * axis + (k,)
        np.testing.assert_array_equal(view[where], plain[where])
    along = [range(*key[axis].indices(pixels.shape[axis])) for key in read]
    # one chunk at a time, none of them twice
    assert all(len(r) == Chunked.chunks[axis] for r in along)
    assert len({r.start for r in along}) == len(along)
    # rows of the grid, and those that are mixed into them
    rows = {(key[1].start, key[1].stop) for key in read}
    assert rows == ({(4, 13)} if steps[1] == 1 else {(3, 10)})


def test_a_grid_comes_back_from_a_record():
    grid = Grid((4.0, 5.0, -6.5), (1.0, 0.5, 2.0), (12, 20, 24), 3.0)
    assert Grid.from_plain(json.loads(json.dumps(grid.plain()))) == grid


@pytest.mark.parametrize(("axis", "through"), [(0, 0), (1, 1), (2, 0), (2, 2)])
def test_a_slice_of_every_step(axis, through):
    rng = np.random.default_rng(0)
    film = rng.integers(1, 255, (4, *SHAPE)).astype(np.uint8)
    grid = Grid((2.0, -1.0, 0.5), (1.0, 0.5, 2.0), SHAPE, 0.0)
    shape = (8, 30, 10)
    k = 3
    one = np.take(film, grid.index(axis, k), axis=1 + axis)
    rest = [n for a, n in enumerate(shape) if a != axis]
    view = grid.across(axis, through, len(film)).on(
        np.moveaxis(one, 0, through), [*rest[:through], len(film), *rest[through:]], through
    )
    wanted = np.stack(
        [grid.on(volume, shape, axis)[(slice(None),) * axis + (k,)] for volume in film]
    )
    np.testing.assert_allclose(np.moveaxis(view[:], through, 0), wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"starts": [1, 2]}, "no grid"),
        ({"steps": [1, 0, 1]}, "no grid"),
        ({"fill": "much"}, "could not convert"),
    ],
)
def test_a_damaged_record_is_no_grid(change, words):
    with pytest.raises(ValueError, match=words):
        Grid.from_plain(Grid((0,) * 3, (1,) * 3, SHAPE, 0).plain() | change)


def test_what_is_not_finite_does_not_spread():
    array = np.full((6, 10, 10), 5.0, np.float32)
    array[:, :4], array[:, 9, 9] = np.nan, np.inf
    array[:, 9, 0] = -np.inf
    clean = array.copy()
    clean[:, :4], clean[:, 9, 9], clean[:, 9, 0] = 1, 5, 1
    seen, wanted = (OnGrid(a, (0, 0, 0), (1, 2, 2), (6, 5, 5), 1.0) for a in (array, clean))
    np.testing.assert_array_equal(seen[2], wanted[2])
    assert np.isfinite(seen[2]).all()
