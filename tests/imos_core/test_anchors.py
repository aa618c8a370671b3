"""Anchors: every slice is reached, from the right side, and sides are blended sensibly."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imos_core.anchors import Contribution, Leg, Merged, Patch, merge, plan_legs

WHOLE = (slice(0, 4), slice(0, 4))


def _leg(label=1, anchor=0, side="forward", slices=(1, 2, 3)):
    return Leg(label, anchor, side, slices, (anchor,))


def _merge(*contributions):
    merged = merge(contributions, np.dtype(np.uint8))
    return *merged.planes((4, 4)), merged.source


def _spans():
    return st.tuples(st.integers(0, 9), st.integers(1, 10)).filter(lambda s: s[0] < s[1])


@given(_spans(), _spans(), _spans(), _spans())
def test_a_patch_is_its_box_of_a_slice_that_is_empty_elsewhere(top, left, rows, columns):
    box = (slice(*top), slice(*left))
    labels = np.arange(1, 101, dtype=np.uint8).reshape(10, 10)[box]
    sure = np.full(labels.shape, 0.5, np.float16)
    plane, confidence = Merged(Patch(box, labels), sure, "forward").planes((10, 10))
    wanted = np.zeros((10, 10), np.uint8)
    wanted[box] = labels
    np.testing.assert_array_equal(plane, wanted)
    np.testing.assert_array_equal(confidence, np.where(wanted > 0, 0.5, 1))
    part = (slice(*rows), slice(*columns))
    np.testing.assert_array_equal(Patch(box, labels).part(part), wanted[part])


def test_one_anchor_goes_both_ways():
    legs = plan_legs({1: (3,)}, 0, 6, "both")
    assert [(leg.side, leg.slices) for leg in legs] == [
        ("forward", (4, 5)),
        ("backward", (2, 1, 0)),
    ]


@pytest.mark.parametrize(("direction", "slices"), [("forward", (4, 5)), ("backward", (2, 1, 0))])
def test_one_direction(direction, slices):
    (leg,) = plan_legs({1: (3,)}, 0, 6, direction)
    assert leg.slices == slices


@given(st.sets(st.integers(0, 19), min_size=1, max_size=5), st.integers(0, 10), st.integers(11, 20))
def test_every_slice_of_the_range_is_reached_once_or_from_two_sides(anchors, start, stop):
    painted = tuple(sorted(anchors))
    reached: dict[int, list[int]] = {}
    for leg in plan_legs({1: painted}, start, stop, "both"):
        assert {abs(b - a) for a, b in pairwise((leg.anchor, *leg.slices))} == {1}, "no gaps"
        for k in leg.slices:
            if start <= k < stop:
                reached.setdefault(k, []).append(leg.anchor)
    assert set(reached) == set(range(start, stop)) - anchors
    for k, sources in reached.items():
        below = [a for a in painted if a < k][-1:]
        above = [a for a in painted if a > k][:1]
        assert sorted(sources) == below + above


def test_the_winner_takes_the_pixel():
    strong = np.full((4, 4), 0.9, np.float32)
    weak = np.full((4, 4), 0.6, np.float32)
    labels, confidence, source = _merge(
        Contribution(_leg(1), 1, WHOLE, weak), Contribution(_leg(7), 1, WHOLE, strong)
    )
    assert (labels == 7).all()
    assert source == "forward"
    assert 0.5 < float(confidence.min()) < 0.9


def test_confidence_is_the_normalised_odds_of_the_winner():
    prob = np.full((4, 4), 0.8, np.float32)
    _, confidence, _ = _merge(Contribution(_leg(), 1, WHOLE, prob))
    # odds 4 for the object against 1/4 for the background
    np.testing.assert_allclose(confidence, 4 / 4.25, atol=1e-3)


def _spread(*values):
    return [np.full((4, 4), value, np.float32) for value in values]


def test_what_has_competed_in_the_network_does_not_compete_again():
    """0.3 against 0.25 and 0.25 and a background of 0.2 wins, as in the reference."""
    several = (1, 2, 3)
    patches = _spread(0.25, 0.3, 0.25)
    opinions = [
        Contribution(_leg(label), 1, WHOLE, patch, several)
        for label, patch in zip(several, patches, strict=True)
    ]
    labels, confidence, _ = _merge(*opinions)
    assert (labels == 2).all()
    np.testing.assert_allclose(confidence, 0.3, atol=1e-3)
    # one that took no part in it: everything is weighed anew, and nothing is probable
    labels, _, _ = _merge(*opinions, Contribution(_leg(9), 1, WHOLE, patches[0] / 5, (9,)))
    assert not labels.any()


def test_background_wins_where_it_is_most_probable():
    opinions = [
        Contribution(_leg(label), 1, WHOLE, patch, (1, 2))
        for label, patch in zip((1, 2), _spread(0.3, 0.3), strict=True)
    ]
    labels, confidence, _ = _merge(*opinions)
    assert not labels.any()
    np.testing.assert_allclose(confidence, 0.4, atol=1e-3)


def test_absent_objects_come_back_empty():
    labels, _, _ = _merge(Contribution(_leg(), 1, WHOLE, np.full((4, 4), 0.2, np.float32)))
    assert not labels.any()


def test_outside_its_box_an_object_is_absent():
    box = (slice(1, 3), slice(1, 3))
    labels, confidence, _ = _merge(Contribution(_leg(), 1, box, np.ones((2, 2), np.float32)))
    assert labels.sum() == 4
    assert labels[1:3, 1:3].all()
    assert confidence[0, 0] > 0.99


def test_the_nearer_anchor_weighs_more():
    yes, no = np.full((4, 4), 0.95, np.float32), np.full((4, 4), 0.05, np.float32)
    near = Contribution(_leg(anchor=0), 1, WHOLE, yes)
    far = Contribution(_leg(anchor=9, side="backward", slices=(8, 1)), 1, WHOLE, no)
    labels, _, source = _merge(near, far)
    assert source == "blend"
    assert labels.all()


def test_the_surer_side_weighs_more():
    unsure, sure = np.full((4, 4), 0.55, np.float32), np.full((4, 4), 0.02, np.float32)
    labels, _, _ = _merge(
        Contribution(_leg(anchor=3), 5, WHOLE, unsure),
        Contribution(_leg(anchor=7, side="backward", slices=(6, 5)), 5, WHOLE, sure),
    )
    assert not labels.any()


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_the_side_of_the_larger_painted_object_weighs_more(small, large):
    """Halfway, and as sure: masks lag behind what grows, so the small end knows less."""
    small, large = sorted((small, large))
    assume(small < large)
    yes, no = np.full((4, 4), 0.9, np.float32), np.full((4, 4), 0.1, np.float32)
    sides = [
        Contribution(_leg(anchor=2), 5, WHOLE, yes),
        Contribution(_leg(anchor=8, side="backward", slices=(7, 6, 5)), 5, WHOLE, no),
    ]
    for areas, found in (((large, small), 16), ((small, large), 0)):
        merged = merge(sides, np.dtype(np.uint8), {(1, 2): areas[0], (1, 8): areas[1]})
        assert np.count_nonzero(merged.planes((4, 4))[0]) == found
    # where they are alike, or nobody knows, both count the same
    alike = merge(sides, np.dtype(np.uint8), {(1, 2): 50, (1, 8): 50})
    unknown = merge(sides, np.dtype(np.uint8))
    np.testing.assert_array_equal(alike.sure, unknown.sure)
