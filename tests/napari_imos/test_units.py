"""Layers and viewers that count lengths in different units."""

from __future__ import annotations

import napari
import numpy as np
import pytest
from napari.components import ViewerModel
from packaging.version import Version
from test_widget import click, wait, wait_done

from napari_imos._layers import read_job
from napari_imos._placement import placement
from napari_imos._record.ledger import Ledger
from napari_imos._units import factors, units_of
from napari_imos._walk import Walk, position, show_slice, shown_slice
from napari_imos._widget import PropagateWidget

WALK = Walk(3, 0)
# before, sliders had no units, and layers kept theirs for their scale bar
pytestmark = pytest.mark.skipif(
    Version(napari.__version__) < Version("0.7"), reason="sliders have no units"
)


@pytest.fixture
def viewer(volume, painted):
    """A viewer that counts in nanometres, with two layers in micrometres."""
    viewer = ViewerModel()
    viewer.add_image(volume, units="um", scale=(2, 0.5, 0.5))
    viewer.add_labels(painted, units="um", scale=(2, 0.5, 0.5))
    viewer.add_image(volume, units="nm", scale=(2000, 500, 500))
    assert str(viewer.dims.units[0]) == "nanometer"
    return viewer


def test_the_slice_is_the_one_that_is_seen(viewer):
    image, labels, _ = viewer.layers
    for k in (0, 7, 11):
        viewer.dims.set_current_step(0, k)
        assert shown_slice(labels, WALK, viewer) == k
        assert position(image, viewer)[0] == k
    show_slice(labels, WALK, viewer, 3)
    assert viewer.dims.point[0] == pytest.approx(6000)
    assert shown_slice(labels, WALK, viewer) == 3


def test_labels_lie_where_they_are_seen(viewer):
    _, labels, other = viewer.layers
    found = placement(other, labels, {0: 0, 1: 1, 2: 2})
    assert set(found.starts.values()) == {0}
    assert set(found.steps.values()) == {1}


def test_spacing_is_in_one_unit(volume, painted):
    viewer = ViewerModel()
    how = {"units": ("mm", "um", "um"), "scale": (0.002, 0.5, 0.5)}
    image, labels = viewer.add_image(volume, **how), viewer.add_labels(painted, **how)
    viewer.dims.set_current_step(0, 5)
    job = read_job(image, labels, 0, None, None, viewer, Ledger.of(labels))
    assert job.keywords["spacing"] == pytest.approx((2, 0.5, 0.5))


def test_what_cannot_be_compared_stays_as_it_is():
    viewer = ViewerModel()
    length = viewer.add_image(np.zeros((3, 4, 5)), units="um").units
    pixels = ViewerModel().add_image(np.zeros((3, 4, 5))).units
    np.testing.assert_array_equal(factors(length, pixels), 1)
    np.testing.assert_array_equal(factors([None], length[:1]), 1)
    assert units_of(object(), 2) == [None, None]


def test_a_person_checks_the_slice_that_they_see(
    qtbot, engine, make_napari_viewer, volume, painted
):
    viewer = make_napari_viewer()
    image = viewer.add_image(volume, units="um")
    labels = viewer.add_labels(painted, units="um")
    viewer.add_image(volume, units="nm", scale=(1000, 1000, 1000))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.choices._image_box.value = image
    viewer.dims.set_current_step(0, 5)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 5, labels 1-2")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    viewer.dims.set_current_step(0, 7)
    click(qtbot, widget.loop.checked)
    assert widget.status.value == "Slice 7 is checked and locked."
    viewer.dims.set_current_step(0, 9)
    labels.selected_label = 2
    click(qtbot, widget.loop.ends)
    wait_done(qtbot, widget)
    shown = np.flatnonzero((labels.data == 2).any((1, 2))).tolist()
    assert shown == list(range(9)), "what is checked shows it too"
