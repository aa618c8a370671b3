"""Labels that lie elsewhere than their image, or have other voxels: what they see of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels
from scipy import ndimage

from imos_core.errors import FileError, PromptError
from imos_core.files.saved_jobs import job_from
from imos_core.files.sidecar import sidecar_of
from napari_imos import propagate
from napari_imos._confidence import ConfidenceLayer
from napari_imos._job import Rules
from napari_imos._layers import images_of, read_job
from napari_imos._new_labels import add_labels_for
from napari_imos._placement import placement
from napari_imos._record.ledger import Ledger
from napari_imos._saved.session import save_session

SHAPE = (12, 20, 24)
ALL = {0: 0, 1: 1, 2: 2}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(1, 255, SHAPE).astype(np.uint8)


class TestPlacement:
    @settings(deadline=None)  # napari is slow at first
    @given(
        st.tuples(*[st.floats(0.2, 5)] * 6),
        st.tuples(*[st.floats(-50, 50)] * 6),
    )
    def test_a_voxel_is_where_it_is_in_the_world(self, scales, places):
        image = Image(np.zeros((6, 7, 8)), scale=scales[:3], translate=places[:3])
        labels = Labels(np.zeros((5, 9, 4), int), scale=scales[3:], translate=places[3:])
        found = placement(image, labels, ALL)
        assert found is not None
        for voxel in ((0, 0, 0), (4, 8, 3), (2, 5, 1)):
            wanted = image.world_to_data(labels.data_to_world(voxel))
            there = [found.starts[a] + found.steps[a] * voxel[a] for a in range(3)]
            # grids that are not half a voxel apart are one
            np.testing.assert_allclose(there, wanted, atol=1.001)

    def test_the_same_grid_begins_at_zero(self):
        image = Image(np.zeros(SHAPE), scale=(3, 0.5, 0.5), translate=(1, 2, 3))
        labels = Labels(np.zeros(SHAPE, int), scale=(3, 0.5, 0.5), translate=(1.4, 2, 3.1))
        found = placement(image, labels, ALL)
        assert set(found.starts.values()) == {0}
        assert set(found.steps.values()) == {1}

    def test_turned_layers_have_none(self):
        image = Image(np.zeros(SHAPE), rotate=[[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
        assert placement(image, Labels(np.zeros(SHAPE, int)), ALL) is None
        mirrored = Image(np.zeros(SHAPE), scale=(1, 1, -1))
        assert placement(mirrored, Labels(np.zeros(SHAPE, int)), ALL) is None


# ---- In the widget's words ----


def job(viewer, image, labels, **more):
    return read_job(image, labels, 0, None, None, viewer, Ledger.of(labels), Rules(), **more)


@pytest.mark.parametrize("names", ["zyx", "czyx", "tczyx"])
def test_what_is_made_beside_an_image_lies_where_its_affine_puts_it(pixels, names):
    viewer, axes = ViewerModel(), len(names)
    affine = np.diag([1.0] * (axes - 3) + [2, 1, 1, 1])
    affine[-3, -1] = 7
    shape = (2,) * (axes - 3) + SHAPE
    viewer.add_image(np.broadcast_to(pixels, shape), axis_labels=[*names], affine=affine)
    labels = add_labels_for(viewer, viewer.layers[0])
    labels.data[..., 5, 2:9, 2:9] = 1
    image, axis = images_of(viewer.layers)[0], labels.ndim - 3
    made = read_job(image, labels, axis, [5], None, viewer, Ledger.of(labels))
    assert made.keywords["spacing"] == (2, 1, 1)
    ConfidenceLayer(viewer, labels, made, bool)
    assert len(viewer.layers) >= 3
    for layer in viewer.layers:
        np.testing.assert_allclose(layer.data_to_world((1,) * layer.ndim)[-3:], (2, 8, 1))


@pytest.fixture
def cropped(pixels):
    """An image, and labels of a part of it that reach beyond its last slice."""
    viewer = ViewerModel()
    image = viewer.add_image(pixels, scale=(3, 1, 1), contrast_limits=(0, 255))
    painted = np.zeros((10, 8, 9), np.uint8)
    painted[4, 2:5, 3:6] = 7
    labels = viewer.add_labels(painted, scale=(3, 1, 1), translate=(12, 5, 6))
    return viewer, image, labels


def test_labels_of_a_part_see_that_part(cropped, pixels):
    found = job(*cropped)
    assert found.image.shape == (10, 8, 9)
    np.testing.assert_array_equal(found.image[:8], pixels[4:, 5:13, 6:15])
    assert not found.image[8:].any()
    assert found.covered == range(8)
    assert found.ranges({}) == ((0, 8),)
    assert found.ranges({"start": 2, "stop": 10}) == ((2, 8),)
    assert found.elsewhere


def test_slices_that_the_image_does_not_have_stay_empty(cropped, engine):
    _, image, labels = cropped
    propagate(image, labels)
    assert [(call["start"], call["stop"]) for call in engine.calls] == [(0, 8)]
    assert (labels.data[:8, 2:5, 3:6] == 7).all()
    assert not labels.data[8:].any()


def test_the_record_says_where_the_labels_lie(cropped, engine, tmp_path):
    _, image, labels = cropped
    propagate(image, labels)
    save_session(labels, tmp_path / "labels.tif")
    (walk,) = json.loads(sidecar_of(tmp_path / "labels.tif").read_text())["walks"]
    assert walk["runs"][-1]["grid"] == {
        "starts": [4, 5, 6],
        "steps": [1, 1, 1],
        "image_shape": [12, 20, 24],
        "fill": 0,
    }


def test_labels_with_coarser_voxels(pixels):
    viewer = ViewerModel()
    image = viewer.add_image(pixels, contrast_limits=(0, 255))
    painted = np.zeros((12, 10, 12), np.uint8)
    painted[5, 2:5, 3:6] = 1
    labels = viewer.add_labels(painted, scale=(1, 2, 2), translate=(0, 0.5, 0.5))
    found = job(viewer, image, labels)
    assert found.image.shape == painted.shape
    blurred = ndimage.gaussian_filter(pixels[3].astype(float), 0.5, mode="nearest")
    near = (blurred[::2, ::2] + blurred[1::2, ::2] + blurred[::2, 1::2] + blurred[1::2, 1::2]) / 4
    np.testing.assert_allclose(found.image[3], near, atol=1e-3)


def test_channels_may_lie_on_grids_of_their_own(pixels):
    viewer = ViewerModel()
    image = viewer.add_image(pixels)
    other = viewer.add_image(pixels[:, 4:], translate=(0, 4, 0))
    painted = np.zeros(SHAPE, np.uint8)
    painted[5, 10:13, 3:6] = 1
    labels = viewer.add_labels(painted)
    found = job(viewer, image, labels, channels=[image, other])
    np.testing.assert_allclose(found.image[5][8:, :, 0], found.image[5][8:, :, 1], atol=0.1)
    assert not found.image[5][:4, :, 1].any()
    # no single grid says that
    assert found.elsewhere
    assert found.grid is None


def test_labels_beside_the_image_are_refused(pixels):
    viewer = ViewerModel()
    image = viewer.add_image(pixels)
    painted = np.ones((5, 6, 7), np.uint8)
    labels = viewer.add_labels(painted, translate=(0, 0, 40))
    with pytest.raises(PromptError, match="does not lie on the image"):
        job(viewer, image, labels)


def test_a_time_point_that_the_image_lacks(pixels):
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([pixels] * 3))
    painted = np.zeros((5, *SHAPE), np.uint8)
    painted[:, 5, 4:8, 4:8] = 1
    labels = viewer.add_labels(painted)
    viewer.dims.set_point(0, 4)
    with pytest.raises(PromptError, match="shows nothing at 4 on axis 0: move the slider"):
        read_job(image, labels, 1, None, None, viewer, Ledger.of(labels), Rules())
    viewer.dims.set_point(0, 2)
    found = read_job(image, labels, 1, None, None, viewer, Ledger.of(labels), Rules())
    np.testing.assert_array_equal(found.image[5], pixels[5])


def test_a_missing_session_is_still_said(tmp_path):
    with pytest.raises(FileError):
        job_from(tmp_path / "labels.tif", tmp_path / "out.tif")


@pytest.mark.parametrize(("steps", "known"), [(1, True), (2, False)])
def test_a_grid_is_of_labels_that_share_the_time_points(pixels, steps, known):
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([pixels] * 4))
    painted = np.zeros((4 // steps, 12, 16, 20), np.uint8)
    painted[0, 5, 4:8, 4:8] = 1
    labels = viewer.add_labels(painted, scale=(steps, 1, 1, 1), translate=(0, 0, 2, 3))
    viewer.dims.set_point(0, 0)
    found = read_job(image, labels, 1, None, None, viewer, Ledger.of(labels), Rules())
    assert found.elsewhere
    assert (found.grid is not None) is known
