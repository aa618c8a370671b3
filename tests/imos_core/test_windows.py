"""Windows: they hold their object, follow it, and what is cut comes back in place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, binary_erosion
from tiny import TINY, tiny_model
from torch.nn import functional as F

from imos_core import propagate
from imos_core.anchors import Leg, Patch
from imos_core.boxes import box_of, objects_of
from imos_core.config import IMOS_COMPACT, IMOS_R50
from imos_core.cutting import move_features, paste, sample, window_grid
from imos_core.sweep import Sweep
from imos_core.walking.cohort import WindowCohort
from imos_core.walking.planes import Planes
from imos_core.walking.sight import Sight
from imos_core.walking.starts import starts_of
from imos_core.windows import Window, follow, is_thin, window_around

CPU = torch.device("cpu")


def _box(shape, top, bottom, left, right):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def full_window(shape):
    """Return the window that is the whole slice."""
    height, width = shape
    return Window(height / 2, width / 2, float(height), float(width))


def test_the_full_window_at_full_size_changes_nothing():
    image = torch.rand(3, 24, 40)
    grid = window_grid(full_window((24, 40)), (24, 40), CPU)
    torch.testing.assert_close(sample(image, grid, border=True), image, atol=1e-5, rtol=0)


def test_enlarging_is_plain_bilinear_interpolation():
    image = torch.rand(3, 24, 40)
    grid = window_grid(full_window((24, 40)), (48, 80), CPU)
    expected = F.interpolate(image[None], (48, 80), mode="bilinear")[0]
    torch.testing.assert_close(sample(image, grid, border=True), expected, atol=1e-4, rtol=0)


def test_reducing_averages_rather_than_skips():
    stripes = torch.zeros(1, 64, 64)
    stripes[:, :, ::2] = 1
    grid = window_grid(full_window((64, 64)), (16, 16), CPU)
    assert float((sample(stripes, grid, border=True) - 0.5).abs().max()) < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 80),
    st.integers(0, 80),
    st.integers(3, 60),
    st.integers(3, 60),
    st.sampled_from([(1.0, 1.0), (1.0, 3.0), (2.0, 1.0)]),
)
def test_a_window_holds_its_object_and_brings_it_back(top, left, height, width, spacing):
    shape = (90, 100)
    mask = _box(shape, top, min(top + height, 90), left, min(left + width, 100))
    assume(mask.any())
    window = window_around(mask, spacing)
    assert window.y - window.height / 2 <= top + 1
    assert window.x + window.width / 2 >= min(left + width, 100) - 1
    grid = window_grid(window, (128, 128), CPU)
    soft = torch.from_numpy(mask.astype(np.float32))[None]
    box, patch = paste(sample(soft, grid, border=False), window, shape)
    back = np.zeros(shape, bool)
    back[box] = patch[0].numpy() > 0.5
    contour = binary_dilation(mask) & ~binary_erosion(mask)
    assert not ((back ^ mask) & ~contour).any()


def test_a_window_is_square_in_space():
    window = window_around(_box((100, 100), 40, 60, 40, 60), (1.0, 2.0))
    assert window.height == pytest.approx(2 * window.width)


def test_a_window_stays_inside_the_slice():
    window = window_around(_box((200, 200), 0, 20, 180, 200))
    assert window.y - window.height / 2 == 0
    assert window.x + window.width / 2 == 200


def test_a_still_object_keeps_its_window():
    mask = _box((200, 200), 80, 120, 80, 120)
    window = window_around(mask)
    assert follow(window, mask, window) == window


def test_a_growing_object_gets_a_larger_window():
    window = window_around(_box((200, 200), 90, 110, 90, 110))
    larger = follow(window, _box((200, 200), 80, 120, 80, 120), window)
    assert larger.height > window.height


def test_a_moving_object_is_followed():
    window = window_around(_box((200, 200), 80, 120, 80, 120))
    moved = follow(window, _box((200, 200), 80, 120, 100, 140), window)
    assert moved.x > window.x


def test_an_object_that_is_gone_leaves_its_window():
    window = window_around(_box((200, 200), 80, 120, 80, 120))
    assert follow(window, np.zeros((200, 200), bool), window) == window


@pytest.mark.parametrize("long", [1, 5])
def test_a_dwindling_object_is_not_magnified_for_ever(long):
    """However long pixels are for their width."""
    shape, spacing = (400 // long, 400), (float(long), 1.0)
    first = window_around(_box(shape, 100 // long, 300 // long, 100, 300), spacing)
    window = first
    for half in (60, 30, 15, 8, 4, 2, 1):
        rows = 200 // long - max(half // long, 1), 200 // long + max(half // long, 1)
        window = follow(window, _box(shape, *rows, 200 - half, 200 + half), first, spacing)
    assert window.height >= 0.4 * first.height


def test_moving_features_to_the_same_window_changes_nothing():
    features = torch.rand(5, 16, 16)
    window = Window(50, 60, 40, 40)
    torch.testing.assert_close(move_features(features, window, window), features, atol=1e-5, rtol=0)


def test_moving_features_shifts_by_whole_cells():
    features = torch.rand(5, 16, 16)
    moved = move_features(features, Window(80, 80, 64, 64), Window(80, 84, 64, 64))
    torch.testing.assert_close(moved[:, :, :15], features[:, :, 1:], atol=1e-5, rtol=0)
    assert float(moved[:, :, 15].abs().max()) < 1e-5


def _ring(shape, outer, inner):
    y, x = np.indices(shape) - np.array(shape)[:, None, None] // 2
    return (y**2 + x**2 < outer**2) & (y**2 + x**2 >= inner**2)


SHAPE = (256, 256)


@pytest.mark.parametrize(
    ("mask", "thin"),
    [
        (_box(SHAPE, 127, 129, 20, 220), True),  # a line
        (_ring(SHAPE, 60, 56), True),
        (_box(SHAPE, 20, 30, 20, 30) | _box(SHAPE, 200, 210, 200, 210), True),  # two parts
        (_ring(SHAPE, 60, 0), False),  # a disc
        (_box(SHAPE, 100, 102, 100, 120), False),  # thin, but pixels are seen one by one
    ],
)
def test_what_is_too_thin_for_a_window(mask, thin):
    assert is_thin(mask, window_around(mask), 96) is thin


@given(st.integers(1, 45), st.integers(50, 200))
@example(13, 150)
@example(22, 150)
def test_the_thickness_of_a_strip_is_its_width(width, length):
    assume(4 * width < length)
    mask = _box(SHAPE, 100, 100 + width, 20, 20 + length)
    window = Window(128, 128, 256.0, 256.0)
    # the ends of a strip make it thinner, and steps of pixels thicker
    samples = width * 96 / 256
    assume(not 0.85 < samples / 6 < 1.35)
    assert is_thin(mask, window, 96) is (samples < 6)


@pytest.mark.parametrize(("inner", "thin"), [(0, False), (60, False), (90, True)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_shape_is_as_thin_in_pixels_longer_than_wide(inner, thin, axis):
    ring, spacing = _ring((512, 512), 100, inner), [1.0, 1.0]
    assert is_thin(ring, window_around(ring), 96) is thin
    spacing[axis] = 7.0
    long = ring.take(np.arange(3, 512, 7), axis)
    assert is_thin(long, window_around(long, tuple(spacing)), 96) is thin


class TestStarts:
    """Objects on painted slices."""

    @given(
        st.lists(st.tuples(st.integers(0, 18), st.integers(0, 18), st.integers(1, 9)), max_size=6),
        st.sampled_from([np.uint8, np.int64, np.uint64]),
    )
    def test_where_objects_are_and_how_large(self, squares, dtype):
        plane = np.zeros((24, 26), dtype)
        for top, left, label in squares:
            plane[top : top + 5, left : left + 6] = label
        found = list(objects_of(plane))
        assert [label for label, _, _ in found] == [i for i in np.unique(plane).tolist() if i]
        for label, area, box in found:
            assert area == np.count_nonzero(plane == label)
            assert box == box_of(plane == label)

    @pytest.mark.parametrize("dtype", [np.int64, np.uint64])
    def test_ids_that_are_one_float_are_told_apart(self, dtype):
        plane = np.zeros((24, 26), dtype)
        for n in range(40):
            plane[n // 2, 13 * (n % 2) : 13 * (n % 2) + 12] = 720575940612000000 + n
        plane[21:] = 720575940612000041
        found = list(objects_of(plane, range(720575940612000000, 720575940612000040)))
        assert [label - 720575940612000000 for label, _, _ in found] == list(range(40))
        assert {area for _, area, _ in found} == {12}
        assert found[3][2] == (slice(1, 2), slice(13, 25))

    def starts(self, plane, config, colour=False):
        legs = [Leg(int(i), 3, "forward", (4,), (3,)) for i in np.unique(plane) if i]
        return starts_of(legs, {3: plane}, config, (1.0, 1.0), colour=colour)

    def test_thin_ones_are_looked_at_twice_as_finely(self):
        plane = np.zeros(SHAPE, np.uint16)
        plane[_ring(SHAPE, 100, 96)] = 7
        plane[_ring(SHAPE, 60, 0)] = 300
        grey = self.starts(plane, IMOS_COMPACT)
        assert {k: s.samples for k, s in grey.whole.items()} == {(7, 3): 192, (300, 3): 96}
        assert grey.areas[300, 3] == np.count_nonzero(plane == 300)
        in_colour = self.starts(plane, IMOS_COMPACT, colour=True)
        assert {s.samples for s in in_colour.whole.values()} == {128}
        # the paper's network as it is
        assert {s.samples for s in self.starts(plane, IMOS_R50).whole.values()} == {256}


def test_a_ring_is_followed_by_the_embedded_model():
    """In windows of 96 samples it is lost: its walls are 1.5 samples wide."""
    ring = np.stack([np.roll(_ring(SHAPE, 60, 56), 2 * k, 1) for k in range(7)])
    noise = np.random.default_rng(0).normal(0, 6, ring.shape)
    image = (90 + 80 * ring + noise).clip(0, 255).astype(np.uint8)
    for s in propagate(image, {0: ring[0].astype(np.uint8)}):
        jaccard = (ring[s.index] & (s.labels > 0)).sum() / (ring[s.index] | (s.labels > 0)).sum()
        assert jaccard > 0.6, s.index


def test_a_prompt_that_is_thinner_than_a_sample_is_not_empty():
    """A line of one pixel fills no sample of its window by half."""
    plane = np.zeros((600, 600), np.uint8)
    plane[300, 50:550] = 1
    sweep = Sweep(np.zeros((2, 600, 600), np.uint8))
    planes = Planes(sweep, (0.0, 1.0), CPU, 4)
    known = {0: Patch((slice(0, 600), slice(0, 600)), plane)}
    for size, most in ((96, 7), (192, 4), (288, 2.5)):  # it is one sample wide
        sight = Sight(planes, known, (1.0, 1.0), size, "zscore", 1)
        window, crop, _ = sight.painted(0, 1)
        area = float(crop.sum()) * sight.sample_area(window)
        assert 0.5 < area / 500 < most


def test_many_thin_objects_go_in_smaller_batches(monkeypatch):
    """Their windows take four times the memory of others; masks do not depend on it."""
    plane = np.zeros((180, 130), np.uint8)
    for i in range(9):
        plane[5 + 14 * i : 9 + 14 * i, 35:95] = i + 1
    plane[135:175, 40:80] = 20
    image = np.repeat(np.where(plane, 200, 60).astype(np.uint8)[None], 3, 0)
    sizes = []
    make = WindowCohort.__init__

    def noted(cohort, model, memory, legs, *args, **options):
        sizes.append((options["size"], len(legs)))
        make(cohort, model, memory, legs, *args, **options)

    monkeypatch.setattr(WindowCohort, "__init__", noted)
    options = {"model": tiny_model(replace(TINY, window_size=32)), "device": "cpu"}
    found = list(propagate(image, {1: plane}, batch=16, precision="float32", **options))
    assert sorted(sizes) == [(32, 2), (64, 2), *[(64, 4)] * 4]
    sizes.clear()
    alone = list(propagate(image, {1: plane}, batch=100, precision="float32", **options))
    assert max(count for size, count in sizes if size == 64) == 18
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
