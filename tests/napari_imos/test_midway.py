"""What people do to a Labels layer while a run writes into it, and what Ctrl+Z then takes back."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from napari.layers import _layer_actions
from test_widget import click, wait, wait_done

from napari_imos._record import ledger as _ledger
from napari_imos._record.ledger import Ledger
from napari_imos._walk import Walk
from napari_imos._widget import PropagateWidget

WALK = Walk(3, 0)


@pytest.fixture
def kind():
    return "memory"


@pytest.fixture
def midway(qtbot, engine, make_napari_viewer, volume, painted, kind, tmp_path, monkeypatch):
    """A widget whose run has come to slice 9 and waits there; what was painted can be undone."""
    viewer = make_napari_viewer()
    viewer.add_image(volume)
    data = np.zeros_like(painted)
    if kind == "disk":
        data = zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(1, 8, 8))
        monkeypatch.setattr(_ledger, "_NEAR", 0)
    labels = viewer.add_labels(data)
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.dims.set_current_step(0, 5)
    stroke(viewer, labels, 5, (7, 7), 1, 6)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 5, label 1")
    engine.hold_at = 9
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: labels.data[1].any())
    return viewer, labels, widget


def stroke(viewer, labels, k, at, label, size):
    viewer.dims.set_current_step(0, k)
    labels.brush_size = size
    labels.paint((k, *at), label)


def filled(labels):
    return np.flatnonzero(np.asarray(labels.data).any((1, 2))).tolist()


def looked(qtbot, widget):
    """Wait until the window has looked at what was undone."""
    qtbot.wait(50)
    wait(qtbot, lambda: not widget.loop.looking)


def test_a_hidden_layer_is_one_step_of_undo(qtbot, engine, midway):
    viewer, labels, widget = midway
    labels.visible = False
    viewer.dims.set_current_step(0, 2)
    engine.release.set()
    wait_done(qtbot, widget)
    assert not labels.visible
    assert widget.status.value.endswith("Ctrl+Z takes it back.")
    labels.visible = True
    assert filled(labels) == list(range(12))
    labels.undo()
    assert filled(labels) == [5]
    labels.redo()
    assert filled(labels) == list(range(12))
    labels.undo()
    # nothing of the run is left for the next step
    stroke(viewer, labels, 7, (15, 15), 3, 2)
    labels.undo()
    assert filled(labels) == [5]


@pytest.mark.parametrize(("kind", "label"), [("memory", 2), ("memory", 0), ("disk", 2)])
def test_what_lay_under_a_stroke_goes_with_its_run(qtbot, engine, midway, label):
    viewer, labels, widget = midway
    stroke(viewer, labels, 8, (7, 7), label, 4)
    theirs = labels.data[8].copy()
    engine.release.set()
    wait_done(qtbot, widget)
    np.testing.assert_array_equal(labels.data[8], theirs)
    for _ in range(2):  # and once more, after all was made again
        for expected in ([5, 8] if label else [5], [5], []):
            labels.undo()
            looked(qtbot, widget)
            assert filled(labels) == expected
        assert widget.loop.anchors() == []
        for _ in range(3):
            labels.redo()
        looked(qtbot, widget)
        np.testing.assert_array_equal(labels.data[8], theirs)
        assert filled(labels) == list(range(12))


def test_paint_in_the_place_of_what_was_taken_back_stays(qtbot, engine, midway):
    viewer, labels, widget = midway
    stroke(viewer, labels, 8, (7, 7), 2, 4)
    engine.release.set()
    wait_done(qtbot, widget)
    labels.undo()
    labels.undo()
    looked(qtbot, widget)
    stroke(viewer, labels, 8, (7, 7), 1, 6)
    theirs = labels.data[8].copy()
    looked(qtbot, widget)
    np.testing.assert_array_equal(labels.data[8], theirs)
    assert theirs.any()


def test_what_a_script_writes_in_the_place_of_what_was_taken_back_stays(qtbot, engine, midway):
    viewer, labels, widget = midway
    stroke(viewer, labels, 8, (7, 7), 2, 4)
    engine.release.set()
    wait_done(qtbot, widget)
    for _ in range(2):
        labels.undo()
        looked(qtbot, widget)
    assert filled(labels) == [5]
    assert widget.status.value == "Taken back."
    labels.data[8, 4:10, 4:10] = 1
    labels.refresh()
    looked(qtbot, widget)
    assert (labels.data[8] == 1).sum() == 36


def test_a_stroke_that_outlives_its_run_goes_with_what_lay_under_it(qtbot, engine, midway):
    viewer, labels, widget = midway
    stroke(viewer, labels, 8, (7, 7), 2, 4)
    engine.release.set()
    wait_done(qtbot, widget)
    labels.undo()
    looked(qtbot, widget)
    stroke(viewer, labels, 2, (3, 3), 2, 2)
    looked(qtbot, widget)
    for expected in ([5, 8], [5]):
        labels.undo()
        looked(qtbot, widget)
        assert filled(labels) == expected


def test_a_duplicate_knows_what_there_was_when_it_was_made(qtbot, engine, midway):
    viewer, labels, widget = midway
    viewer.layers.selection = {labels}
    viewer.layers.selection.active = labels
    _layer_actions._duplicate_layer(viewer.layers)
    engine.release.set()
    wait_done(qtbot, widget)
    (copy,) = (layer for layer in viewer.layers if layer.name.endswith("copy"))
    assert filled(copy) == list(range(1, 9))
    assert Ledger.of(copy).anchors(copy, WALK) == [5], "nobody has erased anything there"
    viewer.layers.selection.active = copy
    wait(qtbot, lambda: widget.choices.labels_layer == copy)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert filled(copy) == list(range(12))


def test_labels_that_cannot_be_written_end_the_run_with_a_sentence(
    qtbot, engine, midway, monkeypatch
):
    _viewer, labels, widget = midway

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_imos._record.pages.SinglePages.write", full)
    engine.release.set()
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("The labels cannot be written: ")
    assert not Ledger.of(labels).busy
    monkeypatch.undo()
    # what was written before is one step, and the window is of use again
    assert filled(labels)[-1] == 8
    labels.undo()
    assert filled(labels) == [5]


@pytest.mark.parametrize("label", [2, 0])
def test_a_commit_that_fails_leaves_what_was_painted(qtbot, engine, midway, monkeypatch, label):
    viewer, labels, widget = midway
    stroke(viewer, labels, 8, (7, 7), label, 4)
    theirs = labels.data[8].copy()

    def full(*args, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(labels), "data_setitem", full)
    engine.release.set()
    wait_done(qtbot, widget)
    monkeypatch.undo()
    assert widget.status.value.startswith("The labels cannot be written: ")
    np.testing.assert_array_equal(labels.data[8], theirs)
    assert filled(labels) == list(range(12)), "what was put back is there again"
    # the next stroke is a step of its own
    before = labels.data.copy()
    stroke(viewer, labels, 7, (15, 15), 3, 2)
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_labels_of_another_shape_end_the_run_with_a_sentence(qtbot, engine, midway):
    _viewer, labels, widget = midway
    labels.data = labels.data[:6].copy()
    engine.release.set()
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("The labels were given another array ")
    looked(qtbot, widget)
    assert Ledger.of(labels).record(labels, WALK).length == 6
