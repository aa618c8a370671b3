"""Confidence of slices, and the slice to check next."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imos_core.review import (
    SURE,
    Calibration,
    anchor_distance,
    expected_jaccard,
    next_to_check,
    slice_confidence,
)


def _square(shape=(32, 32)):
    labels = np.zeros(shape, np.uint8)
    labels[12:20, 12:20] = 1
    return labels


def test_certain_labels_are_certain():
    labels = _square()
    assert slice_confidence(np.ones(labels.shape, np.float16), labels) == 1


def test_doubt_inside_is_the_mean():
    labels = _square()
    confidence = np.where(labels, 0.75, 1.0)
    assert slice_confidence(confidence, labels) == pytest.approx(0.75)


def test_doubt_around_widens_the_union():
    labels = _square()
    confidence = np.ones(labels.shape)
    confidence[12:20, 20] = 0.5  # half of eight pixels may be missing
    assert slice_confidence(confidence, labels) == pytest.approx(64 / (64 + 4))


def test_doubt_far_away_does_not_count():
    labels = _square()
    confidence = np.ones(labels.shape)
    confidence[0, 0] = 0.5
    assert slice_confidence(confidence, labels) == 1


def test_the_worst_label_counts():
    labels = _square((64, 64)).astype(np.int64)
    labels[50:54, 50:54] = 2**40  # ids may be large
    confidence = np.ones(labels.shape)
    confidence[50:54, 50:54] = 0.6
    assert slice_confidence(confidence, labels) == pytest.approx(0.6)
    confidence[12:20, 12:20] = 0.55
    assert slice_confidence(confidence, labels) == pytest.approx(0.55)


def test_an_empty_slice_is_as_sure_as_its_least_sure_pixels():
    labels = np.zeros((32, 32), np.uint8)
    confidence = np.ones(labels.shape)
    assert slice_confidence(confidence, labels) == 1
    confidence[4:8, 4:8] = 0.625  # sixteen pixels
    assert slice_confidence(confidence, labels) == pytest.approx(0.625)


def test_tiny_and_odd_input():
    assert slice_confidence(np.full((2, 2), 0.5), np.zeros((2, 2), int)) == 0.5
    assert slice_confidence(np.full((2, 2), 0.5), np.ones((2, 2), int)) == 0.5
    assert slice_confidence(np.zeros((0, 3)), np.zeros((0, 3), int)) == 1
    with pytest.raises(ValueError, match="does not fit"):
        slice_confidence(np.ones((2, 2)), np.ones((2, 3), int))
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        slice_confidence(np.ones((2, 2, 2)), np.ones((2, 2, 2), int))


@pytest.mark.parametrize(
    ("anchors", "distance"),
    [([5], 0), ([2], 3), ([2, 0], 3), ([9], 4), ([2, 11], 2), ([4, 6], 0.5), ([], math.inf)],
)
def test_distance_from_anchors(anchors, distance):
    assert anchor_distance(5, anchors) == pytest.approx(distance)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 500), st.floats(0, 500))
def test_surer_and_nearer_slices_are_expected_to_be_better(low, high, near, far):
    low, high = sorted((low, high))
    near, far = sorted((near, far))
    labels = np.ones((4, 4), int)

    def expected(sure, away):
        return expected_jaccard(np.full((4, 4), sure), labels, away)

    assert 0 <= expected(low, far) <= expected(high, near) <= 1


def test_closed_form_of_the_expected_jaccard_index():
    ours = Calibration(constant=-1, doubt=2, distance=3, empty=0.4)
    labels = np.ones((4, 4), int)
    # odds of one slice away: 1 / doubt squared, over e
    doubt = 0.25
    odds = doubt**-2 / np.e
    found = expected_jaccard(np.full((4, 4), 1 - doubt), labels, 1, ours)
    assert found == pytest.approx(odds / (1 + odds))
    found = expected_jaccard(np.full((4, 4), 1 - doubt), labels, 2, ours)
    assert found == pytest.approx(odds / 8 / (1 + odds / 8))
    assert expected_jaccard(np.ones((4, 4)), np.zeros((4, 4), int), 2, ours) == 0.4


def test_an_anchor_is_right_and_without_anchors_nothing_is():
    for labels in (np.zeros((4, 4), int), np.ones((4, 4), int)):
        assert expected_jaccard(np.full((4, 4), 0.5), labels, 0) == 1
        assert expected_jaccard(np.ones((4, 4)), labels, math.inf) == 0


def test_nothing_is_left_when_all_are_anchors_or_sure():
    assert next_to_check({}, []) is None
    assert next_to_check({0: 0.1, 1: 0.2}, [0, 1]) is None
    assert next_to_check({0: 1.0, 1: 0.99, 2: 0.95}, [0]) is None
    assert next_to_check({0: 1.0, 1: 0.99, 2: 0.95}, [0], sure=0.96) == 2


def test_a_lone_doubtful_slice_is_proposed():
    confidence = dict.fromkeys(range(20), 1.0) | {13: 0.5}
    assert next_to_check(confidence, [0, 19]) == 13


def test_the_middle_of_an_even_stretch_is_proposed():
    confidence = dict.fromkeys(range(1, 10), 0.5)
    assert next_to_check(confidence, [0, 10]) == 5


def test_the_longer_of_two_even_stretches_is_proposed():
    confidence = dict.fromkeys(range(31), 0.5)
    assert next_to_check(confidence, [0, 10, 30]) == 20


def test_the_worse_of_two_equal_stretches_is_proposed():
    confidence = {k: 0.8 if k < 10 else 0.5 for k in range(21)}
    assert next_to_check(confidence, [0, 10, 20]) == 15


def test_closed_form_of_the_gain():
    # errors 0.2, 0.2, e at distances 1, 2, 3 from the anchor; gains of correcting
    # slice 1: 0.2 + 0.2 / 2 + e / 3
    # slice 2: 0.2 / 2 + 0.2 + e * 2 / 3
    # slice 3: 0.2 / 3 + 0.2 * 2 / 3 + e, which wins from e = 0.3 on
    assert next_to_check({1: 0.8, 2: 0.8, 3: 0.72}, [0]) == 2
    assert next_to_check({1: 0.8, 2: 0.8, 3: 0.68}, [0]) == 3
    # the same the other way
    assert next_to_check({3: 0.8, 2: 0.8, 1: 0.72}, [4]) == 2
    assert next_to_check({3: 0.8, 2: 0.8, 1: 0.68}, [4]) == 1


def test_where_an_object_is_found_no_more_is_proposed_however_sure():
    confidence = {1: 0.95, **dict.fromkeys(range(2, 9), 0.9)}
    assert next_to_check(confidence, [0], ends={2}) == 2
    assert next_to_check(confidence, [0, 2], ends={2}) is None
    # all slices behind it may be wrong, which is worse than one that is doubtful
    assert next_to_check(confidence | {1: 0.8}, [0], ends={2}) == 2
    assert next_to_check(confidence | {1: 0.1}, [0], ends={2}) == 1


def test_without_anchors_the_centre_of_doubt_is_proposed():
    assert next_to_check({0: 0.9, 1: 0.4, 2: 0.4, 3: 0.4, 4: 0.9}, []) == 2


@given(
    st.dictionaries(st.integers(0, 40), st.floats(0, 1), max_size=20),
    st.sets(st.integers(0, 40), max_size=6),
)
def test_proposals_are_doubtful_slices(confidence, anchors):
    proposal = next_to_check(confidence, anchors)
    doubtful = {k for k, c in confidence.items() if c < SURE and k not in anchors}
    assert (proposal in doubtful) if doubtful else proposal is None
