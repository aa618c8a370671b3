"""The plugin with the real engine and the embedded model."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_imos
from imos_core.errors import DeviceError, WeightsError
from napari_imos._widget import PropagateWidget


@pytest.fixture
def discs() -> tuple[np.ndarray, np.ndarray]:
    """Image and truth, `(7, 64, 72)`: a disc drifts to the right, a darker one shrinks.

    slice 0:  . A . . b b     slice 6:  . . . A . b
    """
    rows, columns = np.mgrid[:64, :72]
    truth = np.zeros((7, 64, 72), np.uint16)
    for k in range(7):
        truth[k][(rows - 30) ** 2 + (columns - 18 - 2 * k) ** 2 < 100] = 3
        truth[k][(rows - 34) ** 2 + (columns - 56) ** 2 < (11 - k) ** 2] = 500
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    image = 60 + 120 * (truth == 3) + 60 * (truth == 500) + noise
    return image.astype(np.float32), truth


def overlap(found: np.ndarray, truth: np.ndarray, label: int) -> float:
    a, b = found == label, truth == label
    return float((a & b).sum() / (a | b).sum())


def test_arrays_with_the_embedded_model(discs):
    image, truth = discs
    painted = np.where(np.arange(7)[:, None, None] == 3, truth, 0).astype(truth.dtype)
    result = napari_imos.propagate(image, painted, device="cpu")
    np.testing.assert_array_equal(result[3], truth[3])
    assert result.dtype == truth.dtype
    for label in (3, 500):
        assert overlap(result, truth, label) > 0.7, label
        assert overlap(np.broadcast_to(truth[3], truth.shape), truth, label) < 0.8, "too easy"


def test_the_axis_does_not_matter(discs):
    image, truth = discs
    painted = np.where(np.arange(7)[:, None, None] == 3, truth, 0).astype(truth.dtype)
    expected = napari_imos.propagate(image, painted, start=2, stop=5, device="cpu")
    turned = napari_imos.propagate(
        np.moveaxis(image, 0, 2), np.moveaxis(painted, 0, 2), axis=2, start=2, stop=5, device="cpu"
    )
    np.testing.assert_array_equal(np.moveaxis(turned, 2, 0), expected)


def test_layers_with_the_embedded_model(discs):
    image, truth = discs
    viewer = ViewerModel()
    labels = viewer.add_labels(np.zeros_like(truth))
    labels.data[3] = truth[3]
    napari_imos.propagate(viewer.add_image(image), labels, device="cpu", stop=5)
    assert (labels.data[4] == 3).any()
    assert not labels.data[5].any()
    labels.undo()
    assert not labels.data[4].any()


@pytest.mark.parametrize(
    ("keywords", "error", "sentence"),
    [
        ({"model": "nowhere.safetensors"}, WeightsError, "does not exist"),
        ({"model": "imos-nothing"}, WeightsError, "no model named"),
        ({"device": "cuda"}, DeviceError, "No CUDA device"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_written(discs, keywords, error, sentence):
    import torch

    if "device" in keywords and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    image, truth = discs
    viewer = ViewerModel()
    labels = viewer.add_labels(np.where(np.arange(7)[:, None, None] == 3, truth, 0))
    before = labels.data.copy()
    with pytest.raises(error, match=sentence):
        napari_imos.propagate(viewer.add_image(image), labels, **keywords)
    np.testing.assert_array_equal(labels.data, before)
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_the_widget_says_what_is_missing(qtbot, make_napari_viewer, discs, tmp_path):
    image, truth = discs
    viewer = make_napari_viewer()
    viewer.add_image(image)
    labels = viewer.add_labels(truth.copy())
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.advanced._model_box.value = tmp_path / "nowhere.safetensors"
    widget.propagate.native.click()
    qtbot.waitUntil(lambda: "does not exist" in widget.status.value, timeout=60_000)
    np.testing.assert_array_equal(labels.data, truth)
    assert widget.propagate.enabled
