"""Images that have nothing to walk through: the dock widget says so at once."""

from __future__ import annotations

import numpy as np
import pytest

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
