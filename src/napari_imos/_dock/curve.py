"""Curve: the loss while an adapter learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from qtpy.QtGui import QPaintEvent

_HEIGHT = 64
_SMOOTH = 0.1  # weight of a new loss in the running mean


class LossCurve(QWidget):
    """Loss of every step, faint, and its running mean over the time that there is."""

    def __init__(self) -> None:
        super().__init__()
        self._times: npt.NDArray[np.float64] = np.zeros(0)
        self._losses: npt.NDArray[np.float64] = np.zeros(0)
        self._seconds = 1.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Loss while the adapter learns")
        self.setToolTip("Loss while the adapter learns: lower is better.")

    def show_losses(self, times: Sequence[float], losses: Sequence[float], seconds: float) -> None:
        """Show what was learned so far.

        Parameters
        ----------
        times : sequence of float
            Seconds since the start, ascending.
        losses : sequence of float
            Loss at each.
        seconds : float
            Time that there is.
        """
        self._times, self._losses = np.asarray(times, float), np.asarray(losses, float)
        self._seconds = max(seconds, 1e-6)
        self.update()

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Running mean of the losses."""
        result = np.empty(len(self._losses))
        for i, loss in enumerate(self._losses):
            result[i] = loss if i == 0 else result[i - 1] + _SMOOTH * (loss - result[i - 1])
        return result

    def sizeHint(self) -> QSize:
        """Return the size that Qt lays out with."""
        return QSize(200, _HEIGHT)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint the frame and both lines."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        words = self.palette().color(QPalette.ColorRole.WindowText)
        faint = QColor(words)
        faint.setAlpha(90)
        frame = QRectF(4, 2, max(self.width() - 8, 1), _HEIGHT - 6)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(frame)
        if len(self._losses) > 1:
            top = float(np.percentile(self._losses, 98)) or 1.0
            for values, colour, width in ((self._losses, faint, 1.0), (self.mean, words, 2.0)):
                painter.setPen(QPen(colour, width))
                painter.drawPolyline(self._line(values, top, frame))
        painter.end()

    def _line(self, values: npt.NDArray[np.float64], top: float, frame: QRectF) -> QPolygonF:
        x = frame.left() + self._times.clip(0, self._seconds) / self._seconds * frame.width()
        y = frame.bottom() - (values / top).clip(0, 1) * frame.height()
        return QPolygonF([QPointF(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)])
