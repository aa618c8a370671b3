"""Long names in the dock widget: it grows no wider, and says them in full where it is asked."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QLabel
from test_widget import wait

from napari_imos._widget import PropagateWidget

LONG = "sub-01_ses-02_acq-highres_run-01_T1w_desc-preproc_space-MNI152NLin2009cAsym.nii"

UNDERSCORES = "mouse_0042_left_hemisphere_lightsheet_561nm_stitched_downsampled_2um_final.tif"


def ask(widget):
    """Rest the mouse on a widget, and return its tooltip."""
    place = QPoint(5, 5)
    QApplication.sendEvent(widget, QHelpEvent(QEvent.Type.ToolTip, place, place))
    return widget.toolTip()


def narrow(viewer, image, name, count=1):
    """Dock the widget as narrow as it gets; return both."""
    for k in range(count):
        viewer.add_image(image, name=f"{name}{k}" if count > 1 else name)
    viewer.add_labels(np.zeros(image.shape, np.uint8), name=f"{name} labels")
    widget = PropagateWidget(viewer)
    dock = viewer.window.add_dock_widget(widget, name="Propagate slice")
    window = viewer.window._qt_window
    window.resize(1200, 700)
    window.show()
    window.resizeDocks([dock], [100], Qt.Orientation.Horizontal)
    return widget, dock


def test_long_names_of_layers_do_not_widen_the_dock(qtbot, make_napari_viewer, volume):
    viewer = make_napari_viewer()
    widget, dock = narrow(viewer, volume, "ct")
    short = dock.minimumSizeHint().width()
    viewer.layers[0].name = LONG
    viewer.layers[1].name = f"{LONG} labels"
    viewer.add_image(volume, name=f"{LONG} 2")  # so that there are channels to tick
    assert [box.native.isVisible() for box in widget.choices._channels_box] == [True, True]
    wait(qtbot, lambda: not widget.choices._image_box.native.visibleRegion().isEmpty())
    qtbot.wait(50)
    assert dock.minimumSizeHint().width() <= short + 5
    assert dock.width() <= short + 5

    box = widget.choices._image_box.native
    assert LONG in box.itemText(0), "what is chosen is still called so"
    assert ask(box).startswith(f"{box.currentText()}\n")
    ask(box.view().viewport())
    assert box.itemData(0, Qt.ItemDataRole.ToolTipRole) == LONG
    viewer.layers[0].name = "t1"
    ask(box.view().viewport())
    assert box.itemData(0, Qt.ItemDataRole.ToolTipRole) in ("t1", f"{LONG} 2")


def test_a_name_to_tick_shows_as_much_as_there_is_room_for(qtbot, make_napari_viewer, volume):
    viewer = make_napari_viewer()
    widget, dock = narrow(viewer, volume, LONG, count=2)
    boxes = [box.native for box in widget.choices._channels_box]
    wait(qtbot, lambda: all("…" in box.text() for box in boxes))
    first = boxes[0].text()
    assert first.startswith("sub-01")
    assert first.endswith(".nii0")
    assert boxes[0].toolTip().startswith(f"{LONG}0\n")
    viewer.window._qt_window.resizeDocks([dock], [600], Qt.Orientation.Horizontal)
    wait(qtbot, lambda: len(boxes[0].text()) > len(first))


def test_a_box_paints_a_long_name_with_its_end(qtbot, make_napari_viewer, volume):
    viewer = make_napari_viewer()
    widget, _ = narrow(viewer, volume, f"{LONG} a")
    box = widget.choices._image_box.native
    wait(qtbot, lambda: not box.visibleRegion().isEmpty())
    qtbot.wait(50)
    before = box.grab().toImage()
    # what cannot be seen of it may change without a trace, its end may not
    viewer.layers[0].name = f"{LONG} b"
    assert box.grab().toImage() != before


def test_lines_end_within_long_names(qtbot, make_napari_viewer, volume):
    viewer = make_napari_viewer()
    widget, _ = narrow(viewer, volume, "ct")
    said = f"Took over {UNDERSCORES}.imos.json."
    widget.running.say(said)
    assert widget.status.value == said, "whoever reads it gets what was said"
    label: QLabel = widget.status.native
    wait(qtbot, lambda: label.height() > 2 * label.fontMetrics().height())
    wrap = int(Qt.TextFlag.TextWordWrap)
    needed = label.fontMetrics().boundingRect(0, 0, label.width(), 1000, wrap, label.text())
    assert needed.width() <= label.width()
