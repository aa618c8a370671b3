"""TIFFs as napari's own reader opens them, which drops the names of their axes."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers._source import layer_source

from napari_imos._new_labels import inner_channels

UNNAMED = ("-4", "-3", "-2", "-1")


def opened(viewer, path, **layer):
    """Add the pixels of a file as napari does."""
    with layer_source(path=str(path)):
        return viewer.add_image(tifffile.imread(path), **layer)


def written(path, axes, shape, **options):
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    metadata = {"axes": axes}
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=metadata, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options"), [("a.tif", {"imagej": True}), ("a.ome.tif", {"ome": True})]
)
def test_channels_of_a_film_are_known_as_such(choices_in, tmp_path, name, options):
    viewer = ViewerModel()
    choices = choices_in(viewer)
    image = opened(viewer, written(tmp_path / name, "TCYX", (10, 2, 6, 8), **options))
    labels = viewer.add_labels(np.zeros(image.data.shape, np.uint8))
    choices.refresh()
    assert image.axis_labels == ("t", "c", "y", "x")
    assert inner_channels(image, None) == 1, "they are offered to be split"
    assert choices.labels_layer == labels
    assert choices.walked_axis == 0


@pytest.mark.parametrize(
    ("axes", "shape", "pixels", "names"),
    [
        ("ZCYX", (5, 2, 6, 8), (5, 2, 6, 9), UNNAMED),  # cropped since
        ("QZYX", (5, 4, 6, 8), (5, 4, 6, 8), UNNAMED),  # nobody knows the first
        ("CYX", (5, 6, 8), (5, 6, 8), UNNAMED[1:]),  # else there were nothing to walk along
        ("TZYX", (5, 4, 6, 8), (5, 4, 6, 8), ("t", "z", "y", "x")),
    ],
)
def test_names_that_do_not_serve_are_left(choices_in, tmp_path, axes, shape, pixels, names):
    viewer, path = ViewerModel(), written(tmp_path / "a.ome.tif", axes, shape, ome=axes[0] != "Q")
    with layer_source(path=str(path)):
        image = viewer.add_image(np.zeros(pixels, np.uint8))
    choices_in(viewer)
    assert image.axis_labels == names


def test_a_persons_names_stay(choices_in, tmp_path):
    viewer, path = ViewerModel(), written(tmp_path / "a.tif", "TCYX", (5, 2, 6, 8), imagej=True)
    named = opened(viewer, path, axis_labels=("p", "q", "y", "x"))
    image = opened(viewer, path)
    choices = choices_in(viewer)
    assert named.axis_labels == ("p", "q", "y", "x")
    image.axis_labels = UNNAMED
    choices.refresh()
    assert image.axis_labels == UNNAMED, "taken away on purpose"


@pytest.mark.parametrize("what", ["gone", "cut", "no tiff", "address"])
def test_a_file_that_cannot_be_read_changes_nothing(choices_in, tmp_path, what):
    viewer, path = ViewerModel(), written(tmp_path / "a.tif", "TCYX", (5, 2, 6, 8), imagej=True)
    image = opened(viewer, path)
    if what == "gone":
        path.unlink()
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif what == "no tiff":
        path.write_bytes(b"II*no")
    else:
        viewer.layers.clear()
        with layer_source(path="https://example.org/a.tif"):
            image = viewer.add_image(np.zeros((5, 2, 6, 8), np.uint8))
    choices_in(viewer)
    assert image.axis_labels == UNNAMED
