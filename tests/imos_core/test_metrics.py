"""J and F: the reference's numbers, closed forms, and properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imos_core.errors import PromptError
from imos_core.evaluation.surfaces import surface_distances
from imos_core.evaluation.volumes import compare
from imos_core.metrics import boundary_f, j_and_f, jaccard

GOLDEN = Path(__file__).parents[1] / "data" / "metrics_subset.npz"
MASKS = arrays(bool, st.tuples(st.integers(2, 24), st.integers(2, 24)))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        pairs = []
        for i, (h, w) in enumerate(file["shapes"]):
            where = slice(file["offsets"][i], file["offsets"][i + 1])
            bits = (np.unpackbits(file[k][where])[: h * w] for k in ("pred_bits", "gt_bits"))
            pairs.append([b.reshape(h, w).astype(bool) for b in bits])
        return pairs, file["J"], file["F"]


def test_scores_of_the_reference(golden):
    pairs, j, f = golden
    for (pred, truth), expected_j, expected_f in zip(pairs, j, f, strict=True):
        assert float(jaccard(pred, truth)) == pytest.approx(expected_j, abs=1e-12)
        assert float(boundary_f(pred, truth)) == pytest.approx(expected_f, abs=1e-12)


def _square(shift=0, size=100):
    mask = np.zeros((size, size), bool)
    mask[30:60, 30 + shift : 60 + shift] = True
    return mask


def test_shifted_squares_in_closed_form():
    # 30 x 30 squares, shifted by 10: 20 columns shared, 40 in the union
    assert float(jaccard(_square(), _square(10))) == pytest.approx(0.5)


def test_a_shift_within_the_tolerance_costs_no_boundary_score():
    # 100 x 100: radius ceil(0.008 * 141.4) = 2
    assert float(boundary_f(_square(), _square(2))) == 1.0
    assert float(boundary_f(_square(), _square(3))) < 1.0


def test_a_tolerance_of_one_or_more_means_pixels():
    assert float(boundary_f(_square(), _square(3), tolerance=3)) == 1.0


@pytest.mark.parametrize(
    ("pred", "truth", "j", "f"),
    [(False, False, 1, 1), (True, False, 0, 0), (False, True, 0, 0), (True, True, 1, 1)],
)
def test_empty_masks(pred, truth, j, f):
    a, b = _square() & pred, _square() & truth
    assert (float(jaccard(a, b)), float(boundary_f(a, b))) == (j, f)


@settings(max_examples=50, deadline=None)
@given(MASKS)
def test_a_mask_agrees_with_itself(mask):
    assert float(jaccard(mask, mask)) == 1.0
    assert float(boundary_f(mask, mask)) == 1.0


@settings(max_examples=50, deadline=None)
@given(MASKS, st.randoms(use_true_random=False))
def test_scores_are_symmetric_and_bounded(mask, random):
    flips = np.array([random.random() < 0.3 for _ in range(mask.size)]).reshape(mask.shape)
    other = mask ^ flips
    for score in (jaccard, boundary_f):
        forward, back = float(score(mask, other)), float(score(other, mask))
        assert forward == pytest.approx(back)
        assert 0 <= forward <= 1


@pytest.mark.parametrize("shape", [(0, 0), (3, 0, 4), (2, 0), (0, 3, 4)])
def test_masks_without_pixels_agree(shape):
    nothing = np.zeros(shape, bool)
    for score in (jaccard(nothing, nothing), boundary_f(nothing, nothing)):
        assert score.shape == shape[:-2]
        assert (score == 1).all()


def test_stacks_are_scored_frame_by_frame():
    pred = np.stack([_square(), _square(10)])
    truth = np.stack([_square(), _square()])
    assert jaccard(pred, truth).tolist() == pytest.approx([1.0, 0.5])
    assert boundary_f(pred[None], truth[None]).shape == (1, 2)


def test_skipped_frames_do_not_count():
    pred = np.stack([_square(), _square(10), _square(50) & False])
    truth = np.stack([_square()] * 3)
    scores = j_and_f(pred, truth, skip=(2,))
    assert scores.j == pytest.approx(0.75)
    assert scores.mean == pytest.approx((scores.j + scores.f) / 2)
    assert np.isnan(j_and_f(pred, truth, skip=(0, 1, 2)).j)


@pytest.mark.parametrize(
    "skip",
    [(0, 2), (0, -1), [-3, 2], iter([0, 2]), (k for k in (0, 2)), np.array([0, -1]), {2, 0}],
)
def test_skipped_frames_are_given_as_indices_of_any_kind(skip):
    pred = np.stack([_square(50), _square(), _square(50)])
    assert j_and_f(pred, np.stack([_square()] * 3), skip=skip).mean == 1


@pytest.mark.parametrize("skip", [2, -1, np.int64(2)])
def test_one_skipped_frame_needs_no_list(skip):
    pred = np.stack([_square(), _square(), _square(50)])
    assert j_and_f(pred, np.stack([_square()] * 3), skip=skip).mean == 1


@pytest.mark.parametrize(("skip", "match"), [((0, 3), "Slice 3"), (-4, "Slice -4"), ("1", "whole")])
def test_skipped_frames_are_there(skip, match):
    masks = np.stack([_square()] * 3)
    for score in (j_and_f, compare):
        with pytest.raises(PromptError, match=match):
            score(masks, masks, skip=skip)


def _far_apart():
    """Make large slices: contours agree within 2 pixels, which reaches beyond an object's box."""
    truth = np.zeros((2, 100, 100), np.uint64)
    truth[:, 30:60, 30:60], truth[:, 70:80, :10] = 1, 2
    prediction = np.roll(truth, 2, axis=2)
    prediction[:, :, :2] = 0
    return prediction, truth


@settings(max_examples=30, deadline=None)
@given(
    both=st.tuples(st.integers(1, 4), st.integers(2, 20), st.integers(2, 20)).flatmap(
        lambda shape: st.tuples(*[arrays(np.uint64, shape, elements=st.integers(0, 40))] * 2)
    ),
    skipped=st.booleans(),
    factor=st.sampled_from([1, 2**58]),
)
@example(both=_far_apart(), skipped=True, factor=1)
def test_objects_are_scored_as_whole_volumes_are(both, skipped, factor):
    prediction, truth = (volume * np.uint64(factor) for volume in both)
    kept = slice(int(skipped), None)
    ids = np.unique(truth[kept][truth[kept] > 0]).tolist()
    if not ids:
        return
    found = compare(prediction, truth, skip=[0] if skipped else [], spacing=(2.0, 1.0, 0.5))
    assert [score.label for score in found] == ids
    for score in found:
        a, b = prediction == score.label, truth == score.label
        assert (score.j, score.f, score.mean) == j_and_f(a[kept], b[kept])
        assert score.dice == 2 * (a & b)[kept].sum() / (a[kept].sum() + b[kept].sum())
        assert (score.surface_distance is None) == (not a.any())
        if a.any():
            distances = np.concatenate(surface_distances(a, b, (2.0, 1.0, 0.5)))
            assert score.surface_distance == pytest.approx(distances.mean())


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="cannot be compared"):
        jaccard(np.zeros((3, 3)), np.zeros((3, 4)))
