"""Parts: what lies far apart under one label is walked as if each part were alone."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tiny import tiny_model
from walking import WalkingBlock

from imos_core import propagate
from imos_core.anchors import Contribution, Leg, merge, plan_legs
from imos_core.config import IMOS_COMPACT, WINDOW_MEMORY
from imos_core.cutting import paste
from imos_core.walking import rounds
from imos_core.walking.budget import remembered_bytes
from imos_core.walking.checkpoint import Checkpoint
from imos_core.walking.cohort import WindowCohort
from imos_core.walking.parts import MOST_PARTS, apart, stretches
from imos_core.walking.patience import Patience
from imos_core.walking.starts import starts_of
from imos_core.windows import Window, centred, middle_of

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
    return int(apart(mask, mask.shape, spacing).max())


class TestDividing:
    def test_what_lies_far_apart_is_divided(self):
        parts = apart(squares((10, 10), (200, 200)), (SIZE, SIZE))
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
        parts = apart(mask, mask.shape)
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
        parts = apart(mask, mask.shape, spacing)
        np.testing.assert_array_equal(parts > 0, mask)
        assert set(np.unique(parts)) - {0} == set(range(1, parts.max() + 1))
        connected, found = ndimage.label(mask, EIGHT)
        for number in range(1, found + 1):
            assert len(np.unique(parts[connected == number])) == 1

    @pytest.mark.parametrize("objects", [64, 65, 100, 400, 900])
    def test_where_there_are_many_neighbours_stay_together(self, objects):
        side = 1024
        mask = np.zeros((side, side), bool)
        across = int(np.ceil(np.sqrt(objects)))
        places = np.linspace(0, side - 20, across).astype(int)
        for i in range(objects):
            top, left = places[i // across], places[i % across]
            mask[top : top + 10, left : left + 10] = True
        parts = apart(mask, mask.shape)
        assert 16 <= parts.max() <= MOST_PARTS
        extents = [
            max(rows.stop - rows.start, columns.stop - columns.start)
            for rows, columns in ndimage.find_objects(parts)
        ]
        assert max(extents) <= side / 3, "none has to be seen as coarsely as all together"
        assert len(np.unique(parts)) == parts.max() + 1


class TestCutting:
    y, x = np.ogrid[:SIZE, :SIZE]
    ring = np.abs(np.hypot(y - 128, x - 128) - 100) < 1.5

    def test_stretches_are_short_and_hold_everything(self):
        numbers = stretches(self.ring)
        np.testing.assert_array_equal(numbers > 0, self.ring)
        assert 20 < numbers.max() <= MOST_PARTS
        for rows, columns in ndimage.find_objects(numbers):
            assert max(rows.stop - rows.start, columns.stop - columns.start) <= 27

    @pytest.mark.parametrize("most", [1, 2, 7, 30])
    def test_there_are_not_more_than_that(self, most):
        numbers = stretches(self.ring, most=most)
        assert numbers.max() <= most
        np.testing.assert_array_equal(numbers > 0, self.ring)

    def test_they_are_as_long_in_space(self):
        rows = [s[0].stop - s[0].start for s in ndimage.find_objects(stretches(self.ring))]
        tall = ndimage.find_objects(stretches(self.ring, (3.0, 1.0)))
        assert max(s[0].stop - s[0].start for s in tall) < max(rows) / 1.5

    def test_pixels_much_longer_than_wide_take_no_memory(self):
        numbers = stretches(self.ring, (1e-9, 1e9))
        assert (numbers[self.ring] > 0).all()
        assert len(np.unique(numbers)) - 1 <= MOST_PARTS

    def test_what_a_thin_object_is_walked_in(self):
        large = np.abs(np.hypot(*np.ogrid[-256:256, -256:256]) - 200) < 1.5
        legs = plan_legs({4: (0,)}, 0, 2, "both")
        found = starts({0: large * 4}, legs)
        walked = found.walked(legs)
        assert len(walked) > 20
        assert all(leg.stretch and found.of(leg).samples == 96 for leg in walked)
        seen = sum(found.part(leg).mask.sum() for leg in walked)
        assert seen == large.sum(), "each has pixels of its own"
        assert not starts({0: large * 4}, legs, colour=True).parts, "which has no finer windows"
        thick = np.abs(np.hypot(*np.ogrid[-256:256, -256:256]) - 200) < 12
        assert not starts({0: thick * 4}, legs).parts

    def test_not_where_stretches_would_lose_it_as_well(self):
        """In a slice as large as that, 64 of them are long."""
        side = 4096
        mask = np.zeros((side, side), np.uint8)
        mask[::256] = mask[:, ::256] = 1
        mask[1::256] = mask[:, 1::256] = 1
        legs = plan_legs({1: (0,)}, 0, 2, "both")
        assert not starts({0: mask}, legs).parts

    def test_parts_that_are_thin_are_cut_too(self):
        mask = np.zeros((900, 900), np.uint8)
        mask[20:22, 10:160] = 1
        mask[800:840, 800:840] = 1
        mask[850:852, 10:160] = 1
        legs = plan_legs({1: (0,)}, 0, 2, "both")
        found = starts({0: mask}, legs)
        walked = found.walked(legs)
        assert [leg.part for leg in walked] == list(range(1, len(walked) + 1))
        solid = [leg for leg in walked if not leg.stretch]
        assert len(solid) == 1 < len(walked) - 10
        assert found.part(solid[0]).mask.all()
        together = np.zeros_like(mask, int)
        for leg in walked:
            own = found.part(leg)
            together[own.box] += own.mask
        np.testing.assert_array_equal(together, mask)


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
        assert list(found.numbers) == [3]
        assert len({leg.name for leg in legs}) == len(legs)
        assert [leg.part for leg in legs if (leg.label, leg.anchor) == (7, 3)] == [1, 2, 1, 2]
        assert [leg for leg in legs if not leg.part] == [
            leg for leg in self.whole if (leg.label, leg.anchor) != (7, 3)
        ]
        for leg in legs:
            # which of the two is painted on the other anchor, nobody knows
            assert leg.memorised == ((3,) if leg.part else leg.anchors)
            assert found.of(leg).samples == 96

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
        assert found.whole[1, 0].samples == 192, "it is thin"
        assert bool(found.parts) == divides

    def test_parts_may_be_thin(self):
        y, x = np.ogrid[:600, :600]
        far = np.hypot(y - 60, x - 60)
        mask = (far < 50) & (far > 45)
        mask[500:520, 500:520] = True
        legs = plan_legs({1: (0,)}, 0, 2, "both")
        found = starts({0: mask.astype(np.uint8)}, legs)
        assert sorted(s.samples for s in found.parts[1, 0]) == [96, 192]


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
    first, second = (Leg(1, 0, "forward", tuple(range(1, 9)), (0,), n) for n in (1, 2))
    watch = Patience(2)
    labels = np.ones((2, 2), np.uint8)
    assert watch.lost(labels, [first, second], {second.name}) == []
    assert watch.lost(labels, [first, second], {second.name}) == [second]
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


def test_parts_are_walked_as_if_each_were_alone(scene):
    image, truth = scene
    model = tiny_model()
    painted = [np.isin(truth[4], labels).astype(np.uint8) for labels in ([1, 2], 1, 2)]
    together, *each = [run(image, {4: plane}, model=model) for plane in painted]
    for k, found in together.items():
        np.testing.assert_array_equal(found.labels, each[0][k].labels | each[1][k].labels)
        assert found.source == each[0][k].source


def noted(monkeypatch):
    """Note all cohorts that are made, and what they are told."""
    made = []
    make = WindowCohort.__init__

    def note(cohort, model, memory, legs, *rest, **options):
        make(cohort, model, memory, legs, *rest, **options)
        made.append((cohort, legs, options))

    monkeypatch.setattr(WindowCohort, "__init__", note)
    return made


@pytest.mark.parametrize("gap", [8, 14, 40])
def test_a_window_stays_with_its_part(monkeypatch, gap):
    """Neighbours of the same label are to be seen in it, too."""
    mask = squares((100, 60), (100, 90 + gap), side=30)
    image = np.repeat(np.where(mask, 180, 60).astype(np.uint8)[None], 6, 0)
    made = noted(monkeypatch)
    windows = []
    for s in propagate(image, {0: mask.astype(np.uint8)}, precision="float32", device="cpu"):
        if s.index:
            windows.append([(row.window.height, row.window.x) for row in made[0][0]._rows])
    assert len(windows[0]) == 2, "it has two parts"
    for now in windows[:-1]:  # the last slice is the end of all
        for (height, x), middle in zip(now, (75, 105 + gap), strict=True):
            assert height == pytest.approx(66, abs=4)
            assert x == pytest.approx(middle, abs=3)


def test_parts_see_other_labels(scene, monkeypatch):
    image, truth = scene
    made = noted(monkeypatch)
    painted = {0: np.where(truth[0] == 3, 7, truth[0] > 0), 8: (truth[8] == 1) * 1}
    run(image, painted, model=tiny_model())
    assert {bool(leg.part) for _, legs, _ in made for leg in legs} == {True, False}
    assert all(options["several"] for _, _, options in made)


def test_what_parts_remember_does_not_grow_with_anchors():
    whole = Leg(1, 0, "forward", (1, 2, 3), (0, 9, 20))
    parts = [replace(whole, part=n) for n in (1, 2)]
    one = [replace(leg, anchors=(0,)) for leg in parts]
    sizes = [
        remembered_bytes(IMOS_COMPACT, WINDOW_MEMORY, legs, 96, colour=False)
        for legs in (parts, one, [whole, whole])
    ]
    assert sizes[0] == sizes[1] < sizes[2]


def test_both_are_found_by_the_embedded_model(scene):
    image, truth = scene
    for found in run(image, {0: np.isin(truth[0], (1, 2)).astype(np.uint8) * 9}).values():
        for n in (1, 2):
            true = truth[found.index] == n
            here = (found.labels == 9) & ndimage.binary_dilation(true, iterations=20)
            assert (here & true).sum() / (here | true).sum() > 0.9, (found.index, n)


class Blinking(WalkingBlock):
    """A block of legs of which the second part is not found on some slices."""

    def segment(self):
        found = []
        for leg, step in self.legs:
            index = leg.slices[step]
            here = 0.1 if leg.part == 2 and 3 <= index < 6 else 0.9
            rows = slice(4 * leg.part, 4 * leg.part + 2)
            patch = np.full((2, 9), here, np.float32)
            found.append(Contribution(leg, index, (rows, slice(0, 9)), patch))
        return found


@pytest.mark.parametrize(("patience", "ends"), [(2, True), (3, True), (4, False), (None, False)])
def test_a_part_ends_by_itself(scene, monkeypatch, patience, ends):
    """Others of the label are there all the time."""
    image, truth = scene
    monkeypatch.setattr(rounds, "WindowCohort", Blinking)
    painted = {0: np.isin(truth[0], (1, 2)).astype(np.uint8)}
    found = run(image, painted, model=tiny_model(), patience=patience)
    second = [bool(found[k].labels[8:10, :9].any()) for k in range(1, 9)]
    assert second == [True, True, False, False, False, *[not ends] * 3]
    assert all(found[k].labels[4:6, :9].all() for k in range(1, 9))


def test_between_two_anchors_no_part_ends(scene, monkeypatch):
    """An anchor would fall silent with its last part, and leave all to the other one."""
    image, truth = scene
    monkeypatch.setattr(rounds, "WindowCohort", Blinking)
    painted = {k: np.isin(truth[k], (1, 2)).astype(np.uint8) for k in (0, 8)}
    found = run(image, painted, model=tiny_model(), patience=1)
    assert found[7].labels[8:10, :9].all()


@pytest.mark.parametrize("stop", [2, 5, 8])
def test_interrupted_runs_go_on(scene, tmp_path, stop):
    image, truth = scene
    prompts = {1: np.where(truth[1] == 3, 5, np.isin(truth[1], (1, 2))).astype(np.uint8)}
    prompts[1][120, 20:240] = 8  # a line, which is walked in stretches
    prompts[7] = np.isin(truth[7], (1, 2)).astype(np.uint8)
    options = {"precision": "float32", "device": "cpu"}
    whole = {s.index: s for s in propagate(image, prompts, **options)}
    parts = {}
    for resume in (False, True):
        keep = Checkpoint(tmp_path / "kept", 1, resume=resume)
        for s in propagate(image, prompts, checkpoint=keep, **options):
            parts[s.index] = s
            if not resume and len(parts) == stop:
                break
    assert parts.keys() == whole.keys()
    for k, wanted in whole.items():
        np.testing.assert_array_equal(parts[k].labels, wanted.labels)
        np.testing.assert_array_equal(parts[k].confidence, wanted.confidence)


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_do_not_change_labels(scene, batch):
    image, truth = scene
    prompts = {0: np.isin(truth[0], (1, 2)).astype(np.uint8), 8: (truth[8] == 1) * 1}
    usual = run(image, prompts, model=tiny_model())
    for k, found in run(image, prompts, model=tiny_model(), batch=batch).items():
        np.testing.assert_array_equal(found.labels, usual[k].labels)


def test_a_thin_line_is_followed():
    """In one window of 192 samples it is lost: a line of two pixels is 0.75 of a sample there."""
    side = 512
    y, x = np.ogrid[:side, :side]
    truth = np.stack(
        [
            (np.abs(y - 200 - 3 * k - 20 * np.sin(x / 50)) < 1) & (x > 50) & (x < 460)
            for k in range(6)
        ]
    )
    noise = np.random.default_rng(0).normal(0, 5, truth.shape)
    image = (90 + 80 * truth + noise).clip(0, 255).astype(np.uint8)
    for found in run(image, {0: truth[0].astype(np.uint8)}).values():
        here = found.labels > 0
        jaccard = (here & truth[found.index]).sum() / (here | truth[found.index]).sum()
        assert jaccard > 0.5, found.index


def test_whole_slices_are_not_divided(scene, monkeypatch):
    image, truth = scene
    monkeypatch.setattr("imos_core.walking.starts.apart", None)
    run(image[:2], {0: truth[0]}, model=tiny_model(), window="full")


def test_a_thin_line_is_followed_as_it_grows_longer():
    """Windows at its ends go along with these."""
    side = 512
    y, x = np.ogrid[:side, :side]
    truth = np.stack(
        [(np.abs(y - 250) < 1.5) & (x > 150 - 4 * k) & (x < 350 + 4 * k) for k in range(9)]
    )
    noise = np.random.default_rng(0).normal(0, 5, truth.shape)
    image = (90 + 80 * truth + noise).clip(0, 255).astype(np.uint8)
    last = run(image, {0: truth[0].astype(np.uint8)})[8].labels
    columns = np.flatnonzero(last.any(0))
    assert columns[0] == pytest.approx(119, abs=6)
    assert columns[-1] == pytest.approx(381, abs=6)


class TestStretchWindows:
    window = Window(100.0, 60.0, 50.0, 50.0)
    shape = (200, 300)

    def test_the_middle_is_three_quarters(self):
        rows, columns = middle_of(self.window, self.shape)
        assert (rows.start, rows.stop) == (81, 119)
        assert (columns.start, columns.stop) == (41, 79)

    def test_at_the_edge_of_a_slice_it_goes_up_to_that(self):
        rows, columns = middle_of(Window(25.0, 275.0, 50.0, 50.0), self.shape)
        assert (rows.start, rows.stop) == (0, 44)
        assert (columns.start, columns.stop) == (256, 300)
        assert middle_of(Window(4.0, 4.0, 50.0, 50.0), (8, 8)) == (slice(0, 8), slice(0, 8))

    @settings(max_examples=200)
    @given(
        st.tuples(*[st.floats(1, 79)] * 2), st.floats(2, 120), st.tuples(*[st.integers(1, 80)] * 2)
    )
    def test_it_lies_in_what_is_pasted(self, centre, side, shape):
        y, x = (min(c, n - 0.1) for c, n in zip(centre, shape, strict=True))
        window = Window(y, x, side, side)
        pasted, _ = paste(torch.ones(1, 8, 8), window, shape)
        for inner, outer in zip(middle_of(window, shape), pasted, strict=True):
            assert outer.start <= inner.start < inner.stop <= outer.stop

    def held(self, rows, columns):
        return slice(*rows), slice(*columns)

    def test_what_passes_through_is_brought_to_the_middle(self):
        held, middle = self.held((108, 112), (35, 85)), self.held((108, 112), (41, 79))
        assert centred(self.window, held, middle, self.shape) == Window(110.0, 60.0, 50.0, 50.0)
        little = self.held((101, 105), (35, 85)), self.held((101, 105), (41, 79))
        assert centred(self.window, *little, self.shape) == self.window

    @pytest.mark.parametrize(("columns", "x"), [((35, 84), 72.6), ((50, 85), 61.4)])
    def test_an_end_stays_where_it_was(self, columns, x):
        """From the middle, as far as half a stretch."""
        held, middle = self.held((98, 102), columns), self.held((98, 102), (47, 73))
        found = centred(self.window, held, middle, self.shape)
        assert found.x == pytest.approx(x, abs=0.1) or found == self.window

    def test_what_is_gone_leaves_it_where_it_was(self):
        nothing = self.held((0, 0), (0, 0))
        assert centred(self.window, nothing, nothing, self.shape) == self.window

    def test_what_has_left_the_middle_is_gone_after(self):
        held = self.held((120, 124), (35, 85))
        found = centred(self.window, held, self.held((0, 0), (0, 0)), self.shape)
        assert found.y == 122
