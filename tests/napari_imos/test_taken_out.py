"""The dock that closes, and those that only seem to."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget
from test_widget import click, open_widget, shown, wait, wait_done  # noqa: F401

from napari_imos._widget import PropagateWidget
from napari_imos._words import TAKE_BACK


@pytest.fixture
def start(qtbot, engine, open_widget):  # noqa: F811
    """Return a function that opens a viewer with a docked widget, whose run stands at slice 8."""

    def build():
        engine.hold_at = 9
        viewer, _, labels, widget = open_widget()
        dock = viewer.window._qt_window.findChild(QWidget, "Propagate slice")
        click(qtbot, widget.propagate)
        wait(qtbot, lambda: labels.data[8, 5, 5] == 1)
        return viewer, labels, widget, dock

    yield build
    engine.release.set()
    wait(qtbot, lambda: engine.closed)


def test_a_dock_that_closes_stops_its_run(qtbot, engine, start, shown):  # noqa: F811
    viewer, labels, widget, dock = start()
    done = labels.data.copy()
    qtbot.mouseClick(dock.title.close_button, Qt.MouseButton.LeftButton)
    (said,) = shown()
    assert said.startswith("Stopped: ")
    assert said.endswith(f" of 12 slices are done and stay.{TAKE_BACK}")
    held = weakref.ref(widget)
    widget = dock = None
    # another one goes on at once, though the engine of the first has a slice in hand
    again = PropagateWidget(viewer)
    viewer.window.add_dock_widget(again, name="Propagate slice")
    assert again.prompt.value == "Prompt: slice 5, labels 1-2"
    release, engine.release, engine.hold_at = engine.release, type(engine.release)(), None
    click(qtbot, again.propagate)
    wait_done(qtbot, again)
    assert again.status.value.startswith("Done: ")
    whole = labels.data.copy()
    assert whole.any(axis=(1, 2)).all()
    release.set()
    qtbot.wait(100)
    gc.collect()
    assert held() is None
    np.testing.assert_array_equal(labels.data, whole, "a slice that comes too late is not written")
    labels.undo()
    np.testing.assert_array_equal(labels.data, done)
    labels.undo()
    assert np.flatnonzero(labels.data.any(axis=(1, 2))).tolist() == [5]


def test_a_dock_that_is_hidden_floats_or_moves_goes_on(qtbot, engine, start):
    viewer, labels, widget, dock = start()
    window = viewer.window._qt_window
    beside = viewer.window.add_dock_widget(QWidget(), name="other", area="right")
    dock.toggleViewAction().trigger()
    qtbot.wait(20)
    dock.toggleViewAction().trigger()
    dock.title.hide_button.click()
    dock.show()
    dock.setFloating(True)
    qtbot.wait(20)
    dock.setFloating(False)
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.tabifyDockWidget(beside, dock)
    qtbot.wait(20)
    assert widget.stop.enabled
    engine.release.set()
    wait_done(qtbot, widget)
    assert widget.status.value.startswith("Done: 12 slices")
    assert labels.data.any(axis=(1, 2)).all()


def test_a_dock_that_closes_while_nothing_runs_says_nothing(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    shown,  # noqa: F811
):
    viewer, *_ = open_widget()
    viewer.window.remove_dock_widget(viewer.window._qt_window.findChild(QWidget, "Propagate slice"))
    assert shown() == []
