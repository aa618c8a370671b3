"""The dock widget where there is little room: folds, and more than the window can show."""

from __future__ import annotations

import napari.settings
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QScrollArea
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
        return window, widget, widget.native.findChild(QScrollArea), folds

    return build


def press(qtbot, fold):
    qtbot.mouseClick(fold.toggleButton(), Qt.MouseButton.LeftButton)


def test_unfolding_scrolls_rather_than_makes_the_window_taller(qtbot, open_small):
    window, widget, area, folds = open_small()
    before, narrowest = window.height(), window.minimumSizeHint().height()
    for fold in folds.values():
        press(qtbot, fold)
        qtbot.wait(50)  # a person is no quicker
    button = widget.adapting.button.native
    # what was unfolded comes into view, and what is above it stays within reach
    wait(qtbot, lambda: area.verticalScrollBar().value() > 0)
    wait(qtbot, lambda: button.visibleRegion().boundingRect().height() == button.height())
    assert window.height() == before
    assert window.minimumSizeHint().height() == narrowest
    assert area.horizontalScrollBar().maximum() == 0
    assert area.widget().width() <= area.viewport().width(), "nothing is cut off at the right"
    for fold in folds.values():
        press(qtbot, fold)
    wait(qtbot, lambda: folds["Adapt"].content().height() == 0)
    assert window.height() == before


def test_the_dock_is_as_wide_folded_as_unfolded(qtbot, open_small):
    _, widget, _, folds = open_small()
    folded = widget.native.minimumSizeHint().width()
    press(qtbot, folds["Advanced"])
    wait(qtbot, lambda: folds["Advanced"].content().height() > 0)
    assert widget.native.minimumSizeHint().width() == folded
    assert folded < 340


def test_with_room_nothing_scrolls(qtbot, open_small):
    window, widget, area, folds = open_small()
    window.resize(1000, 1000)
    press(qtbot, folds["Advanced"])
    press(qtbot, folds["Adapt"])
    wait(qtbot, lambda: not widget.adapting.button.native.visibleRegion().isEmpty())
    assert not area.verticalScrollBar().isVisible()
    assert area.widget().height() == area.viewport().height()
    # the area has the dock's own background
    picture, docked = window.grab().toImage(), widget.native.parentWidget()
    held = area.mapTo(window, QPoint(area.width() // 2, area.height() - 20))
    above = docked.titleBarWidget().mapTo(window, QPoint(3, 3))
    assert picture.pixelColor(held) == picture.pixelColor(above)


def turn(box):
    """Turn the wheel over a box, towards the person."""
    place, here = box.rect().center(), box
    while here is not None:
        event = QWheelEvent(
            QPointF(place),
            QPointF(box.mapToGlobal(place)),
            QPoint(),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(here, event)
        # Qt goes on with the parent like that, but only where a mouse has made the event
        here = None if event.isAccepted() else here.parentWidget()


def test_the_wheel_scrolls_and_changes_no_choice_on_the_way(qtbot, open_small):
    _, widget, area, folds = open_small()
    press(qtbot, folds["Advanced"])
    wait(qtbot, lambda: area.verticalScrollBar().value() > 0)
    area.verticalScrollBar().setValue(0)
    for box in (widget.choices._direction_box.native, widget.advanced._device_box.native):
        before, text = area.verticalScrollBar().value(), box.currentText()
        turn(box)
        assert box.currentText() == text
        assert area.verticalScrollBar().value() > before
    # whoever has chosen a box may turn it
    direction = widget.choices._direction_box.native
    area.verticalScrollBar().setValue(0)
    direction.setFocus()
    turn(direction)
    assert widget.choices.way == "forward"


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
    _, widget, _, folds = open_small()
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


def test_the_adapters_can_be_read_where_letters_are_large(qtbot, open_small):
    _, widget, _, folds = open_small()
    press(qtbot, folds["Advanced"])
    napari.settings.get_settings().appearance.font_size = 20
    adapter = widget.advanced.adapter
    parts = [one.native for one in (adapter.box, adapter.bring, adapter.give, adapter.remove)]
    wait(qtbot, lambda: all(part.fontMetrics().height() > 20 for part in parts))
    wait(qtbot, lambda: all(part.width() >= part.sizeHint().width() for part in parts))


def test_boxes_begin_at_the_same_place_where_letters_are_large(qtbot, open_small):
    _, widget, *_ = open_small()
    choices = widget.choices
    boxes = [choices._image_box, choices._labels_box, choices._axis_box, choices._direction_box]
    napari.settings.get_settings().appearance.font_size = 20
    wait(qtbot, lambda: all(box.native.fontMetrics().height() > 20 for box in boxes))
    wait(qtbot, lambda: len({box.native.mapTo(widget.native, QPoint()).x() for box in boxes}) == 1)


def test_arrows_of_folds_have_the_colour_of_the_words_beside_them(qtbot, open_small):
    *_, folds = open_small()

    def lightness():
        image = folds["Adapt"].toggleButton().icon().pixmap(16, 16).toImage()
        places = [(x, y) for x in range(image.width()) for y in range(image.height())]
        return [c.lightness() for c in (image.pixelColor(*at) for at in places) if c.alpha() > 200]

    wait(qtbot, lambda: lightness() and min(lightness()) > 150)
    napari.settings.get_settings().appearance.theme = "light"
    wait(qtbot, lambda: lightness() and max(lightness()) < 100)
    press(qtbot, folds["Adapt"])
    assert max(lightness()) < 100
