"""Timeline: a strip with one column per slice that says what each slice is, to click on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QMenu, QSizePolicy, QToolTip, QWidget

from napari_imos._provenance import SOURCES, Kind, Provenance
from napari_imos._words import numbers

if TYPE_CHECKING:
    import numpy.typing as npt
    from qtpy.QtGui import QContextMenuEvent, QKeyEvent, QMouseEvent, QPaintEvent

_HEIGHT, _TICKS = 34, 10  # pixels; the upper part holds the anchor ticks
_MARGIN = 4
_TICK = 8  # pixels that an anchor's tick is wide
# cividis at 0, 1/4, ... 1: it reads the same with and without colour vision
_CIVIDIS = np.array(
    [(0, 34, 78), (66, 78, 108), (124, 123, 120), (188, 175, 111), (254, 232, 56)], float
)
_TABLE = np.stack(
    [np.interp(np.linspace(0, 4, 256), np.arange(5), _CIVIDIS[:, c]) for c in range(3)], axis=1
).astype(np.uint8)
_UNKNOWN = (110, 160, 175)  # predicted, no confidence known
_WORDS = {
    Kind.EMPTY: "not reached yet",
    Kind.PREDICTED: "predicted",
    Kind.DRAWN: "drawn by you",
    Kind.CORRECTED: "corrected by you",
    Kind.CHECKED: "checked and locked",
}


class Timeline(QWidget):
    """Strip of the slices of a walk.

    Dark is unsure, bright is sure; ticks are anchors, squares are checked slices, bars are where
    objects end, the line is the slice that is shown. Click or drag to go there; Shift+click sets
    or drops an anchor, Ctrl+click marks a slice as checked; arrow keys move.
    """

    jumped = Signal(int)
    """A person wants to see a slice."""
    anchor_toggled = Signal(int)
    """A person sets an anchor, or drops one."""
    checked_toggled = Signal(int)
    """A person says that a slice is right, or takes that back."""
    released = Signal(int)
    """A person gives a slice back: the next run may redo it."""
    ended = Signal(int)
    """A person says that the selected object has ended before a slice."""

    def __init__(self) -> None:
        super().__init__()
        self._record = Provenance(0)
        self._anchors: npt.NDArray[np.intp] = np.zeros(0, np.intp)
        self._current = -1
        self._image: QImage | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Timeline of the slices")
        self.setToolTip(
            "One column per slice: bright is sure, dark is unsure; ticks are anchors. Click to go "
            "there, Shift+click to set or drop an anchor, Ctrl+click to mark as checked."
        )

    # ---- What it shows ----

    def show_record(self, record: Provenance, anchors: npt.ArrayLike) -> None:
        """Show the slices of a walk; call it again after a change.

        Parameters
        ----------
        record : Provenance
            It is looked at when painting, not copied.
        anchors : array-like of int
            Slices that serve as anchors.
        """
        self._record = record
        self._anchors = np.asarray(anchors, np.intp)
        self._image = None
        self.update()

    def show_current(self, index: int) -> None:
        """Move the line."""
        if index != self._current:
            self._current = index
            self.update()

    @property
    def current(self) -> int:
        """Slice of the line."""
        return self._current

    def describe(self, index: int) -> str:
        """Say what a slice is, how sure the model was, and where it came from."""
        kind = Kind(self._record.kind[index])
        words = [f"Slice {index}: {_WORDS[kind]}"]
        confidence = float(self._record.confidence[index])
        if np.isfinite(confidence) and kind not in (Kind.EMPTY, Kind.DRAWN):
            words.append(f"confidence {confidence:.0%}")
        source = SOURCES[self._record.source[index]]
        if kind in (Kind.PREDICTED, Kind.CHECKED) and source not in ("", "anchor"):
            words.append("from both sides" if source == "blend" else f"walking {source}")
        if index in self._anchors:
            words.append("anchor")
        elif index in self._record.dropped and kind != Kind.PREDICTED:
            words.append("not an anchor")
        if ends := self._record.ended.get(index):
            words.append(f"label{'s' if len(ends) > 1 else ''} {numbers(ends)} not from here on")
        return ", ".join(words)

    def index_at(self, x: float) -> int:
        """Slice at a horizontal position."""
        length, width = self._record.length, max(self._span, 1)
        return int(np.clip((x - _MARGIN) * length / width, 0, max(length - 1, 0)))

    def index_near(self, x: float) -> int:
        """Slice that is meant at a horizontal position: an anchor whose tick is under it.

        Only where columns are narrower than ticks; in others every slice can be hit.
        """
        index = self.index_at(x)
        if not len(self._anchors) or self._span >= _TICK * self._record.length:
            return index
        nearest = int(self._anchors[np.argmin(np.abs(self._anchors - index))])
        return nearest if abs(self.x_of(nearest) - x) <= _TICK / 2 else index

    def x_of(self, index: int) -> float:
        """Middle of a slice's column."""
        return _MARGIN + (index + 0.5) * self._span / max(self._record.length, 1)

    @property
    def _span(self) -> int:
        return self.width() - 2 * _MARGIN

    def sizeHint(self) -> QSize:
        """Return the size that Qt lays out with."""
        return QSize(200, _HEIGHT)

    def minimumSizeHint(self) -> QSize:
        """Return the least size."""
        return QSize(60, _HEIGHT)

    # ---- Painting ----

    def row(self, width: int) -> npt.NDArray[np.uint8]:
        """Colours of the columns, `(width, 4)` RGBA; where slices share one, the least sure wins.

        Parameters
        ----------
        width : int
            Columns.
        """
        record, length = self._record, self._record.length
        colours = np.zeros((length, 4), np.uint8)
        reached = record.kind != Kind.EMPTY
        mine = (record.kind == Kind.DRAWN) | (record.kind == Kind.CORRECTED)
        sure = np.where(np.isfinite(record.confidence), record.confidence, np.nan)
        known = reached & np.isfinite(sure)
        colours[reached, :3], colours[reached, 3] = _UNKNOWN, 255
        colours[known, :3] = _TABLE[np.clip(sure[known] * 255, 0, 255).astype(np.uint8)]
        certain = mine | (record.kind == Kind.CHECKED)
        colours[certain, :3] = _TABLE[255]
        if length <= width:
            return colours[np.arange(width) * length // width]
        # several slices share a column: first what is not reached, then the least sure
        rank = np.where(certain, 2.0, np.where(known, sure, 1.5))
        rank[~reached] = -1.0
        order = np.lexsort((rank, np.arange(length) * width // length))
        columns = np.arange(length) * width // length
        first = np.searchsorted(columns[order], np.arange(width))
        return colours[order[first]]

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint: one cached image, the ticks and the line."""
        painter = QPainter(self)
        words = self.palette().color(QPalette.ColorRole.WindowText)
        frame = QRectF(_MARGIN, _TICKS, max(self._span, 1), _HEIGHT - _TICKS - 4)
        if self._record.length and self._span > 0:
            if self._image is None or self._image.width() != self._span:
                pixels = np.ascontiguousarray(self.row(self._span)[None])
                image = QImage(
                    pixels.data, self._span, 1, 4 * self._span, QImage.Format.Format_RGBA8888
                )
                self._image = image.copy()  # the pixels go with this call
            painter.drawImage(frame, self._image)
        faint = QColor(words)
        faint.setAlpha(110)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(frame)
        self._paint_ticks(painter, words)
        if 0 <= self._current < self._record.length:
            x = self.x_of(self._current)
            for colour, width in ((QColor(0, 0, 0), 4), (QColor(255, 255, 255), 2)):
                painter.setPen(QPen(colour, width))
                painter.drawLine(QPointF(x, _TICKS - 1), QPointF(x, _HEIGHT - 3))
        if self.hasFocus():
            painter.setPen(QPen(words, 1, Qt.PenStyle.DotLine))
            painter.drawRect(QRectF(0, 0, self.width() - 1, _HEIGHT - 1))
        painter.end()

    def _paint_ticks(self, painter: QPainter, colour: QColor) -> None:
        """Paint a triangle per anchor, a square per checked slice, a bar where an object ends."""
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        seen: set[int] = set()
        for index in self._anchors:
            x = round(self.x_of(int(index)))
            if x in seen:
                continue
            seen.add(x)
            if self._record.checked[index]:
                painter.drawRect(QRectF(x - 3, 2, 6, 6))
            else:
                corners = [
                    QPointF(x - _TICK / 2, 1),
                    QPointF(x + _TICK / 2, 1),
                    QPointF(x, _TICKS - 2),
                ]
                painter.drawPolygon(QPolygonF(corners))
        for index in self._record.ended:
            # a bar, which an anchor's tick does not hide
            painter.drawRect(QRectF(round(self.x_of(index)) - 1, 0, 2, _TICKS))
        painter.setBrush(Qt.BrushStyle.NoBrush)

    # ---- Hands ----

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to a slice, or change its anchor with Shift, its check mark with Ctrl."""
        if event.button() != Qt.MouseButton.LeftButton or not self._record.length:
            return
        index = self.index_near(event.position().x())
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.anchor_toggled.emit(index)
        elif event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.checked_toggled.emit(index)
        else:
            self.jumped.emit(index)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say what is under the mouse; with the button held, go along."""
        if not self._record.length:
            return
        index = self.index_at(event.position().x())
        plain = event.modifiers() == Qt.KeyboardModifier.NoModifier
        if event.buttons() & Qt.MouseButton.LeftButton and plain and index != self._current:
            self.jumped.emit(index)

    def event(self, event: QEvent) -> bool:
        """Answer the request for a tool tip with the slice under the mouse."""
        if event.type() == QEvent.Type.ToolTip and self._record.length:
            words = self.describe(self.index_near(event.pos().x()))
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move with the arrow keys, Home and End."""
        last = self._record.length - 1
        where = {
            Qt.Key.Key_Left: self._current - 1,
            Qt.Key.Key_Right: self._current + 1,
            Qt.Key.Key_Home: 0,
            Qt.Key.Key_End: last,
        }.get(event.key())
        if where is None or last < 0 or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            super().keyPressEvent(event)
            return
        self.jumped.emit(int(np.clip(where, 0, last)))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Offer what can be done with a slice."""
        if self._record.length:
            self.menu(self.index_near(event.pos().x())).popup(event.globalPos())

    def menu(self, index: int) -> QMenu:
        """Return what can be done with a slice."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.setToolTipsVisible(True)
        title = menu.addAction(self.describe(index))
        title.setEnabled(False)
        menu.addSeparator()
        menu.addAction("Go to this slice", lambda: self.jumped.emit(index))
        is_anchor = index in self._anchors
        anchor = menu.addAction(
            "Drop anchor" if is_anchor else "Set anchor", lambda: self.anchor_toggled.emit(index)
        )
        anchor.setToolTip("Whether the slice serves as a prompt; what is painted stays.")
        check = menu.addAction("Checked", lambda: self.checked_toggled.emit(index))
        check.setCheckable(True)
        check.setChecked(bool(self._record.checked[index]))
        check.setToolTip("The slice is right: it is locked and serves as an anchor.")
        end = menu.addAction("Selected label ends here", lambda: self.ended.emit(index))
        end.setToolTip("It is not on this slice, nor beyond it; again: let it go on.")
        back = menu.addAction("Give back to iMOS", lambda: self.released.emit(index))
        back.setToolTip("The next run may redo this slice, also what you painted on it.")
        back.setEnabled(self._record.kind[index] not in (Kind.EMPTY, Kind.PREDICTED))
        return menu
