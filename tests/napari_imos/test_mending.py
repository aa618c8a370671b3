"""Labels that come from elsewhere are mended, step by step as docs/napari.md says."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QContextMenuEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from test_widget import click, open_widget, wait, wait_done  # noqa: F401

LEFT = Qt.MouseButton.LeftButton
BOTH = Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.ControlModifier


class Stack:
    """A viewer with twelve slices, all of which show labels 1 and 2, and hands in it."""

    def __init__(self, qtbot, viewer, labels, widget):
        self.qtbot, self.viewer, self.labels, self.widget = qtbot, viewer, labels, widget
        self.strip = widget.loop.timeline
        self.full = labels.data.copy()

    def go(self, index):
        QTest.mouseClick(self.strip, LEFT, pos=self.place(index))
        assert self.viewer.dims.current_step[0] == index
        self.qtbot.wait(150)  # a person is no faster

    def place(self, index):
        return QPoint(round(self.strip.x_of(index)), 20)

    def choose(self, first, last):
        self.go(first)
        QTest.mouseClick(self.strip, LEFT, BOTH, self.place(last))
        assert self.strip.chosen == range(first, last + 1)

    def press(self, index, words):
        """Click into the menu of the timeline."""
        pos = self.place(index)
        event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, pos, self.strip.mapToGlobal(pos))
        QApplication.sendEvent(self.strip, event)
        menu = QApplication.activePopupWidget()
        (action,) = (a for a in menu.actions() if a.text() == words)
        QTest.mouseClick(menu, LEFT, pos=menu.actionGeometry(action).center())

    def paint(self, index, where, label):
        self.go(index)
        plane = np.zeros(self.full.shape, bool)
        plane[index][where] = True
        with self.labels.block_history():
            self.labels.data_setitem(np.nonzero(plane), label)
        self.qtbot.wait(150)

    def check(self, index):
        self.go(index)
        click(self.qtbot, self.widget.loop.checked)

    def select(self, label, first=0, last=11):
        self.labels.selected_label = label
        self.widget.advanced._objects_box.value = True
        self.widget.advanced._first_box.value = first
        self.widget.advanced._last_box.value = last

    def propagate(self):
        wait(self.qtbot, lambda: not self.widget.loop.looking)
        click(self.qtbot, self.widget.propagate)
        wait_done(self.qtbot, self.widget)
        return self.widget.status.value


@pytest.fixture
def stack(qtbot, engine, open_widget, painted):  # noqa: F811
    painted[:] = painted[5]
    viewer, _, labels, widget = open_widget(labels=painted)
    wait(qtbot, lambda: not widget.loop.looking)
    return Stack(qtbot, viewer, labels, widget)


def test_an_object_is_refilled_on_bad_slices(stack):
    data = stack.labels.data
    data[6] = np.where(data[6] == 1, 2, data[6])
    data[7, 4:10, 6:] = 0
    data[8, 12:15, 4:8] = 1
    stack.labels.refresh()
    stack.paint(6, stack.full[6] == 1, 0)
    bad = data.copy()
    stack.choose(6, 8)
    stack.press(7, "Give back to iMOS")
    assert stack.widget.status.value == "The next propagation redoes slices 6-8."
    stack.check(5)
    stack.check(9)
    stack.select(1, 6, 8)
    assert "in the way" not in stack.propagate()
    stack.full[7, 4:10, 10:] = 0  # of another label, which nobody asked for
    np.testing.assert_array_equal(data, stack.full)
    stack.labels.undo()
    np.testing.assert_array_equal(data, bad)


def test_a_merged_object_is_split(stack):
    half = np.zeros(stack.full.shape[1:], bool)
    half[4:10, 7:10] = True
    stack.choose(2, 11)
    stack.press(4, "Give back to iMOS")
    stack.paint(5, half, 9)
    stack.select(9, 1, 11)
    assert "Nothing" not in stack.propagate()
    wanted = stack.full.copy()
    wanted[2:, half] = 9  # slice 1 was not given back
    np.testing.assert_array_equal(stack.labels.data, wanted)
    stack.labels.undo()
    wanted[:] = stack.full
    wanted[5, half] = 9
    np.testing.assert_array_equal(stack.labels.data, wanted)


def test_what_was_split_too_far_goes_back_to_what_it_was_split_from(stack):
    stack.choose(0, 11)
    stack.press(4, "Give back to iMOS")
    stack.paint(5, np.s_[4:10, 7:10], 9)
    stack.select(9)
    stack.propagate()
    stack.paint(5, np.s_[4:10, 7], 1)
    stack.propagate()
    wanted = stack.full.copy()
    wanted[:, 4:10, 8:10] = 9
    np.testing.assert_array_equal(stack.labels.data, wanted)


def test_a_split_goes_on_under_other_labels(stack):
    data = stack.labels.data
    data[:5] = data[6:] = 0
    stack.labels.refresh()
    stack.go(5)
    stack.propagate()
    np.testing.assert_array_equal(data, stack.full)
    stack.paint(5, np.s_[4:10, 7:10], 9)
    stack.select(9)
    stack.propagate()
    data[:] = np.where(data, data + 100, 0)  # as a plugin does
    stack.labels.refresh()
    wait(stack.qtbot, lambda: not stack.widget.loop.looking)
    stack.paint(5, np.s_[4:10, 7], 101)
    stack.select(109)
    stack.propagate()
    wanted = np.where(stack.full, stack.full + 100, 0)
    wanted[:, 4:10, 8:10] = 109
    np.testing.assert_array_equal(data, wanted)


def test_nothing_is_split_that_nobody_has_given_back(stack):
    stack.paint(5, np.s_[4:10, 7:10], 9)
    stack.select(9)
    before = stack.labels.data.copy()
    said = stack.propagate()
    assert said.endswith(" On 11 slices other labels are in the way, which stay.")
    np.testing.assert_array_equal(stack.labels.data, before)


def test_an_object_beside_others_takes_nothing_of_them(stack):
    stack.choose(0, 11)
    stack.press(4, "Give back to iMOS")
    stack.paint(5, np.s_[4:10, 9:14], 9)  # a fifth of it on label 1, the rest on nothing
    stack.select(9)
    stack.propagate()
    wanted = stack.full.copy()
    wanted[:, 4:10, 10:14] = 9
    wanted[5, 4:10, 9] = 9
    np.testing.assert_array_equal(stack.labels.data, wanted)


def test_an_object_is_prolonged(stack):
    stack.labels.data[7:][stack.full[7:] == 2] = 0
    stack.labels.refresh()
    stack.check(6)
    stack.select(2, 7, 9)
    stack.propagate()
    np.testing.assert_array_equal(stack.labels.data[:10], stack.full[:10])
    assert not (stack.labels.data[10:] == 2).any()


def test_an_object_ends_sooner(stack):
    stack.check(6)
    stack.choose(7, 11)
    stack.press(9, "Give back to iMOS")
    stack.labels.selected_label = 2
    stack.go(7)
    click(stack.qtbot, stack.widget.loop.ends)
    wait_done(stack.qtbot, stack.widget)
    wanted = stack.full.copy()
    wanted[7:][wanted[7:] == 2] = 0
    np.testing.assert_array_equal(stack.labels.data, wanted)


def test_what_is_done_is_checked(stack):
    stack.choose(3, 6)
    stack.press(3, "Checked")
    assert stack.widget.status.value == "Slices 3-6 are checked and locked."
    assert stack.widget.loop.anchors() == [3, 4, 5, 6]
    stack.press(6, "Checked")
    assert stack.widget.status.value == "Slices 3-6 are no longer locked."
    assert stack.widget.loop.anchors() == []
