"""*Ends here*: an object that a person says has ended, in a real viewer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from test_widget import click, open_widget, wait, wait_done  # noqa: F401

from napari_imos._record.ledger import Ledger
from napari_imos._record.said import release
from napari_imos._saved.recovery import RECORD, Unsaved, bring_back
from napari_imos._saved.session import restore, save_session
from napari_imos._walk import Walk
from napari_imos._widget import PropagateWidget

WALK = Walk(3, 0)


@pytest.fixture
def done(qtbot, engine, open_widget):  # noqa: F811
    """A viewer in which labels 1 and 2 were carried from slice 5 through all of twelve."""
    viewer, _, labels, widget = open_widget()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    return viewer, labels, widget


def end(qtbot, viewer, labels, widget, index, label):
    viewer.dims.set_point(0, index)
    labels.selected_label = label
    click(qtbot, widget.loop.ends)
    wait_done(qtbot, widget)


def on(labels, label):
    return np.flatnonzero((labels.data == label).any((1, 2))).tolist()


def ended(labels):
    return Ledger.of(labels).record(labels, WALK).ended


def test_it_is_taken_away_from_there_on_and_does_not_come_back(qtbot, engine, done):
    viewer, labels, widget = done
    end(qtbot, viewer, labels, widget, 8, 2)
    assert on(labels, 2) == list(range(8))
    assert on(labels, 1) == list(range(12))
    said = "Label 2 ends before slice 8. It was taken away from 4 slices. Ctrl+Z takes it back."
    assert widget.status.value == said
    assert len(engine.calls) == 1, "no model is needed for that"
    # the slice is no anchor
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 5, labels 1-2")
    assert "label 2 not from here on" in widget.loop.timeline.describe(8)

    end(qtbot, viewer, labels, widget, 3, 2)
    assert on(labels, 2) == [4, 5, 6, 7]
    assert widget.status.value.startswith("Label 2 begins after slice 3. It was taken away from 4")
    for _ in range(2):  # the second time because somebody who asks again wants all of it again
        click(qtbot, widget.propagate)
        wait_done(qtbot, widget)
        assert on(labels, 2) == [4, 5, 6, 7]
        assert on(labels, 1) == list(range(12))


def test_one_step_of_undo_takes_it_back_and_redo_makes_it_again(qtbot, done):
    viewer, labels, widget = done
    before = labels.data.copy()
    end(qtbot, viewer, labels, widget, 8, 2)
    after = labels.data.copy()
    labels.undo()
    wait(qtbot, lambda: not widget.loop.looking)
    np.testing.assert_array_equal(labels.data, before)
    assert not ended(labels)
    assert not widget.status.value.endswith("takes it back.")
    labels.redo()
    wait(qtbot, lambda: ended(labels) == {8: [2]})
    np.testing.assert_array_equal(labels.data, after)
    labels.undo()
    labels.undo()
    wait(qtbot, lambda: not ended(labels))
    assert on(labels, 2) == [5]


def test_a_second_time_lets_it_go_on(qtbot, engine, done):
    viewer, labels, widget = done
    end(qtbot, viewer, labels, widget, 8, 2)
    click(qtbot, widget.loop.ends)
    assert widget.status.value == "Label 2 may go on: Propagate looks for it beyond slice 8."
    assert not ended(labels)
    assert on(labels, 2) == list(range(8)), "nothing comes back by itself"
    labels.undo()
    wait(qtbot, lambda: widget.status.value == "Taken back.")
    labels.redo()
    wait(qtbot, lambda: ended(labels) == {8: [2]})
    assert widget.status.value.startswith("Label 2 ends before slice 8.")
    click(qtbot, widget.loop.ends)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert on(labels, 2) == list(range(12))
    assert (engine.calls[-1]["start"], engine.calls[-1]["stop"]) == (6, 12)


def test_before_the_first_run_it_says_how_far_to_go(qtbot, engine, open_widget):  # noqa: F811
    viewer, _, labels, widget = open_widget()
    before = labels.data.copy()
    for label in (1, 2):
        end(qtbot, viewer, labels, widget, 9, label)
    assert widget.status.value == "Label 2 ends before slice 9."
    np.testing.assert_array_equal(labels.data, before)
    viewer.dims.set_point(0, 5)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert on(labels, 1) == on(labels, 2) == list(range(9))
    assert (engine.calls[-1]["start"], engine.calls[-1]["stop"]) == (0, 9)


def test_what_a_person_painted_stays(qtbot, done):
    viewer, labels, widget = done
    labels.data_setitem((np.array([9]), np.array([0]), np.array([0])), 2)  # by a script
    labels.data_setitem((np.array([9]), np.array([0]), np.array([0])), 0)
    viewer.dims.set_point(0, 10)
    labels.brush_size = 3
    labels.paint((10, 0, 0), 3)
    wait(qtbot, lambda: not widget.loop.looking)
    end(qtbot, viewer, labels, widget, 7, 1)
    assert (labels.data[10, :2, :2] == 3).any()
    assert widget.status.value.startswith("Label 1 is painted on both sides of slice 7: erase it")
    assert on(labels, 1) == list(range(12)), "slice 10 was corrected, so it shows label 1, too"
    end(qtbot, viewer, labels, widget, 11, 1)
    assert on(labels, 1) == list(range(11))
    end(qtbot, viewer, labels, widget, 5, 1)
    assert widget.status.value.startswith("Slice 5 is an anchor that shows label 1: erase it")
    assert on(labels, 1) == list(range(11))


def test_who_paints_beyond_an_end_has_moved_it(qtbot, done):
    viewer, labels, widget = done
    end(qtbot, viewer, labels, widget, 7, 2)
    viewer.dims.set_point(0, 9)
    labels.brush_size = 3
    labels.paint((9, 10, 16), 2)
    wait(qtbot, lambda: not widget.loop.looking)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert on(labels, 2) == list(range(12))


def test_which_object_is_meant(qtbot, done):
    viewer, labels, widget = done
    end(qtbot, viewer, labels, widget, 8, 7)
    assert widget.status.value.startswith("Slice 8 shows the labels 1-2, but 7 is selected")
    end(qtbot, viewer, labels, widget, 8, 2)
    end(qtbot, viewer, labels, widget, 9, 7)
    assert labels.selected_label == 1, "the only one there"
    assert on(labels, 1) == list(range(9))
    end(qtbot, viewer, labels, widget, 10, 7)
    assert "Label 7 is painted on no slice" in widget.status.value
    end(qtbot, viewer, labels, widget, 10, 0)
    assert widget.status.value.startswith("No label is selected")
    assert ended(labels) == {8: [2], 9: [1]}


def test_an_object_that_ended_by_itself(qtbot, engine, open_widget, painted):  # noqa: F811
    painted[5, 14:18, 4:8] = 3
    viewer, _, labels, widget = open_widget(labels=painted)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    labels.data[6:][labels.data[6:] == 3] = 0
    labels.refresh()
    end(qtbot, viewer, labels, widget, 8, 3)
    assert widget.status.value.startswith("Label 3 ends before slice 8.")
    assert ended(labels) == {8: [3]}


@pytest.mark.parametrize("ran", [True, False])
def test_the_selected_object_is_meant_where_another_one_is_alone(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    monkeypatch,
    ran,
):
    viewer, _, labels, widget = open_widget()
    if ran:
        of_both = engine._slices

        def ends_by_itself(*given):
            for item in of_both(*given):
                item.labels[(item.labels == 2) & (item.index > 5)] = 0
                yield item

        monkeypatch.setattr(engine, "_slices", ends_by_itself)
        click(qtbot, widget.propagate)
        wait_done(qtbot, widget)
        assert on(labels, 2) == list(range(6))
    else:  # label 2 is painted after the run
        labels.data[labels.data == 2] = 0
        labels.refresh()
        click(qtbot, widget.propagate)
        wait_done(qtbot, widget)
        viewer.dims.set_point(0, 5)
        labels.brush_size = 3
        labels.paint((5, 10, 16), 2)
        wait(qtbot, lambda: not widget.loop.looking)
    end(qtbot, viewer, labels, widget, 8, 2)
    assert widget.status.value == "Label 2 ends before slice 8."
    assert (labels.selected_label, ended(labels)) == (2, {8: [2]})
    assert on(labels, 1) == list(range(12)), "nobody has said that it ends"


@pytest.mark.parametrize("steps", [[2, 9, "goes on"], [9, "goes on"], [9, 2, "goes on"]])
def test_undoing_an_end_and_making_a_run_again_leave_the_same(qtbot, engine, done, steps):
    viewer, labels, widget = done
    made = labels.data.copy()
    for step in steps:
        end(qtbot, viewer, labels, widget, 9 if step == "goes on" else step, 1)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    for _ in steps:  # the run, and every end
        labels.undo()
        qtbot.wait(50)
        wait(qtbot, lambda: not widget.loop.looking)
    np.testing.assert_array_equal(labels.data, made)
    wait(qtbot, lambda: widget.loop.anchors() == [5])


def test_an_object_that_is_hidden_here_and_comes_back_beyond(qtbot, done):
    viewer, labels, widget = done
    labels.data[9][labels.data[9] == 2] = 0
    release(Ledger.of(labels), labels, WALK, 9)  # as if the run had left it so
    end(qtbot, viewer, labels, widget, 9, 2)
    assert widget.status.value.startswith("Label 2 ends before slice 9. It was taken away from 2")
    assert on(labels, 2) == list(range(9))
    assert on(labels, 1) == list(range(12))


def test_the_key_and_the_menu_do_it_and_not_while_something_runs(qtbot, engine, done):
    viewer, labels, widget = done
    viewer.dims.set_point(0, 8)
    labels.selected_label = 2
    viewer.window._qt_viewer.canvas.native.setFocus()
    QTest.keyClick(
        viewer.window._qt_viewer.canvas.native, Qt.Key.Key_E, Qt.KeyboardModifier.ShiftModifier
    )
    wait(qtbot, lambda: widget.status.value.startswith("Label 2 ends before slice 8. It was"))
    wait_done(qtbot, widget)
    engine.hold_at = 1
    click(qtbot, widget.propagate)
    wait(qtbot, lambda: widget._run is not None)
    menu = widget.loop.timeline.menu(10)
    entry = next(a for a in menu.actions() if a.text() == "Selected label ends here")
    entry.trigger()
    assert widget.status.value == "Stop what is running first."
    engine.release.set()
    wait_done(qtbot, widget)
    labels.selected_label = 1
    entry.trigger()
    wait_done(qtbot, widget)
    assert on(labels, 1) == list(range(10))


def test_it_is_known_again_another_day_and_after_a_crash(qtbot, done, tmp_path, unsaved):
    viewer, labels, widget = done
    end(qtbot, viewer, labels, widget, 8, 2)
    save_session(labels, tmp_path / "day.npy")
    other = viewer.add_labels(np.load(tmp_path / "day.npy"))
    assert restore(other, tmp_path / "day.npy") == 0
    assert ended(other) == {8: [2]}
    viewer.layers.remove(other)
    widget.recovery.keep_changes()

    def is_kept():
        files = list(unsaved.glob("*/session*.json"))
        return files and all('"ended": {"8": [2]}' in file.read_text() for file in files)

    wait(qtbot, is_kept)
    (record,) = unsaved.glob(f"*/{RECORD}")
    lost = Unsaved(record.parent, json.loads(record.read_text()))
    back = bring_back(lost, viewer)
    assert ended(back) == {8: [2]}
    assert on(back, 2) == list(range(8))


def test_an_object_that_gets_another_label_keeps_its_end(qtbot, done):
    viewer, labels, widget = done
    end(qtbot, viewer, labels, widget, 8, 2)
    labels.data_setitem(np.nonzero(labels.data == 2), 9)
    wait(qtbot, lambda: not widget.loop.looking)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert ended(labels) == {8: [9]}
    assert on(labels, 9) == list(range(8))


def test_labels_on_disk(qtbot, engine, open_widget, painted, tmp_path):  # noqa: F811
    array = zarr.create_array(
        tmp_path / "labels.zarr", shape=painted.shape, chunks=(4, 20, 24), dtype=painted.dtype
    )
    array[:] = painted
    viewer, _, labels, widget = open_widget(labels=array)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    end(qtbot, viewer, labels, widget, 8, 2)
    assert np.flatnonzero((array[:] == 2).any((1, 2))).tolist() == list(range(8))
    labels.undo()
    assert (array[:] == 2).any((1, 2)).all()


def test_a_step_of_a_series_into_which_it_was_carried(qtbot, engine, make_napari_viewer, painted):
    viewer = make_napari_viewer()
    pixels = np.random.default_rng(0).integers(0, 200, (3, *painted.shape)).astype(np.uint8)
    viewer.add_image(pixels)
    data = np.zeros(pixels.shape, np.uint8)
    data[0] = painted
    labels = viewer.add_labels(data)
    viewer.dims.set_point((0, 1), (0, 5))
    widget = PropagateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.choices._series_box.value = widget.choices._series_box.choices[-1]
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert (labels.data == 2).any((2, 3)).all()
    viewer.dims.set_point((0, 1), (1, 9))
    labels.selected_label = 2
    box = widget.choices._series_box
    box.value = box.choices[0]  # this one only: of all of them, it would say when it has ended
    click(qtbot, widget.loop.ends)
    wait_done(qtbot, widget)
    box.value = box.choices[-1]
    for _ in range(2):
        found = (labels.data == 2).any((2, 3))
        assert found[[0, 2]].all()
        np.testing.assert_array_equal(found[1], np.arange(12) < 9)
        click(qtbot, widget.propagate)
        wait_done(qtbot, widget)


def test_what_came_from_elsewhere_stays_and_the_status_says_how_to_take_it_away(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    painted,
):
    painted[:] = painted[5]
    viewer, _, labels, widget = open_widget(labels=painted)
    labels.selected_label = 2
    QTest.mouseClick(
        widget.loop.timeline,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.ShiftModifier,
        QPoint(round(widget.loop.timeline.x_of(5)), 20),
    )
    before = labels.data.copy()
    end(qtbot, viewer, labels, widget, 8, 2)
    said = (
        "Label 2 ends before slice 8. On 4 slices from there on (8-11) it is not of iMOS and "
        "stays: give them back to iMOS on the timeline, and press Ends here again."
    )
    assert widget.status.value == said
    # the slice that is shown moves no end
    wait(qtbot, lambda: widget.prompt.value == "Prompt: slice 5, labels 1-2")
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    np.testing.assert_array_equal(labels.data, before)
    for k in (11, 10, 9):  # its own slice keeps what was said of it
        widget.loop.release([k])
    end(qtbot, viewer, labels, widget, 8, 2)
    taken = "Label 2 ends before slice 8. It was taken away from 3 slices. On 1 slice from there on"
    assert widget.status.value.startswith(taken)
    assert on(labels, 2) == list(range(9))
    widget.loop.release([8])
    end(qtbot, viewer, labels, widget, 8, 2)
    assert on(labels, 2) == list(range(8))
    assert on(labels, 1) == list(range(12))
    end(qtbot, viewer, labels, widget, 8, 2)
    assert widget.status.value == "Label 2 may go on: Propagate looks for it beyond slice 8."
