"""Surface Dice and HD95: closed forms, an independent implementation, and properties."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from skimage.measure import marching_cubes, mesh_surface_area
from tiny import disc_volume

from imos_core.evaluation.baselines import copy_prompt
from imos_core.evaluation.protocols import TrueSequence, read_sequences, tasks_of
from imos_core.evaluation.scoring import score
from imos_core.evaluation.surfaces import SurfaceMetrics

SPACING = (3.0, 1.0, 0.5)


def cuboid(shape=(12, 16, 20), start=(3, 4, 5), size=(5, 6, 7)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))] = True
    return mask


def points_of(corners, spacing):
    return np.argwhere(corners) * np.asarray(spacing)


def hd95_by_hand(a, b, spacing):
    """All pairs of rim voxels; the rim is what has a neighbour outside (across a face)."""

    def rim(mask):
        padded = np.pad(mask, 1)
        inner = padded.copy()
        for axis, way in product(range(mask.ndim), (-1, 1)):
            inner &= np.roll(padded, way, axis)
        return points_of((padded & ~inner), spacing)

    far = cdist(rim(a), rim(b))
    return max(np.percentile(far.min(1), 95), np.percentile(far.min(0), 95))


def surface_dice_by_hand(a, b, spacing, tolerance):
    """All pairs of corners between voxels; in a plane each has the length of its contour."""

    def elements(mask):
        padded = np.pad(mask, 1)
        neighbours = np.stack(
            [padded[1:, 1:], padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]], -1
        )
        total = neighbours.sum(-1)
        there = (total > 0) & (total < 4)
        high, wide = spacing
        corner = np.hypot(high, wide) / 2
        # one or three of four: a diagonal cut; two: a straight cut, or two diagonal ones
        length = np.where(total % 2 == 1, corner, 0.0)
        across = neighbours[..., 0] == neighbours[..., 1]
        along = neighbours[..., 0] == neighbours[..., 2]
        length = np.where((total == 2) & across, wide, length)
        length = np.where((total == 2) & along, high, length)
        length = np.where((total == 2) & ~across & ~along, 2 * corner, length)
        return points_of(there, spacing), length[there]

    (p, length_p), (q, length_q) = elements(a), elements(b)
    far = cdist(p, q)
    near = length_p[far.min(1) <= tolerance].sum() + length_q[far.min(0) <= tolerance].sum()
    return near / (length_p.sum() + length_q.sum())


@pytest.fixture(scope="module")
def metrics():
    return SurfaceMetrics()


def test_a_volume_agrees_with_itself(metrics):
    assert metrics(cuboid(), cuboid(), SPACING) == (1.0, 0.0)


@pytest.mark.parametrize(("axis", "distance"), [(0, 3.0), (1, 1.0), (2, 0.5)])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_distance_of_a_shifted_cuboid_is_the_shift(metrics, axis, distance, steps):
    start = [3, 4, 5]
    start[axis] += steps
    found = metrics(cuboid(start=tuple(start)), cuboid(), SPACING)
    assert found.hd95 == pytest.approx(steps * distance, abs=1e-6)


def test_a_wider_tolerance_forgives_a_shift():
    a, b = cuboid(start=(4, 4, 5)), cuboid()
    strict, lenient = (SurfaceMetrics(t)(a, b, SPACING).dice for t in (2.9, 3.0))
    assert strict < 0.9
    assert lenient == 1


def test_a_shift_by_the_tolerance_is_forgiven_in_single_precision():
    # 2 x 0.8 in single precision is more than 1.6
    found = SurfaceMetrics()(cuboid(start=(3, 6, 5)), cuboid(), (1.0, 0.8, 0.8))
    assert found.dice == 1


def test_the_tolerance_is_two_pixels_unless_told(metrics):
    a, b = cuboid(start=(3, 4, 5)), cuboid(start=(3, 6, 5))
    assert metrics(a, b, SPACING).dice == 1
    assert metrics(a, cuboid(start=(3, 7, 5)), SPACING).dice < 1


MASKS = arrays(bool, (5, 6, 7), elements=st.booleans())


@settings(max_examples=20, deadline=None)
@given(MASKS, MASKS)
def test_distances_agree_with_all_pairs(a, b):
    if a.any() and b.any():
        found = SurfaceMetrics()(a, b, SPACING)
        assert found.hd95 == pytest.approx(hd95_by_hand(a, b, SPACING), abs=1e-6)


FRAMES = arrays(bool, (9, 11), elements=st.booleans())


@settings(max_examples=20, deadline=None)
@given(FRAMES, FRAMES, st.sampled_from([0.6, 1.0, 2.5]))
def test_frames_agree_with_all_pairs(a, b, tolerance):
    if a.any() and b.any():
        found = SurfaceMetrics(tolerance)(a[None], b[None], (9.0, 1.0, 0.5), "t")
        assert found.hd95 == pytest.approx(hd95_by_hand(a, b, (1.0, 0.5)), abs=1e-6)
        by_hand = surface_dice_by_hand(a, b, (1.0, 0.5), tolerance)
        assert found.dice == pytest.approx(by_hand, abs=1e-6)


def test_of_a_volume_the_share_is_one_of_areas():
    # one of both has a needle, far from the other: its share of the area is missing
    a, b = cuboid(shape=(30, 16, 20)), cuboid(shape=(30, 16, 20))
    a[8:29, 6, 7] = True
    found = SurfaceMetrics(1.0)(a, b, (1.0, 1.0, 1.0)).dice
    areas = []
    for mask in (a, b):
        vertices, faces, *_ = marching_cubes(mask.astype(float), 0.5)
        areas.append(mesh_surface_area(vertices, faces))
    lost = areas[0] - areas[1]
    assert found == pytest.approx(1 - lost / sum(areas), abs=0.02)


@settings(max_examples=20, deadline=None)
@given(MASKS, MASKS)
def test_scores_are_symmetric_and_bounded(a, b):
    metrics = SurfaceMetrics(1.0)
    forward, back = metrics(a, b, SPACING), metrics(b, a, SPACING)
    assert forward == pytest.approx(back, abs=1e-6, nan_ok=True)
    if a.any() or b.any():
        assert 0 <= forward.dice <= 1 + 1e-6


def test_what_is_missing_has_no_distance(metrics):
    assert metrics(cuboid() & False, cuboid(), SPACING) == (0.0, None)
    nothing = metrics(cuboid() & False, cuboid() & False, SPACING)
    assert np.isnan(nothing.dice)
    assert nothing.hd95 is None


def test_frames_have_contours_of_their_own(metrics):
    truth = np.zeros((4, 20, 20), bool)
    truth[:, 5:12, 5:12] = True
    pred = truth.copy()
    pred[0] = False  # given, does not count
    pred[1] = np.roll(truth[1], 4, 0)
    truth[3] = pred[3] = False  # empty in both, does not count
    found = metrics(pred, truth, (50.0, 1.0, 1.0), "t", (0,))
    assert found.hd95 == pytest.approx((4 + 0) / 2)
    assert 0.5 < found.dice < 1


def test_results_have_them_if_asked(tmp_path):
    image, labels = disc_volume(5, 32)
    sequence = TrueSequence("disc", "toy", image, labels, (2.0, 1.0, 1.0))
    (task,) = tasks_of(sequence, "first")
    plain = score(task, "first", "copy", copy_prompt)
    assert (plain.surface_dice, plain.hd95) == (None, None)
    found = score(task, "first", "copy", copy_prompt, surfaces=SurfaceMetrics(1.0))
    assert 0 < found.surface_dice < 1
    assert 1 <= found.hd95 <= 4


@pytest.mark.parametrize(
    ("meta", "colour", "length", "axis"),
    [
        ('{"axis": "t"}', False, 5, "t"),
        ('{"axis": "z"}', True, 5, "z"),
        ("{}", False, 5, "z"),
        ("{}", True, 5, "t"),
        ("{}", False, 2, "t"),
    ],
)
def test_sequences_say_what_their_slices_are(tmp_path, meta, colour, length, axis):
    image, labels = disc_volume(length, 16)
    image = np.stack([image] * 3, -1) if colour else image
    np.savez(tmp_path / "a.npz", image=image, labels=labels, meta=np.array(meta))
    (sequence,) = read_sequences(tmp_path)
    assert sequence.axis == axis
