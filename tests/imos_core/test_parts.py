"""Parts: what lies far apart under one label is walked as if each part were alone."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tiny import tiny_model

from imos_core import propagate
from imos_core.anchors import Contribution, Leg, merge, plan_legs
from imos_core.checkpoint import Checkpoint
from imos_core.config import IMOS_COMPACT
from imos_core.parts import MOST_PARTS, parts_of
from imos_core.patience import Patience
from imos_core.starts import starts_of

SIZE = 256
EIGHT = np.ones((3, 3))


def blank():
    return np.zeros((SIZE, SIZE), bool)


def squares(*corners, side=20):
    mask = blank()
    for top, left in corners:
        mask[top : top + side, left : left + side] = True
    return mask


def count(mask, spacing=(1.0, 1.0)):
    return int(parts_of(mask, mask.shape, spacing).max())


class TestDividing:
    def test_what_lies_far_apart_is_divided(self):
        parts = parts_of(squares((10, 10), (200, 200)), (SIZE, SIZE))
        assert {parts[10, 10], parts[200, 200]} == {1, 2}

    def test_what_lies_close_together_stays_so(self):
        assert count(squares((10, 10), (32, 10))) == 2, "a window around both is twice as large"
        mask = squares((50, 50), side=60)
        mask[112:118, 60:90] = True
        assert count(mask) == 1, "it is hardly larger than that of the large one"

    def test_windows_are_never_larger_than_slices(self):
        mask = squares((20, 20), side=150)
        mask[230:240, 230:240] = True
        assert count(mask) == 1

    def test_specks_do_not_chain(self):
        """Each is close to the next one, but not to the first."""
        mask = blank()
        mask[100, 4::12] = True
        parts = parts_of(mask, mask.shape)
        for number in range(1, parts.max() + 1):
            columns = np.flatnonzero((parts == number).any(0))
            assert columns[-1] - columns[0] < 32
        assert 6 < parts.max() < 22

    def test_pixels_that_touch_at_a_corner_are_connected(self):
        mask = np.eye(SIZE, dtype=bool)
        assert count(mask) == 1

    def test_rows_that_are_far_apart_in_space(self):
        mask = squares((10, 100), (24, 100), side=10)
        assert count(mask) == 1
        assert count(mask, (5.0, 1.0)) == 2

    @settings(max_examples=60)
    @given(
        st.lists(
            st.tuples(*[st.integers(0, SIZE - 1)] * 2, *[st.integers(1, 60)] * 2), max_size=40
        ),
        st.sampled_from([(1.0, 1.0), (3.0, 1.0), (0.2, 0.5)]),
    )
    def test_every_pixel_is_in_one_part_and_no_connected_part_in_two(self, boxes, spacing):
        mask = blank()
        for top, left, height, width in boxes:
            mask[top : top + height, left : left + width] = True
        parts = parts_of(mask, mask.shape, spacing)
        np.testing.assert_array_equal(parts > 0, mask)
        assert set(np.unique(parts)) - {0} == set(range(1, parts.max() + 1))
        connected, found = ndimage.label(mask, EIGHT)
        for number in range(1, found + 1):
            assert len(np.unique(parts[connected == number])) == 1

    def test_there_are_not_too_many(self):
        mask = blank()
        mask[::16, ::16] = True
        wide = np.kron(mask, np.pad(np.ones((1, 1), bool), 3))
        assert count(wide) == MOST_PARTS < ndimage.label(wide, EIGHT)[1]


def starts(slices, legs, **options):
    options = {"colour": False, **options}
    return starts_of(legs, slices, IMOS_COMPACT, (1.0, 1.0), **options)


class TestStarting:
    plane = np.where(squares((10, 10), (200, 200)), 7, 0)
    plane[120:140, 120:140] = 300
    slices: ClassVar = {3: plane, 9: np.where(squares((15, 15)), 7, 0)}
    whole = plan_legs({7: (3, 9), 300: (3,)}, 0, 12, "both")

    def test_legs_of_parts(self):
        found = starts(self.slices, self.whole)
        legs = found.walked(self.whole)
        assert list(found.parts) == [(7, 3)]
        assert len({leg.name for leg in legs}) == len(legs)
        assert [leg.part for leg in legs if (leg.label, leg.anchor) == (7, 3)] == [1, 2, 1, 2]
        assert [leg for leg in legs if not leg.part] == [
            leg for leg in self.whole if (leg.label, leg.anchor) != (7, 3)
        ]
        for leg in legs:
            assert leg.memorised == ((3,) if leg.part else leg.anchors)
            # which of the two the one that is painted beyond is, nobody knows
            assert leg.may_end == (bool(leg.part) or not leg.enclosed)
            assert found.size(leg) == 96

    def test_areas_are_of_whole_labels(self):
        assert starts(self.slices, self.whole).areas == {(7, 3): 800, (7, 9): 400, (300, 3): 400}

    def test_where_it_is_not_wanted(self):
        found = starts(self.slices, self.whole, divide=False)
        assert not found.parts
        assert found.walked(self.whole) == self.whole

    @pytest.mark.parametrize(("gap", "divides"), [(5, False), (40, True)])
    def test_only_where_it_shows_them_much_more_finely(self, gap, divides):
        """A window of 192 samples around both shows as much as two of 96, of half its size."""
        mask = blank()
        for left in (50, 80 + gap):
            mask[100:130, left : left + 30] = True
            mask[102:128, left + 2 : left + 28] = False
        legs = plan_legs({1: (0,)}, 0, 2, "both")
        found = starts({0: mask.astype(np.uint8)}, legs)
        assert found.sizes[1, 0, 0] == 192, "it is thin"
        assert bool(found.parts) == divides

    def test_parts_may_be_thin(self):
        y, x = np.ogrid[:SIZE, :SIZE]
        far = np.hypot(y - 60, x - 60)
        mask = (far < 50) & (far > 47)
        mask[200:220, 200:220] = True
        legs = plan_legs({1: (0,)}, 0, 2, "both")
        found = starts({0: mask.astype(np.uint8)}, legs)
        assert not found.parts, "around both is as fine, as the ring is large"
        mask = np.pad(mask, ((0, 300), (0, 300)))
        mask[500:520, 500:520] = True
        found = starts({0: mask.astype(np.uint8)}, legs)
        assert sorted(found.sizes[1, 0, n] for n in (1, 2, 3)) == [96, 96, 192]


class TestMerging:
    box = (slice(0, 1), slice(0, 1))

    def said(self, part, value, anchor=0, box=None):
        slices = (1, 2, 3) if anchor == 0 else (3, 2, 1)
        leg = Leg(1, anchor, "forward" if anchor == 0 else "backward", slices, (anchor,), part)
        box = box or self.box
        shape = [s.stop - s.start for s in box]
        return Contribution(leg, 1, box, np.full(shape, value, np.float32))

    def test_one_side_has_all_its_parts(self):
        elsewhere = (slice(2, 4), slice(3, 5))
        merged = merge([self.said(1, 0.9), self.said(2, 0.8, box=elsewhere)], np.dtype(np.uint8))
        plane, _ = merged.planes((5, 5))
        wanted = np.zeros((5, 5))
        wanted[self.box], wanted[elsewhere] = 1, 1
        np.testing.assert_array_equal(plane, wanted)

    def test_parts_do_not_vote_against_each_other(self):
        """Who walks a neighbour sees nothing here, which says nothing."""
        several = [self.said(1, 0.9), self.said(2, 0.0), self.said(3, 0.1)]
        alone = merge([self.said(0, 0.9)], np.dtype(np.uint8))
        together = merge(several, np.dtype(np.uint8))
        assert together.patch.labels == alone.patch.labels == 1
        assert together.sure == alone.sure

    def test_sides_are_blended_as_wholes(self):
        near = [self.said(1, 0.9), self.said(2, 0.0)]
        far = self.said(0, 0.2, anchor=4)
        alone = merge([self.said(0, 0.9), far], np.dtype(np.uint8))
        together = merge([*near, far], np.dtype(np.uint8))
        assert together.patch.labels == alone.patch.labels
        assert together.sure == alone.sure


def test_a_part_ends_though_the_label_is_there():
    first, second = (Leg(1, 0, "forward", tuple(range(1, 9)), (0, 9), n) for n in (1, 2))
    watch = Patience(2)
    labels = np.ones((2, 2), np.uint8)
    assert watch.lost(labels, [first, second], {second}) == []
    assert watch.lost(labels, [first, second], {second}) == [second]
    assert watch.lost(labels, [first]) == []


# ---- runs ----


def discs(slices=9):
    """Two bright discs that go apart, far from each other, and a third one of another label."""
    y, x = np.ogrid[:SIZE, :SIZE]
    truth = np.zeros((slices, SIZE, SIZE), np.uint8)
    for k in range(slices):
        truth[k][(y - 60 + k) ** 2 + (x - 60) ** 2 < 144] = 1
        truth[k][(y - 200) ** 2 + (x - 190 - k) ** 2 < 196] = 2
        truth[k][(y - 60) ** 2 + (x - 200) ** 2 < 100] = 3
    noise = np.random.default_rng(0).normal(0, 4, truth.shape)
    return np.clip(60 + 120 * (truth > 0) + noise, 0, 255).astype(np.uint8), truth


def run(image, prompts, **options):
    options = {"precision": "float32", "device": "cpu", "contrast": (0, 255), **options}
    return {s.index: s for s in propagate(image, prompts, **options)}


@pytest.fixture(scope="module")
def scene():
    return discs()


@pytest.mark.parametrize("prompted", [[4], [0, 8]])
def test_parts_are_walked_as_if_each_were_alone(scene, prompted):
    image, truth = scene
    options = {"model": tiny_model()}

    def painted(*labels):
        return {k: np.isin(truth[k], labels).astype(np.uint8) for k in prompted}

    together = run(image, painted(1, 2), **options)
    # two anchors show each part twice, but which is which nobody has said
    each = [run(image, painted(n), **options) for n in (1, 2)]
    for k, found in together.items():
        if len(prompted) == 1:
            wanted = each[0][k].labels | each[1][k].labels
            np.testing.assert_array_equal(found.labels, wanted)
        assert found.source == each[0][k].source


def test_both_are_found_by_the_embedded_model(scene):
    image, truth = scene
    for found in run(image, {0: np.isin(truth[0], (1, 2)).astype(np.uint8) * 9}).values():
        for n in (1, 2):
            true = truth[found.index] == n
            here = (found.labels == 9) & ndimage.binary_dilation(true, iterations=20)
            assert (here & true).sum() / (here | true).sum() > 0.9, (found.index, n)


def test_a_part_ends_for_good(scene):
    """One disc is gone after three slices; the other one goes on."""
    image, truth = (x.copy() for x in scene)
    rows = slice(150, None)
    image[3:, rows] = 60
    found = run(image, {0: np.isin(truth[0], (1, 2)).astype(np.uint8)})
    for before, after in pairwise(sorted(found)):
        lower = [found[k].labels[rows].any() for k in (before, after)]
        assert lower[0] or not lower[1], "it does not come back"
        assert found[after].labels[: rows.start].any()
    assert not found[8].labels[rows].any()


def test_interrupted_runs_go_on(scene, tmp_path):
    image, truth = scene
    prompts = {1: np.where(truth[1] == 3, 5, np.isin(truth[1], (1, 2))).astype(np.uint8)}
    prompts[7] = np.isin(truth[7], (1, 2)).astype(np.uint8)
    options = {"model": tiny_model(), "precision": "float32", "device": "cpu"}
    whole = {s.index: s.labels for s in propagate(image, prompts, **options)}
    parts = {}
    for resume in (False, True):
        keep = Checkpoint(tmp_path / "kept", 1, resume=resume)
        for s in propagate(image, prompts, checkpoint=keep, **options):
            parts[s.index] = s.labels
            if not resume and len(parts) == 5:
                break
    for k, labels in whole.items():
        np.testing.assert_array_equal(parts[k], labels)


def test_whole_slices_are_not_divided(scene, monkeypatch):
    image, truth = scene
    monkeypatch.setattr("imos_core.starts.parts_of", None)
    run(image[:2], {0: truth[0]}, model=tiny_model(), window="full")
