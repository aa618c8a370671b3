"""Synthetic volumes: reproducible, exact, varied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from imos_core.errors import ImageError
from imos_core.synthetic import KINDS, synthetic_volume
from imos_core.synthetic.bodies import forked, new_canvas, patch_of, random_body, with_domes
from imos_core.synthetic.seeds import nearest_seeds, territories

SMALL = (12, 64, 72)
COLOUR = {"instruments"}


def section_counts(labels, label):
    """How many parts the section of an object has in every slice; crumbs do not count."""
    counts = []
    for plane in labels == label:
        parts, n = ndimage.label(plane)
        counts.append(int((np.bincount(parts.ravel(), minlength=n + 1)[1:] >= 6).sum()))
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_names_one_volume(kind: str) -> None:
    image, labels = synthetic_volume(kind, SMALL, seed=3)
    again, labels_again = synthetic_volume(kind, SMALL, seed=3)
    other, _ = synthetic_volume(kind, SMALL, seed=4)

    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(image, other)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(st.integers(1, 9), st.integers(16, 40), st.integers(16, 40)),
    seed=st.integers(0, 2**31),
)
def test_image_and_labels_fit_any_shape(kind: str, shape: tuple[int, int, int], seed: int) -> None:
    image, labels = synthetic_volume(kind, shape, seed)

    assert (image.shape, image.dtype) == (shape + (3,) * (kind in COLOUR), np.uint8)
    assert (labels.shape, labels.dtype) == (shape, np.uint16)
    ids = np.unique(labels)
    assert labels.max() >= 1
    np.testing.assert_array_equal(ids[ids > 0], np.arange(1, labels.max() + 1))
    assert image.std() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_objects_keep_their_place_from_slice_to_slice_yet_change(kind: str) -> None:
    overlaps = []
    for seed in range(4):
        _, labels = synthetic_volume(kind, SMALL, seed)
        here, after = labels[:-1], labels[1:]
        for k in range(1, labels.max() + 1):
            union = ((here == k) | (after == k)).sum((1, 2))
            both = ((here == k) & (after == k)).sum((1, 2))
            overlaps.extend(both[union > 30] / union[union > 30])

    assert 0.3 < np.mean(overlaps) < 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_objects_appear_and_end_inside_the_volume(kind: str) -> None:
    begin = end = 0
    for seed in range(6):
        _, labels = synthetic_volume(kind, (24, 64, 64), seed)
        present = [np.flatnonzero((labels == k).any((1, 2))) for k in range(1, labels.max() + 1)]
        begin += sum(slices[0] > 0 for slices in present)
        end += sum(slices[-1] < 23 for slices in present)

    assert begin >= 1
    assert end >= 1


@pytest.mark.parametrize("kind", ["organs", "tubes", "membranes", "lesions", "instruments"])
def test_sections_split_and_merge_along_the_volume(kind: str) -> None:
    split = merged = 0
    for seed in range(8):
        _, labels = synthetic_volume(kind, (24, 64, 64), seed)
        for k in range(1, min(labels.max(), 12) + 1):
            counts = np.array(section_counts(labels, k))
            both = (counts[:-1] > 0) & (counts[1:] > 0)
            split += int((both & (np.diff(counts) > 0)).sum())
            merged += int((both & (np.diff(counts) < 0)).sum())

    assert split >= 3
    assert merged >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_in_the_image(kind: str) -> None:
    """Intensities change more across the boundaries of the truth than elsewhere."""
    ratios = []
    for seed in range(5):
        image, labels = synthetic_volume(kind, SMALL, seed)
        image = image if image.ndim == 3 else image.mean(-1)
        step = np.abs(np.diff(image.astype(float), axis=2))
        boundary = labels[:, :, 1:] != labels[:, :, :-1]
        near = boundary | np.roll(boundary, 1, 2) | np.roll(boundary, -1, 2)
        ratios.append(step[near].mean() / step[~near].mean())

    assert np.mean(ratios) > 1.1


def test_a_dome_begins_as_a_spot_and_grows_faster_than_in_proportion() -> None:
    shape = (20, 96, 96)
    rng = np.random.default_rng(5)
    body = random_body(rng, shape, 24, 9, (10, 48, 48))._replace(roughness=0.0)
    areas = []
    for _ in range(20):
        patch = patch_of(new_canvas(rng, shape), with_domes(rng, body, (4.6, 16.4)))
        area = np.zeros(shape[0])
        area[patch.box[0]] = patch.inside.sum((1, 2))
        assert not area[:5].any()
        assert not area[17:].any()
        areas.append(area)
    mean = np.mean(areas, 0)

    assert mean[5] < 0.35 * mean[10]
    assert mean[6] > 2 * mean[5]
    assert mean[16] < 0.35 * mean[10]


def test_a_forked_body_is_one_section_on_one_side_and_two_on_the_other() -> None:
    shape = (24, 128, 128)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        canvas = new_canvas(rng, shape)
        body = random_body(rng, shape, 7, 1e4, (12, 64, 64))._replace(roughness=0.0)
        union = np.zeros(shape, np.uint8)
        for part in (body, forked(rng, body)):
            patch = patch_of(canvas, part)
            union[patch.box] |= patch.inside
        counts = section_counts(union, 1)
        assert {counts[0], counts[-1]} == {1, 2}


def test_territories_are_as_deep_as_their_border_is_far() -> None:
    rng = np.random.default_rng(0)
    seeds = nearest_seeds(rng, (10, 60, 60), 22, 1.0, candidates=4, bending=0.0)
    parts = territories(rng, seeds, merging=0.0)
    k = int(np.bincount(parts.owner[5].ravel()).argmax())
    inside = parts.owner == k
    true = ndimage.distance_transform_edt(inside)
    core = inside & (true > 2) & (true < 5)
    core[:4] = core[6:] = False
    core[:, :6] = core[:, -6:] = core[:, :, :6] = core[:, :, -6:] = False

    assert core.any()
    assert np.abs(parts.depth[core] - true[core]).mean() < 1.2


def test_merged_territories_are_fewer() -> None:
    seeds = nearest_seeds(np.random.default_rng(0), (10, 60, 60), 15, 1.0, candidates=4)
    apart = territories(np.random.default_rng(1), seeds, merging=0.0)
    joined = territories(np.random.default_rng(1), seeds, merging=0.6)

    assert apart.number == seeds.number + 1
    assert joined.number < 0.7 * apart.number


def test_videos_of_instruments_are_colourful_and_labelled_where_tools_are() -> None:
    colourful = 0
    for seed in range(4):
        image, labels = synthetic_volume("instruments", (8, 64, 64), seed)
        spread = image.max(-1).astype(int) - image.min(-1)
        colourful += spread[labels == 0].mean() > 15
    assert colourful == 4


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ImageError, match="choose one of"):
        synthetic_volume("clouds")


@pytest.mark.parametrize("shape", [(0, 64, 64), (8, 8, 64), (8, 64)])
def test_a_shape_too_small_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="needs shape"):
        synthetic_volume("organs", shape)  # type: ignore[arg-type]
