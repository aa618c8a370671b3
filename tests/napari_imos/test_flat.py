"""Images that have nothing to walk through: the dock widget says so at once."""

from __future__ import annotations

import numpy as np
import pytest
from test_widget import click, wait, wait_done

from napari_imos._widget import PropagateWidget

SENTENCE = "The image has {}: propagation needs a volume or a video."


@pytest.mark.parametrize(
    ("shape", "rgb", "words"),
    [
        ((20, 24), False, "2 axes"),
        ((20, 24, 3), True, "2 axes"),
        (
            (1, 20, 24),
            False,
            "only one slice",
        ),
    ],
)
def test_a_flat_image_is_named_as_the_reason(make_napari_viewer, shape, rgb, words):
    viewer, words = make_napari_viewer(), SENTENCE.format(words)
    viewer.add_image(np.zeros(shape, np.uint8), rgb=rgb)
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    assert widget.prompt.value == words
    assert widget.renew.native.isHidden(), "a Labels layer would not help"
    # nor does one that is there
    viewer.add_labels(np.zeros(shape[: 2 if rgb else len(shape)], np.uint8))
    assert widget.prompt.value == words
    assert widget.renew.native.isHidden()
    # with an image that has slices, the button is offered again
    viewer.layers.clear()
    viewer.add_image(np.zeros((4, 20, 24), np.uint8))
    assert not widget.renew.native.isHidden()
    assert widget.prompt.value.startswith("Add a Labels layer")


def test_a_mask_of_one_slice_becomes_a_prompt(qtbot, engine, make_napari_viewer, volume, painted):
    viewer = make_napari_viewer()
    viewer.add_image(volume)
    viewer.add_labels(painted[5])
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    assert widget.prompt.value.startswith("The Labels layer has 2 axes, the image 3: make a new")
    viewer.dims.set_current_step(0, 4)
    click(qtbot, widget.renew)
    labels = viewer.layers[-1]
    assert labels.data.shape == volume.shape
    np.testing.assert_array_equal(labels.data[4], painted[5])
    assert not widget.status.value, "nothing is to be painted"
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 4, labels 1-2")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels.data.any((1, 2)).all()


def test_so_does_one_beside_channels(make_napari_viewer, volume, painted):
    viewer = make_napari_viewer()
    viewer.add_image(np.stack([volume, volume]), axis_labels=("c", "z", "y", "x"))
    viewer.add_labels(painted[5])
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.dims.set_current_step(1, 4)
    widget.renew.native.click()
    labels = viewer.layers[-1]
    assert labels.data.shape == volume.shape
    np.testing.assert_array_equal(labels.data[4], painted[5])
