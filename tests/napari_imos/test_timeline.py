"""The strip: colours, clicks, words; quick enough for a thousand slices."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_imos._record.provenance import Kind, Provenance
from napari_imos._timeline import Timeline


@pytest.fixture
def strip(qtbot):
    """A strip of 20 slices, 10 pixels each: predicted, but for an anchor and the last ones."""
    record = Provenance(20)
    record.kind[:15] = Kind.PREDICTED
    record.kind[4] = Kind.DRAWN
    record.confidence[:15] = np.linspace(1, 0, 15)
    record.source[:15] = 2
    strip = Timeline()
    qtbot.addWidget(strip)
    strip.resize(208, 34)
    strip.show_record(record, [4])
    strip.show()
    return strip, record


def column(strip, index):
    return QPoint(round(strip.x_of(index)), 20)


def test_click_drag_and_keys_jump(qtbot, strip):
    strip, _ = strip
    seen = []
    strip.jumped.connect(seen.append)
    strip.jumped.connect(strip.show_current)
    qtbot.mousePress(strip, Qt.MouseButton.LeftButton, pos=column(strip, 3))
    qtbot.mouseMove(strip, column(strip, 9))
    qtbot.mouseRelease(strip, Qt.MouseButton.LeftButton, pos=column(strip, 9))
    assert seen[0] == 3
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=column(strip, 12))
    qtbot.keyClick(strip, Qt.Key.Key_Right)
    qtbot.keyClick(strip, Qt.Key.Key_End)
    assert seen[-3:] == [12, 13, 19]
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(207, 20))
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(0, 20))
    assert seen[-2:] == [19, 0]


def test_ticks_are_hit_where_slices_are_narrower_than_ticks(qtbot):
    strip = Timeline()
    qtbot.addWidget(strip)
    strip.resize(200, 34)
    strip.show_record(Provenance(1000), [499, 700])
    strip.show()
    toggled, shown = [], []
    strip.anchor_toggled.connect(toggled.append)
    strip.jumped.connect(shown.append)
    left, shift = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier
    for off in (-3, 0, 3):
        qtbot.mouseClick(strip, left, shift, column(strip, 499) + QPoint(off, 0))
    assert toggled == [499, 499, 499]
    qtbot.mouseClick(strip, left, pos=column(strip, 700))
    qtbot.mouseClick(strip, left, pos=column(strip, 700) + QPoint(8, 0))
    assert shown[0] == 700
    assert 725 < shown[1] < 755


def test_modifiers_and_menu_say_what_a_slice_is_for(qtbot, strip):
    strip, _ = strip
    said = []
    strip.anchor_toggled.connect(lambda k: said.append(("anchor", k)))
    strip.checked_toggled.connect(lambda slices: said.append(("checked", *slices)))
    strip.released.connect(lambda slices: said.append(("back", *slices)))
    left = Qt.MouseButton.LeftButton
    qtbot.mouseClick(strip, left, Qt.KeyboardModifier.ShiftModifier, column(strip, 4))
    qtbot.mouseClick(strip, left, Qt.KeyboardModifier.ControlModifier, column(strip, 7))
    menu = strip.menu(4)
    actions = {a.text(): a for a in menu.actions()}
    assert not actions["Checked"].isChecked()
    for name in ("Drop anchor", "Checked", "Give back to iMOS"):
        actions[name].trigger()
    assert said == [("anchor", 4), ("checked", 7), ("anchor", 4), ("checked", 4), ("back", 4)]
    assert "Set anchor" in [a.text() for a in strip.menu(7).actions()]
    back = next(a for a in strip.menu(7).actions() if a.text().startswith("Give"))
    assert not back.isEnabled()


def test_words_under_the_mouse(strip):
    strip, record = strip
    assert strip.describe(4) == "Slice 4: drawn by you, anchor"
    assert strip.describe(7) == "Slice 7: predicted, confidence 50%, walking forward"
    assert strip.describe(17) == "Slice 17: not reached yet"
    record.checked[7], record.kind[7], record.source[7] = True, Kind.CHECKED, 4
    assert strip.describe(7) == "Slice 7: checked and locked, confidence 50%, from both sides"


def test_colours_go_from_bright_to_dark_and_the_least_sure_wins(strip):
    strip, _ = strip
    row = strip.row(20).astype(int)
    brightness = row[:15, :3].sum(axis=1)
    assert (np.diff(np.delete(brightness, 4)) < 0).all()
    assert (row[15:, 3] == 0).all()
    assert tuple(row[4, :3]) == tuple(row[0, :3]), "what a person made is sure"
    np.testing.assert_array_equal(strip.row(200)[::10], strip.row(20))
    wide = strip.row(4).astype(int)  # 5 slices a column
    assert tuple(wide[1]) == tuple(row[9])
    assert wide[3, 3] == 0, "not reached at all"
    image = strip.grab().toImage()
    assert image.pixelColor(column(strip, 1)).lightness() > 100
    assert image.pixelColor(column(strip, 14)).lightness() < 60


def test_a_long_walk_takes_less_than_its_slices_each_would(qtbot):
    strips = {}
    for length in (500, 20_000):
        record = Provenance(length)
        record.kind[:] = Kind.PREDICTED
        record.confidence[:] = np.random.default_rng(0).random(length)
        strips[length] = strip = Timeline(), record
        qtbot.addWidget(strip[0])
        strip[0].resize(400, 34)
        strip[0].show()
    times = {length: [] for length in strips}
    for k in range(12):
        for length, (strip, record) in strips.items():
            # a slice has arrived: the row is made anew, and painted
            began = time.thread_time()
            strip.show_record(record, range(0, length, 7))
            strip.show_current(k)
            strip.grab()
            times[length].append(time.thread_time() - began)
    assert np.median(times[20_000]) < 25 * np.median(times[500]), "of 40 times as many slices"


def test_several_slices_are_chosen_and_the_menu_is_for_all_of_them(qtbot, strip):
    strip, record = strip
    record.kind[:] = Kind.DRAWN
    said = []
    strip.checked_toggled.connect(lambda slices: said.append(("checked", [*slices])))
    strip.released.connect(lambda slices: said.append(("back", [*slices])))
    strip.show_current(9)
    left = Qt.MouseButton.LeftButton
    both = Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.ControlModifier

    def actions(index):
        return {a.text(): a for a in strip.menu(index).actions()}

    before = strip.grab().toImage()
    for there, chosen in ((12, range(9, 13)), (7, range(7, 10))):
        qtbot.mouseClick(strip, left, both, column(strip, there))
        assert strip.chosen == chosen
    assert strip.grab().toImage() != before
    assert "Slices 7-9" in actions(8)
    actions(8)["Checked"].trigger()
    record.checked[7:10] = True
    assert actions(7)["Checked"].isChecked()
    actions(9)["Give back to iMOS"].trigger()
    slices = [7, 8, 9]
    assert said == [("checked", slices), ("back", slices)]
    record.kind[7:10] = Kind.PREDICTED
    assert not actions(8)["Give back to iMOS"].isEnabled()
    assert "Drop anchor" in actions(4), "one that is not chosen has a menu of its own"
    actions(4)["Choose slices 4-9"].trigger()
    assert strip.chosen == range(4, 10)
    actions(4)["Choose none"].trigger()
    assert not strip.chosen
    strip.choose(range(3, 5))
    qtbot.mouseClick(strip, left, pos=column(strip, 4))
    assert not strip.chosen
