"""The dock widget where there is little room: what is folded."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from superqt import QCollapsible
from test_widget import open_widget, wait  # noqa: F401

SMALL = (1000, 560)


@pytest.fixture
def open_small(qtbot, open_widget):  # noqa: F811
    """Return a function that opens a small window with the docked widget."""

    def build(**layer):
        viewer, *_, widget = open_widget(**layer)
        window = viewer.window._qt_window
        window.resize(*SMALL)
        window.show()
        window.activateWindow()
        wait(qtbot, window.isActiveWindow)
        folds = {fold.text(): fold for fold in widget.native.findChildren(QCollapsible)}
        return window, widget, folds

    return build


def press(qtbot, fold):
    qtbot.mouseClick(fold.toggleButton(), Qt.MouseButton.LeftButton)


def stops(qtbot, widget):
    """Controls on which Tab stops, from the widget's last button on."""
    start = widget.saving.save.native
    start.setFocus()
    found = []
    for _ in range(60):
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        here = QApplication.focusWidget()
        if here is start:
            break
        if widget.native.isAncestorOf(here):
            found.append(here)
    return found


def test_tab_passes_what_is_folded(qtbot, open_small):
    _, widget, folds = open_small()
    folded = stops(qtbot, widget)
    assert folds["Advanced"].toggleButton() in folded
    assert folds["Adapt"].toggleButton() in folded
    inside = [fold.content() for fold in folds.values()]
    assert not [one for one in folded if any(part.isAncestorOf(one) for part in inside)]

    # unfolded by the keyboard, it is reached
    button = folds["Advanced"].toggleButton()
    button.setFocus()
    qtbot.keyClick(button, Qt.Key.Key_Space)
    wait(qtbot, lambda: folds["Advanced"].content().height() > 0)
    box = widget.advanced._empty_box
    assert box.native in stops(qtbot, widget)
    box.native.setFocus()
    qtbot.keyClick(box.native, Qt.Key.Key_Space)
    assert widget.advanced.rules.only_empty
    qtbot.keyClick(button, Qt.Key.Key_Space)
    assert not folds["Advanced"].content().isVisible()
    assert stops(qtbot, widget) == folded
