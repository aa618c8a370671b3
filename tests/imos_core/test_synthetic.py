"""Synthetic volumes: reproducible, exact, varied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imos_core.errors import ImageError
from imos_core.synthetic import KINDS, synthetic_volume

SMALL = (12, 64, 72)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_names_one_volume(kind: str) -> None:
    image, labels = synthetic_volume(kind, SMALL, seed=3)
    again, labels_again = synthetic_volume(kind, SMALL, seed=3)
    other, _ = synthetic_volume(kind, SMALL, seed=4)

    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(image, other)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(st.integers(1, 9), st.integers(16, 40), st.integers(16, 40)),
    seed=st.integers(0, 2**31),
)
def test_image_and_labels_fit_any_shape(kind: str, shape: tuple[int, int, int], seed: int) -> None:
    image, labels = synthetic_volume(kind, shape, seed)

    assert (image.shape, image.dtype) == (shape, np.uint8)
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
def test_some_objects_end_inside_the_volume(kind: str) -> None:
    ends = 0
    for seed in range(6):
        _, labels = synthetic_volume(kind, (24, 64, 64), seed)
        present = [np.flatnonzero((labels == k).any((1, 2))) for k in range(1, labels.max() + 1)]
        ends += sum(slices[0] > 0 or slices[-1] < 23 for slices in present)

    assert ends >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_in_the_image(kind: str) -> None:
    """Intensities change more across the boundaries of the truth than elsewhere."""
    ratios = []
    for seed in range(5):
        image, labels = synthetic_volume(kind, SMALL, seed)
        step = np.abs(np.diff(image.astype(float), axis=2))
        boundary = labels[:, :, 1:] != labels[:, :, :-1]
        near = boundary | np.roll(boundary, 1, 2) | np.roll(boundary, -1, 2)
        ratios.append(step[near].mean() / step[~near].mean())

    assert np.mean(ratios) > 1.1


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ImageError, match="choose one of"):
        synthetic_volume("clouds")


@pytest.mark.parametrize("shape", [(0, 64, 64), (8, 8, 64), (8, 64)])
def test_a_shape_too_small_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="needs shape"):
        synthetic_volume("organs", shape)  # type: ignore[arg-type]
