"""Many objects, large and small, that get other labels, or are taken away, throughout."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from test_ledger import WALK, anchors, kinds, run

from napari_imos._ledger import Ledger


def scene_of(plane):
    """A layer of 6 slices, painted on slice 2."""
    viewer = ViewerModel()
    image = viewer.add_image(np.random.default_rng(0).integers(0, 200, (6, *plane.shape)))
    labels = np.zeros((6, *plane.shape), plane.dtype)
    labels[2] = plane
    layer = viewer.add_labels(labels)
    viewer.dims.set_point(0, 2)
    return viewer, image, layer


def rename(labels, names):
    """Write other labels, as a plugin does."""
    before = labels.data.copy()
    for old, new in names.items():
        labels.data[before == old] = new
    labels.refresh()


@pytest.fixture
def small():
    """Two large objects, and 20 that are a hundredth of them or less."""
    plane = np.zeros((128, 128), np.uint32)
    plane[:60, 1:125], plane[62:110, 1:125] = 1, 2
    for n in range(20):
        plane[114 : 118 + n % 3, 6 * n : 6 * n + 3 + n % 2] = 10 + n
    return plane


@pytest.mark.parametrize("which", [[10], [17], [1], range(10, 30)])
def test_small_objects_that_are_renamed_stay_predicted(engine, small, which):
    scene = scene_of(small)
    labels = scene[2]
    run(scene, engine)
    rename(labels, {old: old + 500 for old in which})
    assert kinds(labels) == "ppdppp"
    assert anchors(labels) == [2]
    record = Ledger.of(labels).record(labels, WALK)
    assert {old + 500 for old in which} <= set(record.ids)
    assert not set(which) & set(record.ids)


def test_small_objects_of_a_run_below_the_latest_are_followed_too(engine, small):
    scene = scene_of(small)
    labels = scene[2]
    run(scene, engine)
    labels.data[4, 120:124, 0:4] = 40
    run(scene, engine)
    rename(labels, {13: 513})
    assert kinds(labels) == "ppdpcp"


def test_a_small_object_that_is_taken_away_throughout_locks_nothing(engine, small):
    scene = scene_of(small)
    labels = scene[2]
    run(scene, engine)
    rename(labels, {13: 0})
    assert kinds(labels) == "ppdppp"
    labels.data[4, 114, 18] = 99  # one of another, on one slice
    assert anchors(labels) == [2, 4]
