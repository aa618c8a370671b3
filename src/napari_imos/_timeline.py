"""Timeline: a strip with one column per slice that says what each slice is, to click on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QMenu, QSizePolicy, QToolTip, QWidget

from napari_imos._record.provenance import SOURCES, Kind, Provenance
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
    or drops an anchor, Ctrl+click marks a slice as checked; arrow keys move. Ctrl+Shift+click
    chooses all slices from the shown one on, for which the menu offers what suits several; a plain
    click lets go of them.
    """

    jumped = Signal(int)
    """A person wants to see a slice."""
    anchor_toggled = Signal(int)
    """A person sets an anchor, or drops one."""
    checked_toggled = Signal(object)
    """A person says that all of some slices, a range, are right, or takes that back."""
    released = Signal(object)
    """A person gives some slices, a range, back: the next run may redo them."""
    ended = Signal(int)
    """A person says that the selected object has ended before a slice."""

    def __init__(self) -> None:
        super().__init__()
        self._record = Provenance(0)
        self._anchors: npt.NDArray[np.intp] = np.zeros(0, np.intp)
        self._current = -1
        self._chosen = range(0)
        self._image: QImage | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Timeline of the slices")
        self.setToolTip(
            "One column per slice: bright is sure, dark is unsure; ticks are anchors. Click to go "
            "there, Shift+click to set or drop an anchor, Ctrl+click to mark as checked, "
            "Ctrl+Shift+click to choose all slices from the shown one on; right-click for more."
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
        if record.length != self._record.length:
            self._chosen = range(0)
        self._record = record
        self._anchors = np.asarray(anchors, np.intp)
        self._image = None
        self.update()

    def show_current(self, index: int) -> None:
        """Move the line."""
        if index != self._current:
            self._current = index
            self.update()

    def choose(self, slices: range) -> None:
        """Choose slices, for which the menu offers what suits several; an empty range: none."""
        if slices != self._chosen:
            self._chosen = slices
            self.update()

    @property
    def chosen(self) -> range:
        """Slices that are chosen."""
        return self._chosen

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
        if self._chosen:
            self._paint_chosen(painter)
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

    def _paint_chosen(self, painter: QPainter) -> None:
        """Paint a frame around the slices that are chosen."""
        half = self._span / max(self._record.length, 1) / 2
        left, right = self.x_of(self._chosen[0]) - half, self.x_of(self._chosen[-1]) + half
        # white in black, like the slice that is shown: no confidence hides it
        for colour, width in ((Qt.GlobalColor.black, 5), (Qt.GlobalColor.white, 2)):
            painter.setPen(QPen(colour, width))
            painter.drawRect(QRectF(left, _TICKS + 1, right - left, _HEIGHT - _TICKS - 5))

    # ---- Hands ----

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to a slice, or change its anchor (Shift), its check mark (Ctrl), or choose (both)."""
        if event.button() != Qt.MouseButton.LeftButton or not self._record.length:
            return
        index = self.index_near(event.position().x())
        shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        if shift and control:
            self.choose(self._up_to(self.index_at(event.position().x())))
        elif shift:
            self.anchor_toggled.emit(index)
        elif control:
            self.checked_toggled.emit(range(index, index + 1))
        else:
            self.choose(range(0))
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

    def _up_to(self, index: int) -> range:
        """All slices from the shown one to another one."""
        ends = sorted((max(self._current, 0), index))
        return range(ends[0], ends[1] + 1)

    def menu(self, index: int) -> QMenu:
        """Return what can be done with a slice, or with all that are chosen, if it is one."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.setToolTipsVisible(True)
        if index in self._chosen:
            self._offer_for_chosen(menu)
        else:
            self._offer(menu, index)
        return menu

    def _offer_for_chosen(self, menu: QMenu) -> None:
        """Put into a menu what can be done with the slices that are chosen."""
        chosen, kinds = self._chosen, self._record.kind[self._chosen.start : self._chosen.stop]
        title = menu.addAction(f"Slices {numbers(chosen)}")
        title.setEnabled(False)
        menu.addSeparator()
        check = menu.addAction("Checked", lambda: self.checked_toggled.emit(chosen))
        check.setCheckable(True)
        check.setChecked(bool(self._record.checked[chosen.start : chosen.stop].all()))
        check.setToolTip("All of them are right: they are locked and serve as anchors.")
        back = menu.addAction("Give back to iMOS", lambda: self.released.emit(chosen))
        back.setToolTip("The next run may redo all of them, also what you painted there.")
        back.setEnabled(not np.isin(kinds, (Kind.EMPTY, Kind.PREDICTED)).all())
        menu.addSeparator()
        menu.addAction("Choose none", lambda: self.choose(range(0)))

    def _offer(self, menu: QMenu, index: int) -> None:
        """Put into a menu what can be done with one slice."""
        alone = range(index, index + 1)
        title = menu.addAction(self.describe(index))
        title.setEnabled(False)
        menu.addSeparator()
        menu.addAction("Go to this slice", lambda: self.jumped.emit(index))
        is_anchor = index in self._anchors
        anchor = menu.addAction(
            "Drop anchor" if is_anchor else "Set anchor", lambda: self.anchor_toggled.emit(index)
        )
        anchor.setToolTip("Whether the slice serves as a prompt; what is painted stays.")
        check = menu.addAction("Checked", lambda: self.checked_toggled.emit(alone))
        check.setCheckable(True)
        check.setChecked(bool(self._record.checked[index]))
        check.setToolTip("The slice is right: it is locked and serves as an anchor.")
        end = menu.addAction("Selected label ends here", lambda: self.ended.emit(index))
        end.setToolTip("It is not on this slice, nor beyond it; again: let it go on.")
        back = menu.addAction("Give back to iMOS", lambda: self.released.emit(alone))
        back.setToolTip("The next run may redo this slice, also what you painted on it.")
        back.setEnabled(self._record.kind[index] not in (Kind.EMPTY, Kind.PREDICTED))
        if index != self._current:
            several = self._up_to(index)
            menu.addSeparator()
            choose = menu.addAction(
                f"Choose slices {numbers(several)}", lambda: self.choose(several)
            )
            choose.setToolTip(
                "From the shown slice to this one (Ctrl+Shift+click): the menu is then for all."
            )
