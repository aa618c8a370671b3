"""The labelling loop in a real viewer: timeline, keys, corrections, sessions."""

from __future__ import annotations

import napari.settings
import numpy as np
import pytest
import tifffile
import zarr
from magicgui.widgets import Label
from napari.layers import Labels
from npe2 import PluginManifest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox
from test_widget import MANIFEST, click, open_widget, shown, wait, wait_done  # noqa: F401

import napari_imos
from napari_imos import _anchor_choice
from napari_imos._dock.saving import file_name
from napari_imos._layers import fitting_image
from napari_imos._record import ledger as _ledger
from napari_imos._record.ledger import Ledger
from napari_imos._record.lost import lost_on
from napari_imos._record.provenance import Kind
from napari_imos._saved.session import save_session
from napari_imos._walk import Walk
from napari_imos._widget import PropagateWidget


@pytest.fixture
def loop(qtbot, engine, open_widget):  # noqa: F811
    """A viewer in which a first propagation has been made; slice 9 is the least sure."""
    engine.confidence = {9: 0.2, 2: 0.4}
    viewer, _, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    return viewer, labels, widget


def paint(viewer, labels, index, where=(0, 0), label=1):
    """Paint on a slice with a brush, as a person does."""
    viewer.dims.set_point(0, index)
    labels.brush_size = 3
    labels.paint((index, *where), label)


def test_metadata_follow_the_brush_and_undo(qtbot, loop):
    viewer, labels, _ = loop

    def noted():
        (walk,) = labels.metadata["imos"]["walks"]
        return walk["kind"][9], walk["anchors"], len(walk["runs"])

    assert noted() == ("predicted", [5], 1)
    paint(viewer, labels, 9)
    wait(qtbot, lambda: noted() == ("corrected", [5, 9], 1))
    labels.undo()
    wait(qtbot, lambda: noted() == ("predicted", [5], 1))
    labels.undo()
    wait(qtbot, lambda: noted() == ("empty", [5], 0))


def test_metadata_of_a_layer_that_is_left_are_noted_all_the_same(qtbot, loop):
    viewer, labels, widget = loop
    paint(viewer, labels, 9)
    wait(qtbot, lambda: not widget.loop.looking)
    viewer.add_labels(np.zeros_like(labels.data))
    wait(qtbot, lambda: labels.metadata["imos"]["walks"][0]["anchors"] == [5, 9])


def at(widget, index):
    return QPoint(round(widget.loop.timeline.x_of(index)), 20)


def test_paint_propagate_check_correct_propagate_undo(qtbot, engine, loop):
    viewer, labels, widget = loop
    click(qtbot, widget.loop.next_to_check)
    assert viewer.dims.current_step[0] == 9
    assert widget.status.value.startswith("Slice 9: predicted, confidence 20%")
    click(qtbot, widget.loop.next_to_check)
    assert viewer.dims.current_step[0] == 2
    before = labels.data.copy()
    paint(viewer, labels, 9)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 9 (with 5), labels 1-2")
    corrected = labels.data[9].copy()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert [(c["start"], c["stop"]) for c in engine.calls[1:]] == [(6, 12)]
    np.testing.assert_array_equal(labels.data[9], corrected)
    assert (labels.data[[8, 10, 11], 0, 0] == 1).all()
    assert not labels.data[:6, 0, 0].any()
    labels.undo()
    np.testing.assert_array_equal(labels.data[9], corrected)
    np.testing.assert_array_equal(np.delete(labels.data, 9, 0), np.delete(before, 9, 0))
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    assert labels.metadata["imos"]["walks"][0]["kind"][5] == "drawn"


def test_next_to_check_leads_to_ends_and_to_sure_slices_before_it_says_that_all_is_done(
    qtbot,
    engine,
    open_widget,  # noqa: F811
):
    engine.confidence, engine.gone = {2: 0.4}, {0, 8, 9, 10, 11}
    viewer, _, _, widget = open_widget()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)

    def press():
        click(qtbot, widget.loop.next_to_check)
        return widget.status.value

    assert press().startswith("Slice 2: predicted, confidence 40%")
    for k in (0, 8):  # nothing is on those behind it either, which needs no further look
        assert press().startswith(f"Slice {k}: predicted, confidence 90%")
        assert "labels 1-2 not found any more" in widget.status.value
    assert press() == (
        "The other 8 slices (1, 3-4, 6-7, 9-11) are thought to be right: press again to look at "
        "them, too."
    )
    rest = [int(press().removeprefix("Slice ").partition(":")[0]) for _ in range(8)]
    assert sorted(rest) == [1, 3, 4, 6, 7, 9, 10, 11]
    assert press().startswith("All were looked at, so this begins again. Slice 2: predicted")
    widget.loop.toggle_checked(range(12))
    assert press() == "Every slice is drawn, corrected or checked."
    assert viewer.dims.current_step[0] == 2


def test_ends_that_a_person_has_made_or_named_are_not_to_be_checked(qtbot, engine, loop):
    viewer, labels, widget = loop
    for k, label in ((8, 1), (11, 2)):
        viewer.dims.set_point(0, k)
        labels.selected_label = label
        widget.loop.end_shown()
        wait_done(qtbot, widget)
    assert not (labels.data[8:] == 1).any()
    paint(viewer, labels, 1)
    labels.data[1][labels.data[1] == 2] = 0
    labels.refresh()
    wait(qtbot, lambda: widget.prompt.value.startswith("Prompt: slice 1"))
    walk = Walk(3, 0)
    ledger = Ledger.of(labels)
    assert lost_on(ledger, labels, walk, ledger.known_anchors(labels, walk)) == {}


def test_ctrl_z_in_the_middle_of_a_look_makes_nothing_a_correction(loop):
    _, labels, widget = loop
    panel, walk = widget.loop, Walk(3, 0)
    panel.look_again()
    for _ in range(3):
        next(panel._scan)
    labels.undo()
    seen = []
    panel.anchors_changed.connect(
        lambda: seen.append(list(Ledger.of(labels).record(labels, walk).kind))
    )
    while panel.looking:
        panel._look()
    # from the first time that anybody is told
    drawn = [int(Kind.DRAWN if k == 5 else Kind.EMPTY) for k in range(12)]
    assert seen[0] == drawn


def test_the_timeline_follows_and_leads(qtbot, loop):
    viewer, labels, widget = loop
    strip = widget.loop.timeline
    strip.resize(300, 34)
    assert strip.current == 5
    viewer.dims.set_point(0, 3)
    assert strip.current == 3
    left = Qt.MouseButton.LeftButton
    qtbot.mouseClick(strip, left, pos=at(widget, 10))
    assert viewer.dims.current_step[0] == 10
    qtbot.mouseClick(strip, left, Qt.KeyboardModifier.ControlModifier, at(widget, 8))
    assert strip.describe(8).startswith("Slice 8: checked and locked")
    qtbot.mouseClick(strip, left, Qt.KeyboardModifier.ShiftModifier, at(widget, 8))
    assert strip.describe(8).startswith("Slice 8: predicted")
    paint(viewer, labels, 1)
    wait(qtbot, lambda: strip.describe(1) == "Slice 1: corrected by you, confidence 90%, anchor")
    qtbot.mouseClick(strip, left, Qt.KeyboardModifier.ShiftModifier, at(widget, 1))
    assert strip.describe(1).endswith("not an anchor")
    labels.undo()
    wait(qtbot, lambda: strip.describe(1).startswith("Slice 1: predicted"))


def test_a_run_that_finds_the_same_again_says_so(qtbot, engine, loop):
    _, labels, widget = loop
    before = labels.data.copy()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    np.testing.assert_array_equal(labels.data, before)
    assert widget.status.value.startswith("Done: 12 slices in ")
    assert widget.status.value.endswith(". Nothing had to be changed.")


def test_undo_of_a_run_is_seen(qtbot, loop):
    _, labels, widget = loop
    strip = widget.loop.timeline
    qtbot.wait(100)
    assert strip.describe(8).startswith("Slice 8: predicted")
    labels.undo()
    wait(qtbot, lambda: strip.describe(8) == "Slice 8: not reached yet")
    labels.redo()
    wait(qtbot, lambda: strip.describe(8).startswith("Slice 8: predicted"))
    labels.data[7, 0:2, 0:2] = 1
    labels.refresh()
    wait(qtbot, lambda: "anchor" in strip.describe(7))


def predicted(labels):
    """Indices of all that is on slices which nobody has painted."""
    mask = labels.data != 0
    mask[5] = False
    return np.nonzero(mask)


def test_who_erases_all_of_a_run_at_once_has_not_taken_it_back(qtbot, loop):
    _, labels, widget = loop
    erased = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    labels.data_setitem(predicted(labels), 0)
    wait(qtbot, lambda: not widget.loop.looking)
    labels.refresh()  # nothing has happened
    wait(qtbot, lambda: not widget.loop.looking)
    assert widget.status.value.startswith("Done: 12 slices")
    assert widget.loop.anchors() == sorted([5, *erased])
    labels.undo()
    wait(qtbot, lambda: widget.loop.anchors() == [5])
    labels.undo()
    wait(qtbot, lambda: widget.status.value == "Taken back.")


@pytest.mark.parametrize("kept", [(), (5,)])
def test_another_array_is_no_undo(qtbot, loop, kept):
    _, labels, widget = loop
    other = np.zeros_like(labels.data)
    other[list(kept)] = labels.data[list(kept)]
    labels.data = other
    wait(qtbot, lambda: not widget.loop.looking)
    assert widget.status.value.startswith("Done: 12 slices")
    labels.undo()
    wait(qtbot, lambda: widget.status.value == "Taken back.")


@pytest.mark.parametrize("how", ["hidden", "3-D"])
def test_undo_of_a_run_is_seen_however_the_layer_is_shown(qtbot, loop, how):
    viewer, labels, widget = loop
    canvas = viewer.window._qt_viewer.canvas.native
    if how == "3-D":
        viewer.dims.ndisplay = 3
    labels.visible = how != "hidden"
    shift = Qt.KeyboardModifier.ShiftModifier
    done = widget.status.value.removesuffix(" Ctrl+Z takes it back.")
    for more, said in ((Qt.KeyboardModifier.NoModifier, "Taken back."), (shift, done)):
        QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | more)
        wait(qtbot, lambda said=said: widget.status.value == said)
    labels.visible = True
    assert not labels.keymap


def test_keys_act_whichever_box_has_the_focus(qtbot, engine, loop):
    viewer, labels, widget = loop
    widget.unfold()
    window = viewer.window._qt_window
    window.show()
    window.activateWindow()
    wait(qtbot, window.isActiveWindow)
    shift = Qt.KeyboardModifier.ShiftModifier
    boxes = (widget.choices._direction_box, widget.advanced._last_box, widget.advanced.adapter.box)
    for k, box in enumerate(boxes):
        box.native.setFocus()
        wait(qtbot, box.native.hasFocus)
        viewer.dims.set_point(0, k)
        qtbot.keyClick(box.native, Qt.Key.Key_C, shift)
        assert Ledger.of(labels).record(labels, widget._walk()).checked[k]
        assert box.native.hasFocus()
    assert widget.choices.way == "both"
    # what is typed into a line stays there until it is entered
    locked = widget.advanced._locked_box.native
    locked.setFocus()
    qtbot.keyClick(locked, Qt.Key.Key_C, shift)
    assert locked.text() in ("c", "C")
    locked.setText("2")
    qtbot.keyClick(locked, Qt.Key.Key_Return)
    assert QApplication.focusWidget() is None
    QTest.keyClick(window.windowHandle(), Qt.Key.Key_N, shift)
    assert viewer.dims.current_step[0] == 9
    assert widget.advanced.rules.locked == (2,)


def test_arrows_and_undo_act_but_where_text_is_edited(qtbot, loop):
    viewer, labels, widget = loop
    paint(viewer, labels, 9)
    widget.unfold()
    window = viewer.window._qt_window
    window.show()
    window.activateWindow()
    wait(qtbot, window.isActiveWindow)
    shift, control = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
    held = labels.data.copy()
    spin, locked = widget.advanced._last_box.native, widget.advanced._locked_box.native
    texts = (spin, locked)
    for part in (widget.loop.next_to_check.native, widget.choices._direction_box.native, *texts):
        viewer.dims.set_point(0, 5)
        part.setFocus()
        wait(qtbot, part.hasFocus)
        qtbot.keyClick(part, Qt.Key.Key_Right, shift)
        assert viewer.dims.current_step[0] == (5 if part in texts else 9)
        assert part.hasFocus()
        qtbot.keyClick(part, Qt.Key.Key_Z, control)
        assert (labels.data != held).any(), "nothing is undone"
        qtbot.keyClick(part, Qt.Key.Key_Z, control | shift)
        np.testing.assert_array_equal(labels.data, held)
    locked.setText("")
    qtbot.keyClicks(locked, "2")
    qtbot.keyClick(locked, Qt.Key.Key_Z, control)
    assert locked.text() == "", "what was typed is undone first"
    np.testing.assert_array_equal(labels.data, held)


def test_who_presses_propagate_has_the_keys_of_the_viewer(qtbot, engine, loop):
    viewer, _labels, widget = loop
    window = viewer.window._qt_window
    window.show()
    window.activateWindow()
    wait(qtbot, window.isActiveWindow)
    widget.propagate.native.setFocus()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert QApplication.focusWidget() is None


def test_keys(qtbot, engine, loop):
    viewer, labels, widget = loop
    paint(viewer, labels, 10)
    canvas = viewer.window._qt_viewer.canvas.native
    shift = Qt.KeyboardModifier.ShiftModifier

    def press(key):
        qtbot.keyClick(canvas, key, shift)

    press(Qt.Key.Key_N)
    assert viewer.dims.current_step[0] == 9
    press(Qt.Key.Key_C)
    assert Ledger.of(labels).record(labels, widget._walk()).checked[9]
    press(Qt.Key.Key_Left)
    assert viewer.dims.current_step[0] == 5
    press(Qt.Key.Key_Right)
    press(Qt.Key.Key_Right)
    assert viewer.dims.current_step[0] == 10
    press(Qt.Key.Key_Right)
    assert widget.status.value == "There is no anchor after slice 10."
    press(Qt.Key.Key_A)
    assert widget.status.value == "Slice 10 is no longer an anchor."
    viewer.dims.set_point(0, 8)
    press(Qt.Key.Key_A)
    assert widget.status.value == "Slice 8 is now an anchor, checked and locked."
    press(Qt.Key.Key_A)
    engine.hold_at = 7
    press(Qt.Key.Key_P)
    wait(qtbot, lambda: widget.stop.enabled)
    press(Qt.Key.Key_S)
    engine.release.set()
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("Stopped: ")


def test_progress_is_seen_on_the_timeline_and_a_slice_locked_meanwhile_stays(
    qtbot,
    engine,
    open_widget,  # noqa: F811
):
    engine.hold_at = 9
    _, _, labels, widget = open_widget()
    strip = widget.loop.timeline
    assert strip.describe(6) == "Slice 6: not reached yet"
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: strip.describe(8).startswith("Slice 8: predicted"))
    assert strip.describe(9) == "Slice 9: not reached yet"
    qtbot.mouseClick(
        strip, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier, at(widget, 10)
    )
    engine.release.set()
    wait_done(qtbot, widget)
    assert not labels.data[10].any()
    assert labels.data[11].any()


def test_options_of_the_loop(qtbot, engine, loop, shown):  # noqa: F811
    viewer, labels, widget = loop
    options = widget.advanced
    options._locked_box.value = "two"
    click(qtbot, widget.propagate)
    assert "numbers such as 2, 5-7" in shown()[-1]
    for words, told in (("3-1", "not '3-1'"), ("0", "not '0'"), ("5-20000000", "too many")):
        options._locked_box.value = words
        click(qtbot, widget.propagate)
        assert told in shown()[-1]
    options._locked_box.value = "2"
    options._empty_box.value = options._gone_box.value = options._confidence_box.value = True
    labels.data[5] = np.roll(labels.data[5], 2, axis=1)
    before = labels.data.copy()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    kept = before != 0
    np.testing.assert_array_equal(labels.data[kept], before[kept])
    assert ((labels.data == 1) & ~kept).any()
    assert ((labels.data == 2) == (before == 2)).all()
    layer = viewer.layers[f"{labels.name} confidence"]
    assert layer.data[9].max() == pytest.approx(51, abs=1)
    assert (layer.data[5] == 255).all()
    assert viewer.layers.selection.active is labels


def test_what_glows_is_what_the_record_says(qtbot, engine, loop):
    viewer, labels, widget = loop
    widget.advanced._confidence_box.value = True
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    layer = viewer.layers[f"{labels.name} confidence"]

    def glow():
        return [int(layer.data[k].min()) for k in (2, 5, 9, 10)]

    first = [102, 255, 51, 229]
    assert glow() == pytest.approx(first, abs=1)
    # a corrected slice is sure, and unsure again when that is undone
    paint(viewer, labels, 9)
    wait(qtbot, lambda: glow()[2] == 255)
    labels.undo()
    labels.refresh()
    wait(qtbot, lambda: glow() == pytest.approx(first, abs=1))
    click(qtbot, widget.loop.checked)
    wait(qtbot, lambda: glow()[2] == 255)
    click(qtbot, widget.loop.checked)
    wait(qtbot, lambda: glow() == pytest.approx(first, abs=1))
    # what a run made anew goes with it, and comes back with it
    engine.confidence = dict.fromkeys(range(12), 0.6)
    paint(viewer, labels, 8)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    wait(qtbot, lambda: glow() == pytest.approx([102, 255, 153, 153], abs=1))
    labels.undo()
    labels.refresh()
    wait(qtbot, lambda: glow() == pytest.approx([102, 255, 255, 255], abs=1))
    labels.redo()
    labels.refresh()
    wait(qtbot, lambda: glow() == pytest.approx([102, 255, 153, 153], abs=1))
    # without the layer, it says nothing of what is done
    widget.advanced._confidence_box.value = False
    paint(viewer, labels, 1)
    engine.confidence = dict.fromkeys(range(12), 0.7)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    wait(qtbot, lambda: glow() == pytest.approx([255, 255, 153, 153], abs=1))


@pytest.mark.skipif(
    not hasattr(napari.settings, "get_plugin_settings"), reason="napari >= 0.9 keeps them"
)
def test_choices_are_remembered(make_napari_viewer, npe2pm):
    viewer = make_napari_viewer()
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)):
        first = PropagateWidget(viewer)
        viewer.window.add_dock_widget(first)
        first.advanced._device_box.value = "cpu"
        first.advanced._gone_box.value = True
        first.advanced._memory_box.value = "4GB"
        second = PropagateWidget(viewer)
        viewer.window.add_dock_widget(second)
        assert second.advanced._device_box.value == "cpu"
        assert second.advanced.rules.stop_when_gone
        assert second.advanced._memory_box.value == "4GB"
        assert second.advanced.follows


def test_memory_to_stay_under(qtbot, engine, loop):
    _, labels, widget = loop
    before = labels.data.copy()
    widget.advanced._memory_box.value = "plenty"
    calls = len(engine.calls)
    click(qtbot, widget.propagate)
    assert "no amount of memory: give one such as 4GB" in widget.status.value
    assert len(engine.calls) == calls
    np.testing.assert_array_equal(labels.data, before)
    widget.advanced._memory_box.value = "500 MB"
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert engine.calls[-1]["memory_budget"] == 500_000_000


def test_a_new_object_on_a_predicted_slice_is_followed(qtbot, engine, loop):
    viewer, labels, widget = loop
    paint(viewer, labels, 8, label=7)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 8 (with 5), labels 1-2, 7")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (labels.data[9:, 0, 0] == 7).all()
    assert widget.loop.timeline.describe(8).startswith("Slice 8: corrected by you")


def test_what_is_painted_while_it_runs_is_an_anchor_afterwards(qtbot, engine, loop):
    viewer, labels, widget = loop
    engine.hold_at = 9
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: widget.stop.enabled and widget.slices_done > 3)
    paint(viewer, labels, 10, label=7)
    engine.release.set()
    wait_done(qtbot, widget)
    wait(qtbot, lambda: "labels 1-2, 7" in widget.prompt.value)
    painted = Ledger.of(labels).record(labels, widget._walk()).painted
    assert np.flatnonzero(painted).tolist() == [10], "writing is no painting"


def test_two_slices_that_were_painted_first_go_together(qtbot, engine, open_widget, volume):  # noqa: F811
    viewer, _, labels, widget = open_widget(labels=np.zeros(volume.shape, np.uint8))
    paint(viewer, labels, 2, label=1)
    paint(viewer, labels, 9, where=(8, 8), label=2)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 9 (with 2), labels 1-2")
    viewer.dims.set_point(0, 4)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 2 (with 9), labels 1-2")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (labels.data[:, 0, 0] == 1).any()
    assert sorted(engine.calls[0]["prompts"]) == [2, 9]


def test_ctrl_z_while_it_runs_takes_the_run_back_and_not_the_prompt(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    volume,
):
    viewer, _, labels, widget = open_widget(labels=np.zeros(volume.shape, np.uint8))
    canvas = viewer.window._qt_viewer.canvas.native

    def undo():
        qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)

    paint(viewer, labels, 5)
    painted = labels.data.copy()
    for strokes in (0, 1):
        engine.hold_at = 9
        engine.release.clear()
        click(qtbot, widget.propagate)
        wait(qtbot, lambda: widget.slices_done > 3)
        if strokes:
            paint(viewer, labels, 1, where=(9, 9), label=4)
            assert (labels.data == 4).any()
            undo()
            assert not (labels.data == 4).any(), "what was painted last goes first"
            assert not widget._run.stopping
        undo()
        assert widget._run.stopping
        engine.release.set()
        wait_done(qtbot, widget)
        np.testing.assert_array_equal(labels.data, painted)
        assert widget.status.value.startswith("Stopped and taken back.")
        labels.redo()
        assert (labels.data[4:7, 0, 0] == 1).all()
        undo()
        np.testing.assert_array_equal(labels.data, painted)
    undo()
    assert not labels.data.any(), "the key is the layer's own again"


def test_another_image_that_is_looked_at_is_not_gone_on_with(qtbot, engine, loop, volume):
    viewer, labels, widget = loop
    first = widget.choices.image_layer
    other = viewer.add_image(volume[::-1], name="other")
    assert viewer.layers.selection.active is other
    assert widget.choices.image_layer is first
    labels.data[9, 0, 0] = 1
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert Ledger.of(labels).record(labels, Walk(3, 0)).runs[-1]["image"] == first.name
    # whoever chooses it means it, also before it is used
    widget.choices._image_box.value = other
    for active in (first, labels):
        viewer.layers.selection.active = active
        assert widget.choices.image_layer is other
    paint(viewer, labels, 9)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert widget.choices.image_layer is other


def test_the_image_of_another_day_is_gone_on_with(
    qtbot, engine, make_napari_viewer, volume, painted, tmp_path, npe2pm
):
    files = [tmp_path / name / "cells.tif" for name in ("a", "b")]
    for file, pixels in zip(files, (volume, volume[::-1]), strict=True):
        file.parent.mkdir()
        tifffile.imwrite(file, pixels)
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_distribution("napari")):
        viewer = make_napari_viewer()
        for file in files:
            viewer.open(file, plugin="napari", layer_type="image")
        assert [layer.name for layer in viewer.layers] == ["cells", "cells [1]"]
        labels = viewer.add_labels(painted)
        viewer.dims.set_point(0, 5)
        napari_imos.propagate(viewer.layers[0], labels)  # as a script does
        save_session(labels, tmp_path / "labels.tif")
        viewer.layers.clear()
        # another day: they have other names, and the other one is active
        for file in files[::-1]:
            viewer.open(file, plugin="napari", layer_type="image")
        other, image = viewer.layers
        assert other.name == "cells"
        viewer.layers.selection.active = other
        widget = PropagateWidget(viewer)
        viewer.window.add_dock_widget(widget)
        (labels,) = viewer.open(tmp_path / "labels.tif", plugin="napari", layer_type="labels")
    assert widget.choices.image_layer is image
    viewer.layers.selection.active = other
    assert widget.choices.image_layer is image
    viewer.layers.selection.active = labels
    assert widget.choices.image_layer is image
    widget.choices._image_box.value = other
    viewer.layers.selection.active = image
    assert widget.choices.image_layer is other, "whoever chooses it means it"
    # without files, names are all that is known
    viewer.layers.remove(image)
    image = viewer.add_image(volume, name="elsewhere")
    viewer.layers.selection.active = labels
    assert widget.choices.image_layer is other


def test_labels_that_are_new_are_of_the_image_that_is_looked_at(
    qtbot,
    engine,
    make_napari_viewer,
    volume,
    painted,
    npe2pm,
):
    viewer = make_napari_viewer()
    first, labels = viewer.add_image(volume, name="first"), viewer.add_labels(painted)
    viewer.dims.set_point(0, 5)
    with npe2pm.tmp_plugin(manifest=MANIFEST):  # who opens it so sees stand-ins of layers
        _, widget = viewer.window.add_plugin_dock_widget("napari-imos", "Propagate slice")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    other = viewer.add_image(volume[::-1], name="other")
    assert widget.choices.image_layer == first
    new = viewer.add_labels(np.zeros_like(painted))
    assert (widget.choices.labels_layer, widget.choices.image_layer) == (new, other)
    # back to what was made of the first one, in the list or in the box
    viewer.layers.selection.active = labels
    assert widget.choices.image_layer == first
    widget.choices._labels_box.value = new
    widget.choices._image_box.value = other
    widget.choices._labels_box.value = labels
    assert widget.choices.image_layer == first


def test_what_shows_how_sure_the_model_is_is_no_image_to_go_on_with(
    qtbot,
    engine,
    loop,
    painted,
):
    viewer, labels, widget = loop
    first = widget.choices.image_layer
    widget.advanced._confidence_box.value = True
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    sure = viewer.layers[f"{labels.name} confidence"]
    viewer.layers.move(viewer.layers.index(sure), 0)
    viewer.layers.selection.active = sure
    assert widget.choices.image_layer is first
    assert widget.choices._image_box.choices == (first,)
    viewer.add_labels(np.zeros_like(painted))
    assert widget.choices.image_layer is first
    assert fitting_image(viewer.layers, labels) == first, "the menu's entry asks for it, too"
    viewer.layers.remove(first)
    assert widget.choices.image_layer is None


def test_a_range_that_ends_before_it_begins(qtbot, engine, loop):
    _, labels, widget = loop
    before, calls = labels.data.copy(), len(engine.calls)
    widget.advanced._first_box.value, widget.advanced._last_box.value = 8, 3
    click(qtbot, widget.propagate)
    assert widget.status.value == (
        "The range of slices ends at 3, before it begins at 8: see Advanced."
    )
    assert len(engine.calls) == calls
    np.testing.assert_array_equal(labels.data, before)


def test_saving_replaces_nothing_that_nobody_was_asked_about(
    qtbot, loop, tmp_path, monkeypatch, npe2pm
):
    viewer, _, widget = loop
    there = tmp_path / "mine.tif"
    tifffile.imwrite(there, np.zeros((12, 16, 24), np.uint8))
    before, asked = there.read_bytes(), []
    path = str(tmp_path / "mine")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (path, ""))

    def answer(button):
        def question(parent, title, words):
            asked.append(words)
            return button

        monkeypatch.setattr(QMessageBox, "question", question)

    answer(QMessageBox.StandardButton.No)
    click(qtbot, widget.saving.save)
    assert asked == ["mine.tif exists already. Replace it?"]
    assert there.read_bytes() == before
    answer(QMessageBox.StandardButton.Yes)
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_distribution("napari")):
        (raw,) = viewer.open(there, plugin="napari", layer_type="image")
    click(qtbot, widget.saving.save)
    assert widget.status.value == (
        "mine.tif is the image 'mine', which would be overwritten: choose another name."
    )
    assert there.read_bytes() == before
    viewer.layers.remove(raw)
    click(qtbot, widget.saving.save)
    assert widget.status.value.startswith("Saved mine.tif")
    assert there.read_bytes() != before


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("a/b: c*?", "a_b_ c_.tif"),
        ("../cells", "_cells.tif"),
        ("n.1", "n.1.tif"),
        (" ", "labels.tif"),
    ],
)
def test_the_name_of_a_layer_suggests_a_file_in_the_same_folder(name, suggested):
    assert file_name(name) == suggested


def test_a_file_that_another_window_has_saved_is_replaced_only_if_a_person_says_so(
    qtbot, loop, tmp_path, monkeypatch
):
    _, labels, widget = loop
    path, asked = tmp_path / "labels.tif", []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]))
    click(qtbot, widget.saving.save)
    labels.data[0, 0, 0] = 1
    click(qtbot, widget.saving.save)
    assert not asked, "nobody else has saved it"
    save_session(labels.__class__(labels.data * 0), path)
    theirs = path.read_bytes()
    click(qtbot, widget.saving.save)
    assert asked == ["labels.tif was changed since it was opened or saved here. Replace it?"]
    assert path.read_bytes() == theirs
    path.unlink()
    click(qtbot, widget.saving.save)
    assert len(asked) == 1
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "kind"), [("cells.npy", "labels"), ("cells.tif", None)], ids=["labels", "as an image"]
)
def test_save_and_go_on_another_day(qtbot, engine, loop, tmp_path, monkeypatch, npe2pm, name, kind):
    viewer, labels, widget = loop
    paint(viewer, labels, 9)
    path = tmp_path / name
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(path), ""))
    click(qtbot, widget.saving.save)
    assert widget.status.value == f"Saved {name}, and what every slice is in {name}.imos.json."
    viewer.layers.remove(labels)
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_distribution("napari")):
        viewer.open(path, plugin="napari", layer_type=kind)
        wait(qtbot, lambda: isinstance(viewer.layers[-1], Labels))
    assert widget.status.value == f"Took over {name}.imos.json."
    again = viewer.layers[-1]
    assert [layer.name for layer in viewer.layers].count("cells") == 1
    viewer.dims.set_point(0, 9)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert sorted(engine.calls[-1]["prompts"]) == [5, 9]
    np.testing.assert_array_equal(again.data[9], labels.data[9])
    assert (again.data[10, 0, 0] == 1).all(), "what the first day predicted may be redone"
    again.undo()
    assert widget.status.value == "Taken back."


def test_every_control_has_words_and_a_place_in_the_tab_order(open_widget):  # noqa: F811
    *_, widget = open_widget()

    def controls(container):
        for item in container:
            if hasattr(item, "__iter__"):
                yield from controls(item)
            else:
                yield item

    for item in [*controls(widget), *controls(widget.advanced)]:
        if not isinstance(item, Label):
            assert item.tooltip, item
            focus = item.native.focusPolicy()
            inside = item.native.findChildren(type(item.native).__mro__[-3])
            assert focus != Qt.FocusPolicy.NoFocus or inside or item is widget.progress, item
    assert widget.loop.timeline.focusPolicy() == Qt.FocusPolicy.StrongFocus


def test_a_layer_that_is_renamed_and_an_image_that_goes(qtbot, engine, open_widget):  # noqa: F811
    engine.hold_at = 9
    viewer, image, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: labels.data[8, 5, 5] == 1)
    labels.name = "nuclei"
    viewer.layers.remove(image)
    engine.release.set()
    wait(qtbot, lambda: engine.closed)
    wait(qtbot, lambda: widget.prompt.value.startswith("Open an image"))
    assert not Ledger.of(labels).busy
    labels.undo()
    assert (labels.data[:, 5, 5] == 1).sum() == 1


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_the_prompt_is_found_without_a_look_at_all_slices(
    qtbot, make_napari_viewer, volume, tmp_path, monkeypatch, kind
):
    viewer = make_napari_viewer()
    viewer.add_image(volume)
    data = np.zeros(volume.shape, np.uint8)
    if kind == "disk":
        data = zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(1, *data.shape[1:]))
    labels = viewer.add_labels(data)
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)

    def never(*args):
        raise AssertionError("all slices are looked at")

    monkeypatch.setattr(_anchor_choice, "painted_slices", never)
    monkeypatch.setattr(_anchor_choice, "_QUICK", 0)
    for k in range(3):
        viewer.dims.set_point(0, k)
    wait(qtbot, lambda: widget.prompt.value.startswith("Nothing is painted"))
    paint(viewer, labels, 4, label=2)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 4, label 2")
    viewer.dims.set_point(0, 8)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 4, label 2")
    qtbot.wait(200)
    assert widget.prompt.value == "Prompt: slice 4, label 2"
    assert Ledger.of(labels).known_anchors(labels, widget._walk()) == [4]


def test_anchors_are_not_read_again_while_a_person_scrubs(qtbot, loop, monkeypatch):
    viewer, labels, widget = loop
    for k in (2, 8, 10):
        paint(viewer, labels, k)
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 10 (with 2, 5, 8), labels 1-2")
    wait(qtbot, lambda: not widget.loop.looking)
    read, ids_on = [], _ledger.ids_on
    monkeypatch.setattr(_ledger, "ids_on", lambda plane: (read.append(1), ids_on(plane))[1])
    viewer.dims.set_point(0, 7)
    wait(qtbot, lambda: widget.prompt.value.startswith("Prompt: slice 8 (with 2, 5, 10)"))
    read.clear()
    for k in (6, 4, 3, 1):
        viewer.dims.set_point(0, k)
        widget._tell_prompt()
    assert widget.prompt.value == "Prompt: slice 2 (with 5, 8, 10), labels 1-2"
    assert not read
    paint(viewer, labels, 8, label=9)
    wait(qtbot, lambda: widget.prompt.value.endswith("labels 1-2, 9"))
    labels.undo()
    wait(qtbot, lambda: widget.prompt.value.endswith("labels 1-2"))


def test_a_ball_counts_every_slice_once(qtbot, engine, open_widget, painted):  # noqa: F811
    painted[3:8] = painted[5]
    viewer, _, labels, widget = open_widget(labels=painted)
    for k in range(3, 8):
        paint(viewer, labels, k)
    wait(qtbot, lambda: not widget.loop.looking)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("Done: 12 slices in ")


def test_balls_that_follow_each_other_quickly_are_all_anchors(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    painted,
):
    _, _, labels, widget = open_widget(labels=np.zeros_like(painted))
    wait(qtbot, lambda: not widget.loop.looking)
    labels.n_edit_dimensions = labels.brush_size = 3
    for k in (3, 8):
        labels.paint((k, 9, 9), 1)
        Ledger.of(labels).examine(labels, Walk(3, 0), 3)  # slices are looked at bit by bit
    wait(qtbot, lambda: not widget.loop.looking)
    assert widget.loop.anchors() == [2, 3, 4, 7, 8, 9]


def test_a_stroke_that_is_undone_makes_no_anchor_in_a_labelled_stack(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    painted,
):
    painted[:] = painted[5]
    viewer, _, labels, widget = open_widget(labels=painted)

    def anchors():
        qtbot.wait(150)  # a person is no faster
        wait(qtbot, lambda: not widget.loop.looking)
        return widget.loop.anchors()

    for index in (5, 8):
        viewer.dims.set_point(0, index)
        assert anchors() == []
        for _ in range(2):  # as one stroke of the mouse does
            with labels.block_history():
                labels.brush_size = 3
                labels.paint((index, 15, 15), 7)
                labels.paint((index, 15, 18), 7)
            assert anchors() == [index]
            paint(viewer, labels, index, label=7)
            labels.undo()
            assert anchors() == [index]
            labels.undo()
            assert anchors() == []
            labels.redo()
            assert anchors() == [index]
            labels.undo()
            assert anchors() == []
    widget.loop.toggle_anchor()
    assert anchors() == [8], "which somebody has said by hand"
