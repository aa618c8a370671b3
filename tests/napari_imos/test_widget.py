"""The dock widget in a real viewer, its real buttons clicked."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from threading import Event, current_thread, main_thread

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.layers._layer_actions import _convert_to_image
from npe2 import PluginManifest
from qtpy.QtCore import Qt

from napari_imos import propagate, start_propagation
from napari_imos._actions import propagate_shown
from napari_imos._dock import run_panel
from napari_imos._record.ledger import Ledger
from napari_imos._widget import PropagateWidget
from napari_imos._words import TAKE_BACK

MANIFEST = Path(__file__).parents[2] / "napari.yaml"


@pytest.fixture
def shown():
    """Sentences that were shown as errors."""
    from napari.utils.notifications import notification_manager

    before = len(notification_manager.records)
    return lambda: [n.message for n in notification_manager.records[before:]]


@pytest.fixture
def open_widget(make_napari_viewer, volume, painted):
    """Return a function that opens a viewer with two layers and the docked widget."""

    def build(**layer):
        viewer = make_napari_viewer()
        image = viewer.add_image(layer.pop("image", volume))
        labels = viewer.add_labels(layer.pop("labels", painted))
        viewer.dims.set_point(0, 5)
        widget = PropagateWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Propagate slice")
        return viewer, image, labels, widget

    return build


def wait(qtbot, condition):
    # long, because machines that run tests are slow at times; it returns as soon as it can
    qtbot.waitUntil(condition, timeout=20_000)


def click(qtbot, button):
    qtbot.mouseClick(button.native, Qt.MouseButton.LeftButton)


def wait_done(qtbot, widget):
    wait(qtbot, lambda: not widget.stop.enabled and widget.propagate.enabled)


def test_propagate_streams_while_a_person_scrubs_and_is_one_undo(qtbot, engine, open_widget):
    engine.hold_at = 9
    viewer, image, labels, widget = open_widget()
    before = labels.data.copy()
    assert widget.prompt.value == "Prompt: slice 5, labels 1-2"
    assert widget.propagate.enabled
    assert not widget.stop.enabled
    writers = []
    labels.events.set_data.connect(lambda event: writers.append(current_thread()))

    click(qtbot, widget.propagate)
    wait(qtbot, lambda: labels.data[8, 5, 5] == 1)
    assert not widget.propagate.enabled
    assert widget.stop.enabled
    assert labels.data[9, 5, 5] == 0, "the run should be in the middle"
    for k in (2, 7, 3):
        viewer.dims.set_point(0, k)
        qtbot.wait(20)
        assert viewer.dims.current_step[0] == k, "the person's hand goes first"
    engine.release.set()
    wait_done(qtbot, widget)

    assert (labels.data[:, 5, 5] == 1).all()
    assert (labels.data[:, 9, 15] == 2).all()
    assert widget.status.value.startswith("Done: 12 slices")
    assert set(writers) == {main_thread()}
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    assert engine.calls[0]["contrast"] == tuple(image.contrast_limits)


def test_stop_keeps_what_is_done(qtbot, engine, open_widget):
    engine.hold_at = 9
    _, _, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: labels.data[8, 5, 5] == 1)
    click(qtbot, widget.stop)
    engine.release.set()
    wait_done(qtbot, widget)
    done = int((labels.data[:, 5, 5] == 1).sum())
    assert 4 <= done < 12
    assert widget.status.value.startswith("Stopped: ")
    assert engine.closed
    labels.undo()
    assert (labels.data[:, 5, 5] == 1).sum() == 1
    engine.hold_at = None
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (labels.data[:, 5, 5] == 1).all()


def test_paint_and_other_labels_stay_while_it_runs(qtbot, engine, open_widget, painted):
    engine.hold_at = 9
    painted[6:8, 3:6, 3:6] = 8  # as a volume that came labelled
    viewer, _, labels, widget = open_widget()
    labels.mode = "paint"
    labels.selected_label, labels.brush_size = 4, 1
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: labels.data[8, 5, 5] == 1)
    assert viewer.dims.current_step[0] == 5, "the slice must not move under a brush"
    labels.paint((10, 6, 6), 4)
    engine.release.set()
    wait_done(qtbot, widget)
    assert labels.data[10, 6, 6] == 4
    assert (labels.data[7, 3:6, 3:6] == 8).all()
    assert labels.data[10, 5, 5] == 1


def test_a_failure_is_one_sentence_and_keeps_what_is_done(qtbot, engine, open_widget, shown):
    engine.fail_at = 9
    _, _, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    sentence = "The propagation failed: CUDA out of memory."
    assert widget.status.value == sentence
    assert shown() == [sentence]
    assert labels.data[8, 5, 5] == 1
    labels.undo()
    assert (labels.data[:, 5, 5] == 1).sum() == 1


def test_a_slice_that_the_image_does_not_reach_is_named_before_the_button_is_pressed(
    qtbot, engine, open_widget, volume
):
    viewer, image, labels, widget = open_widget()
    viewer.add_image(volume[:4], name="short")
    viewer.layers.remove(image)
    said = (
        "The image does not reach slice 5, where something is painted: paint on one that it has "
        "(0-3)."
    )
    qtbot.waitUntil(lambda: widget.prompt.value == said)
    # where nothing is painted on what is shown, the only painted slice would be the prompt
    viewer.dims.set_current_step(0, 1)
    qtbot.wait(400)
    assert widget.prompt.value == said
    labels.data[2, 4:8, 4:8] = 1
    labels.data[5] = 0
    labels.refresh()
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: "slice 2" in widget.prompt.value)


def test_an_anchor_that_the_image_does_not_reach_stands_in_nobodys_way(
    qtbot, engine, open_widget, volume
):
    viewer, image, labels, widget = open_widget()
    viewer.add_image(volume[:8], name="short")
    viewer.layers.remove(image)
    viewer.dims.set_current_step(0, 10)
    click(qtbot, widget.loop.checked)
    viewer.dims.set_current_step(0, 5)
    qtbot.waitUntil(lambda: widget.prompt.value == "Prompt: slice 5, labels 1-2")
    before = labels.data.copy()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("Done")
    assert labels.data[:8].any((1, 2)).all()
    np.testing.assert_array_equal(labels.data[8:], before[8:])
    # what is painted there is the person's to decide
    viewer.dims.set_current_step(0, 10)
    labels.data[10, 2:4, 2:4] = 1
    labels.refresh()
    said = (
        "The image does not reach slice 10, where something is painted: drop the anchor there "
        "(Shift+A), or choose an image that has it."
    )
    qtbot.waitUntil(lambda: widget.prompt.value == said)
    click(qtbot, widget.propagate)
    assert widget.status.value == said
    widget.loop.toggle_anchor()
    qtbot.waitUntil(lambda: widget.prompt.value == "Prompt: slice 5, labels 1-2")
    before = labels.data.copy()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("Done")
    np.testing.assert_array_equal(labels.data[8:], before[8:])


def test_bad_input_is_refused_before_any_work(qtbot, engine, open_widget, shown, volume):
    viewer, _, labels, widget = open_widget()
    labels.data[5] = 0
    click(qtbot, widget.propagate)
    viewer.add_image(volume[:4])
    labels.data[5, 4:8, 4:8] = 1
    viewer.layers.remove(viewer.layers[0])
    click(qtbot, widget.propagate)
    frozen = labels.data.copy()
    frozen.flags.writeable = False
    viewer.add_image(volume, name="fits")
    viewer.add_labels(frozen, name="frozen")
    click(qtbot, widget.propagate)
    messages = shown()
    assert len(messages) == 3
    assert "Nothing is painted" in messages[0]
    assert "does not reach slice 5" in messages[1]
    assert "read-only" in messages[2]
    assert all(message.count(". ") == 0 for message in messages)
    assert widget.status.value == messages[2]
    assert engine.calls == []


def test_the_choices_follow_the_viewer(qtbot, engine, open_widget, volume):
    viewer, image, labels, widget = open_widget()
    choices = widget.choices
    assert choices.walked_axis == 0
    viewer.dims.order = (1, 0, 2)
    assert choices.walked_axis == 1
    viewer.dims.order = (0, 1, 2)
    viewer.dims.set_point(0, 3)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 5, labels 1-2")
    labels.data[3, 0:2, 0:2] = 7
    labels.refresh()
    viewer.dims.set_point(0, 4)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 3 (with 5), labels 1-2, 7")
    viewer.dims.set_point(0, 3)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 3 (with 5), labels 1-2, 7")

    other_image = viewer.add_image(np.zeros((4, 6, 6)), name="small")
    other = viewer.add_labels(np.zeros((4, 6, 6), int), name="small labels")
    assert (choices.image_layer, choices.labels_layer) == (other_image, other)
    viewer.layers.selection.active = labels
    assert (choices.image_layer, choices.labels_layer) == (image, labels)
    assert widget.advanced.keywords(labels)["stop"] == 12
    for layer in list(viewer.layers):
        viewer.layers.remove(layer)
    assert not widget.propagate.enabled
    assert widget.prompt.value == "Open an image: a volume or a video."


def test_the_axis_follows_a_view_that_is_turned_while_it_runs(qtbot, engine, open_widget):
    engine.hold_at = 9
    viewer, _, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: labels.data[8, 5, 5] == 1)
    viewer.dims.order = (2, 0, 1)
    assert widget.choices.walked_axis == 0
    engine.release.set()
    wait_done(qtbot, widget)
    assert widget.choices.walked_axis == 2
    widget.choices._axis_box.value = 1
    viewer.layers.selection.active = viewer.layers[0]
    assert widget.choices.walked_axis == 1, "a person's choice stays"


def test_options_reach_the_engine(qtbot, engine, open_widget, adapters):
    adapters.mkdir(parents=True)
    (adapters / "heart.safetensors").touch()
    _, _, labels, widget = open_widget()
    labels.selected_label = 2
    options = widget.advanced
    options._objects_box.value = True
    options._first_box.value, options._last_box.value = 3, 8
    options._device_box.value = "cpu"
    options.adapter.choose("heart")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    call = engine.calls[0]
    assert (call["start"], call["stop"], call["labels"]) == (3, 9, (2,))
    assert (call["device"], call["model"]) == ("cpu", "imos-compact")
    assert call["adapter"].endswith("heart.safetensors")
    assert not (labels.data[3] == 1).any()
    assert (labels.data[3] == 2).any()


def test_the_range_follows_data_of_another_length(qtbot, engine, open_widget, volume, painted):
    _, image, labels, widget = open_widget()
    first, last = widget.advanced._first_box, widget.advanced._last_box
    first.value = 2
    for length in (24, 8):
        other = np.zeros((length, 20, 24), np.uint8)
        other[5] = painted[5]
        image.data, labels.data = np.resize(volume, other.shape), other
        assert (first.value, last.value) == (0, length - 1)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (labels.data[:, 5, 5] == 1).all()


def test_the_view_follows_until_the_person_moves_it(qtbot, engine, open_widget):
    engine.pause = 0.12
    viewer, _, _, widget = open_widget()
    viewer.dims.set_point(0, 0)
    click(qtbot, widget.propagate)
    assert viewer.dims.current_step[0] == 5, "starts at the prompt"
    wait(qtbot, lambda: viewer.dims.current_step[0] > 5)
    wait_done(qtbot, widget)
    assert viewer.dims.current_step[0] == 5, "and comes back to it"
    click(qtbot, widget.propagate)
    viewer.dims.set_point(0, 1)
    wait_done(qtbot, widget)
    assert viewer.dims.current_step[0] == 1


def test_in_3d_there_is_nothing_to_follow(qtbot, engine, open_widget):
    engine.pause = 0.02
    viewer, _, labels, widget = open_widget()
    viewer.dims.set_point(0, 5)
    viewer.dims.ndisplay = 3
    moved = []
    viewer.dims.events.point.connect(lambda: moved.append(viewer.dims.point))
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels.data.any(axis=(1, 2)).all()
    assert not moved, "all would be drawn anew"


def test_a_layer_that_goes_ends_the_run(qtbot, engine, open_widget):
    engine.hold_at = 9
    viewer, _, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: labels.data[8, 5, 5] == 1)
    viewer.layers.remove(labels)
    engine.release.set()
    wait(qtbot, lambda: engine.closed)
    wait(qtbot, lambda: widget.prompt.value.startswith("Add a Labels layer"))
    wait(qtbot, lambda: widget.status.value == "Stopped: the labels were removed.")


def test_a_run_that_is_over_keeps_nothing_alive(qtbot, engine, volume, painted):
    image, labels = Image(volume.copy()), Labels(painted.copy())
    over = []
    worker = start_propagation(image, labels)
    worker.finished.connect(lambda: over.append(1))  # which is told all the same
    held = [weakref.ref(one) for one in (worker, image.data, labels.data)]
    wait(qtbot, lambda: bool(over))
    assert labels.data.any(axis=(1, 2)).all()
    del worker, image, labels
    engine.calls.clear()
    qtbot.wait(1)
    gc.collect()
    assert [one() for one in held] == [None] * 3


def test_labels_that_became_an_image_are_no_labels(qtbot, engine, open_widget, painted):
    viewer, image, labels, widget = open_widget()
    other = viewer.add_labels(painted.copy())
    viewer.layers.selection.active = other
    wait(qtbot, lambda: widget.choices.labels_layer == other)
    viewer.layers.selection = {other}
    _convert_to_image(viewer.layers)  # which keeps the metadata
    widget.choices._image_box.value = image
    viewer.layers.selection.active = image
    assert widget.choices.labels_layer == labels
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("Done")


def test_a_run_that_cannot_begin_leaves_the_dock_free(qtbot, engine, open_widget, monkeypatch):
    _, _, labels, widget = open_widget()
    widget.advanced._confidence_box.value = True
    with monkeypatch.context() as patched:
        patched.setattr(run_panel, "ConfidenceLayer", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            widget._start()
    assert widget._run is None
    assert not widget.running.progress.visible
    assert (labels.data.any(axis=(1, 2)) == (np.arange(12) == 5)).all()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("Done: 12 slices")
    labels.undo()
    assert not labels.data[6].any()


@pytest.mark.parametrize("change", ["undo", "paint"])
def test_undo_is_offered_only_while_it_takes_the_run_back(qtbot, engine, open_widget, change):
    viewer, _, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    viewer.dims.set_point(0, 7)
    assert widget.status.value.endswith("Ctrl+Z takes it back."), "looking changes nothing"
    said = widget.status.value.removesuffix(TAKE_BACK)
    if change == "undo":
        labels.undo()
        wait(qtbot, lambda: widget.status.value == "Taken back.")
        labels.redo()
        wait(qtbot, lambda: widget.status.value == said)
        return
    labels.paint((7, 5, 5), 2)
    assert widget.status.value == said
    assert "Ctrl+Z" not in widget.status.value, "it would take back what was painted"


def test_undo_is_offered_for_the_active_layer_only(qtbot, engine, open_widget):
    viewer, image, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    said = widget.status.value
    assert said.endswith(TAKE_BACK)
    viewer.layers.selection.active = image
    assert widget.status.value == said.removesuffix(TAKE_BACK), "it goes to the image"
    viewer.layers.selection.active = labels
    assert widget.status.value == said
    other = viewer.add_labels(np.zeros_like(labels.data))
    assert widget.choices.labels_layer == other
    assert not widget.status.value, "nothing was done with this one"
    viewer.layers.selection.active = labels
    assert not widget.status.value


def test_a_viewer_that_closes_ends_the_run(qtbot, engine, open_widget):
    engine.pause = 0.02
    viewer, _, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: labels.data[6, 5, 5] == 1)
    viewer.close()
    wait(qtbot, lambda: engine.closed)


@pytest.mark.parametrize("name", ["README.md", "docs/napari.md"])
def test_the_documents_call_the_menu_what_napari_does(name):
    manifest = PluginManifest.from_file(MANIFEST)
    (widget,) = manifest.contributions.widgets
    text = " ".join((MANIFEST.parent / name).read_text(encoding="utf-8").split())
    # a plugin with one widget has no menu of its own
    assert f"*Plugins > {widget.display_name} ({manifest.display_name})*" in text


def test_the_palette_stays_with_the_image_of_the_labels(qtbot, engine, make_napari_viewer, volume):
    viewer = make_napari_viewer()
    images = [viewer.add_image(volume, name=name) for name in ("first", "second")]
    labels = viewer.add_labels(np.zeros_like(volume))
    labels.data[5, 4:10, 4:10] = 1
    viewer.dims.set_point(0, 5)
    propagate(images[1], labels, progress=False)
    propagate_shown(viewer)
    wait(qtbot, lambda: engine.closed and not Ledger.of(labels).busy)
    (record,) = Ledger.of(labels).records.values()
    assert [run["image"] for run in record.runs] == ["second", "second"]


def test_menu_sample_palette_and_console(qtbot, engine, make_napari_viewer, npe2pm):
    from napari._app_model import get_app_model

    viewer = make_napari_viewer()
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        image, labels = viewer.open_sample("napari-imos", "brain")
        assert image.data.shape == labels.data.shape
        painted = np.flatnonzero(labels.data.any(axis=(1, 2)))
        assert len(painted) == 1
        np.testing.assert_allclose(image.scale, labels.scale)
        assert image.axis_labels == ("z", "y", "x")

        dock, widget = viewer.window.add_plugin_dock_widget("napari-imos", "Propagate slice")
        assert widget.prompt.value.startswith(f"Prompt: slice {painted[0]}, labels 1-")
        click(qtbot, widget.propagate)
        wait_done(qtbot, widget)
        assert labels.data.any(axis=(1, 2)).all()
        assert widget.status.value.endswith(TAKE_BACK)
        labels.undo()

        get_app_model().commands.execute_command("napari-imos.propagate_shown")
        wait(qtbot, lambda: bool(labels.data.any(axis=(1, 2)).all()))
        wait(qtbot, lambda: engine.closed)
        labels.undo()
        viewer.window.remove_dock_widget(dock)
        held = weakref.ref(widget)
        del dock, widget
        gc.collect()
        assert held() is None, "a widget that was taken out must not stay alive"

    done, cancel = [], Event()
    options = {"anchors": painted, "stop": int(painted[0]) + 2, "cancel": cancel}
    worker = start_propagation(image, labels, **options)
    worker.finished.connect(lambda: done.append(1))
    wait(qtbot, lambda: bool(done))
    assert worker.error is None
    assert not worker.stopping
    cancel.set()
    assert worker.stopping
    assert not labels.data[painted[0] + 2].any()
