"""Names: of layers and adapters, however long, in boxes and lines that do not widen the dock."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
)

if TYPE_CHECKING:
    from magicgui.widgets import CheckBox, ComboBox

_FEWEST = 3  # characters that a box has room for
_GAP = 2  # pixels between a box and its words
_LONG = re.compile(r"\S{24,}")  # words that may be broken
_SEAM = re.compile(r"(?<=[-_./\\])(?=[^-_./\\])")
_BREAK = "\u200b"  # has no width, but a line may end there


def let_names_be_long(box: ComboBox) -> ComboBox:
    """Let a box of names be as wide as the dock, whatever it offers; tooltips say all of them."""
    native: QComboBox = box.native
    native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    native.setMinimumContentsLength(_FEWEST)
    native.view().setTextElideMode(Qt.TextElideMode.ElideMiddle)
    _NameBox(native)
    return box


def shorten(box: CheckBox, name: str) -> CheckBox:
    """Let a box to tick be as wide as the dock, with as much of its name as there is room for."""
    native: QCheckBox = box.native
    native.setSizePolicy(QSizePolicy.Policy.Ignored, native.sizePolicy().verticalPolicy())
    native.setToolTip(f"{name}\n{native.toolTip()}")
    native.setAccessibleName(name)
    _Shortener(native, name)
    return box


def breakable(sentence: str) -> str:
    """Let lines end within long names: ``sub-01_ses-02_...`` has no space."""
    return _LONG.sub(lambda found: _SEAM.sub(_BREAK, found[0]), sentence)


def unbroken(sentence: str) -> str:
    """Return a sentence as it was before `breakable`."""
    return sentence.replace(_BREAK, "")


class _NameBox(QObject):
    """Paints a box with a name that is shortened in its middle, and has tooltips say all of it.

    Parameters
    ----------
    box : QComboBox
        Box, which owns it.
    """

    def __init__(self, box: QComboBox) -> None:
        super().__init__(box)
        self._box, self._hint = box, box.toolTip()
        box.installEventFilter(self)
        box.view().viewport().installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Paint what Qt would cut off, and renew tooltips when asked for, as names change."""
        kind = None if event is None else event.type()
        if kind == QEvent.Type.Paint and watched is self._box and not self._fits():
            self._paint()
            return True
        if kind == QEvent.Type.ToolTip:
            box, name = self._box, self._box.currentText()
            box.setToolTip(f"{name}\n{self._hint}" if name else self._hint)
            for i in range(box.count()):
                box.setItemData(i, box.itemText(i), Qt.ItemDataRole.ToolTipRole)
        return bool(super().eventFilter(watched, event))

    def _fits(self) -> bool:
        return self._shown() == self._box.currentText()

    def _shown(self) -> str:
        """Return as much of the name as there is room for."""
        box, style = self._box, self._box.style()
        field = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            self._option(),
            QStyle.SubControl.SC_ComboBoxEditField,
            box,
        )
        room = field.width() - 2 * _GAP
        return box.fontMetrics().elidedText(
            box.currentText(), Qt.TextElideMode.ElideMiddle, max(room, 0)
        )

    def _option(self) -> QStyleOptionComboBox:
        option = QStyleOptionComboBox()
        option.initFrom(self._box)
        option.subControls = QStyle.SubControl.SC_All
        if self._box.view().isVisible():
            option.state |= QStyle.StateFlag.State_On
        return option

    def _paint(self) -> None:
        option = self._option()
        option.currentText = self._shown()
        painter = QStylePainter(self._box)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()


class _Shortener(QObject):
    """Fits the words of a box to its width.

    Parameters
    ----------
    box : QCheckBox
        Box, which owns it.
    name : str
        All the words.
    """

    def __init__(self, box: QCheckBox, name: str) -> None:
        super().__init__(box)
        self._name = name
        box.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Shorten anew at another width."""
        if event is not None and event.type() == QEvent.Type.Resize:
            box: Any = watched
            metrics = box.fontMetrics()
            square = box.sizeHint().width() - metrics.horizontalAdvance(box.text())
            room = box.width() - square
            box.setText(metrics.elidedText(self._name, Qt.TextElideMode.ElideMiddle, room))
        return bool(super().eventFilter(watched, event))
