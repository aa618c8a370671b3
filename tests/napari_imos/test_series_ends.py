"""*Ends here* in a whole series: a cell that has left the field, in a real viewer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_series import docked, labels_by_slice, paint  # noqa: F401
from test_widget import click, wait, wait_done

from napari_imos._record.ledger import Ledger
from napari_imos._saved.session import restore, save_session


@pytest.fixture
def done(qtbot, engine, docked):  # noqa: F811
    """Labels 1 and 2 were carried from t 2, slice 3, through all five volumes of six slices."""
    viewer, labels, widget = docked
    widget.choices._series_box.value = 0
    paint(qtbot, docked, 2, 3, (13, 14), 2)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 1) == labels_by_slice(labels, 2) == [6] * 5
    return viewer, labels, widget


def end(qtbot, done, t, k, label):
    viewer, labels, widget = done
    viewer.dims.set_point((0, 1), (t, k))
    labels.selected_label = label
    wait(qtbot, lambda: not widget.loop.looking)
    click(qtbot, widget.loop.ends)
    wait_done(qtbot, widget)


def test_it_is_taken_away_at_all_later_times_and_does_not_come_back(qtbot, engine, done):
    _, labels, widget = done
    calls = len(engine.calls)
    end(qtbot, done, 3, 1, 2)
    assert labels_by_slice(labels, 2) == [6, 6, 6, 0, 0]
    assert labels_by_slice(labels, 1) == [6] * 5
    said = "Label 2 ends before t 3. It was taken away from 12 slices. Ctrl+Z takes it back."
    assert widget.status.value == said
    assert len(engine.calls) == calls, "no model is needed for that"
    for _ in range(2):
        click(qtbot, widget.propagate)
        wait_done(qtbot, widget)
        assert labels_by_slice(labels, 2) == [6, 6, 6, 0, 0]
        assert labels_by_slice(labels, 1) == [6] * 5
    # another object that is painted there brings no others back
    paint(qtbot, done, 4, 2, (3, 14), 5)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 2) == [6, 6, 6, 0, 0]


def test_before_it_says_where_it_begins(qtbot, done):
    _, labels, widget = done
    end(qtbot, done, 0, 4, 1)
    assert labels_by_slice(labels, 1) == [0, 6, 6, 6, 6]
    assert widget.status.value.startswith("Label 1 begins after t 0. It was taken away from 6 sl")


def test_undo_redo_and_a_second_time(qtbot, done):
    _, labels, widget = done
    before = labels.data.copy()
    end(qtbot, done, 3, 1, 2)
    after = labels.data.copy()
    labels.undo()
    wait(qtbot, lambda: not widget.loop.looking)
    np.testing.assert_array_equal(labels.data, before)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 2) == [6] * 5, "nobody says that it has ended"
    end(qtbot, done, 3, 1, 2)
    np.testing.assert_array_equal(labels.data, after)
    click(qtbot, widget.loop.ends)
    assert widget.status.value == "Label 2 may go on: Propagate looks for it beyond t 3."
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 2) == [6] * 5


def test_where_it_is_painted_it_ends_at_a_slice(qtbot, done):
    _, labels, widget = done
    end(qtbot, done, 2, 5, 2)
    assert labels_by_slice(labels, 2) == [6, 6, 5, 6, 6]
    assert widget.status.value.startswith("Label 2 ends before slice 5.")


def test_an_object_that_is_painted_later_again_goes_on_from_there(qtbot, done):
    _, labels, widget = done
    end(qtbot, done, 3, 1, 2)
    paint(qtbot, done, 4, 3, (13, 14), 2)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 2)[4] == 6
    end(qtbot, done, 3, 1, 2)
    assert widget.status.value == "Label 2 may go on: Propagate looks for it beyond t 3."
    click(qtbot, widget.loop.ends)
    assert "painted on both sides of t 3" in widget.status.value


def test_an_end_on_one_slice_through_time_is_none_of_the_whole(qtbot, done):
    viewer, labels, widget = done
    box, axis = widget.choices._series_box, widget.choices._axis_box
    box.value = box.choices[0]
    axis.value = 0
    end(qtbot, done, 3, 1, 2)
    assert labels_by_slice(labels, 2) == [6, 6, 6, 5, 5]
    axis.value = 1
    box.value = box.choices[-1]
    viewer.dims.set_point((0, 1), (2, 3))
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert min(labels_by_slice(labels, 2)) >= 5


def test_an_end_in_time_holds_on_walks_through_time(qtbot, done):
    _, labels, widget = done
    end(qtbot, done, 3, 1, 2)
    box = widget.choices._series_box
    box.value = box.choices[0]
    widget.choices._axis_box.value = 0
    paint(qtbot, done, 2, 4, (13, 14), 2)
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(labels, 2) == [6, 6, 6, 0, 0]


def test_undo_where_the_object_had_been_erased_first(qtbot, done):
    _, labels, widget = done
    gone = np.nonzero(labels.data[3] == 2)
    labels.data_setitem((np.full(gone[0].size, 3), *gone), 0)
    before = labels.data.copy()
    end(qtbot, done, 3, 1, 2)
    assert labels_by_slice(labels, 2) == [6, 6, 6, 0, 0]
    labels.undo()
    wait(qtbot, lambda: not widget.loop.looking)
    np.testing.assert_array_equal(labels.data, before)
    assert not any(r.ended for r in Ledger.of(labels).records.values())
    labels.redo()
    wait(qtbot, lambda: any(r.ended for r in Ledger.of(labels).records.values()))


def test_labels_from_a_file_that_nobody_has_looked_at(qtbot, engine, docked):  # noqa: F811
    viewer, labels, widget = docked
    widget.choices._series_box.value = 0
    labels.data[(0, 2, slice(11, 14), slice(11, 14))] = 7
    viewer.dims.set_point((0, 1), (4, 3))
    labels.selected_label = 7
    click(qtbot, widget.loop.ends)
    assert widget.status.value == "Label 7 ends before t 4."


def test_a_session_knows_it(qtbot, done, tmp_path):
    viewer, labels, _ = done
    end(qtbot, done, 3, 1, 2)
    session = save_session(labels, tmp_path / "cells.tif")
    walks = {tuple(map(tuple, w["fixed"])): w for w in json.loads(session.read_text())["walks"]}
    assert walks[((0, 4),)]["absent"] == {"2": list(range(6))}
    assert walks[((0, 2),)]["absent"] == {}
    again = viewer.add_labels(labels.data.copy(), axis_labels=("t", "z", "y", "x"))
    restore(again, session)
    widget = done[2]
    widget.choices._series_box.value = 0
    viewer.dims.set_point((0, 1), (2, 3))
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert labels_by_slice(again, 2) == [6, 6, 6, 0, 0]
