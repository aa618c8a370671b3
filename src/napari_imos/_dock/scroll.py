"""Scroll area: what a dock holds, all in view where there is room, and scrolled where not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFrame, QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible

if TYPE_CHECKING:
    from magicgui.widgets import Container

_TURNED = (QComboBox, QAbstractSpinBox)  # what a wheel changes
_LAID_OUT = 200  # milliseconds after which what was unfolded has its place


class DockScroll(QScrollArea):
    """Scrolls up and down only: it is never narrower than what it holds.

    Parameters
    ----------
    held : QWidget
        What is shown; it is finished, apart from words and what is hidden.
    """

    def __init__(self, held: QWidget) -> None:
        super().__init__()
        self._narrowest = 0
        self._unfolded: QCollapsible | None = None
        self._after = QTimer(self)
        self._after.setSingleShot(True)
        self._after.timeout.connect(self._forget)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidgetResizable(True)
        # Tab stops at what is held, not at the area around it
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWidget(held)
        self.verticalScrollBar().rangeChanged.connect(self._reveal)
        for fold in held.findChildren(QCollapsible):
            fold.toggled.connect(self._on_fold)
        for kind in _TURNED:
            for box in held.findChildren(kind):
                # the wheel would give it the focus, and then change it
                box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                box.installEventFilter(self)

    @property
    def scrolls(self) -> bool:
        """Whether there is more than fits."""
        return bool(self.verticalScrollBar().maximum() > 0)

    def sizeHint(self) -> QSize:
        """Return the size at which nothing scrolls."""
        frame = 2 * self.frameWidth()
        return self.widget().sizeHint() + QSize(frame, frame)

    def minimumSizeHint(self) -> QSize:
        """Return a size that is wide enough, but leaves the height to the window."""
        # with the bar, or else the dock would jump when it comes; napari's style pads the area
        more = self.verticalScrollBar().sizeHint().width() + 2 * self.frameWidth()
        width = self.widget().minimumSizeHint().width() + more
        return QSize(width, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow what is held, and let the wheel scroll rather than change what is under it."""
        if event is not None and event.type() == QEvent.Type.Wheel:
            if isinstance(watched, _TURNED) and self.scrolls and not watched.hasFocus():
                event.ignore()
                return True
        elif event is not None and event.type() == QEvent.Type.LayoutRequest:
            self._follow()
        return bool(super().eventFilter(watched, event))

    def _follow(self) -> None:
        """Tell the dock when the narrowest width has changed, which Qt's areas do not."""
        before, self._narrowest = self._narrowest, self.minimumSizeHint().width()
        if before != self._narrowest:
            self.updateGeometry()

    def _on_fold(self, opened: bool) -> None:
        fold = self.sender()
        if opened and isinstance(fold, QCollapsible):
            # laid out by and by, which changes the range
            self._unfolded = fold
            self._after.start(_LAID_OUT)

    def _reveal(self, low: int, high: int) -> None:
        """Bring what was unfolded into view; its title at least, where it is higher than that."""
        if self._unfolded is not None:
            self.ensureWidgetVisible(self._unfolded.content(), 0, 0)
            self.ensureWidgetVisible(self._unfolded.toggleButton(), 0, 0)

    def _forget(self) -> None:
        self._unfolded = None


def let_scroll(container: Container) -> DockScroll:
    """Put all that a container holds into a scroll area of its own.

    magicgui's ``scrollable`` would put the area around the container's native widget, and napari
    docks the native widget, without the area.
    """
    native, held = container.native, QWidget()
    # Qt moves a layout with all that is in it
    held.setLayout(native.layout())
    area = DockScroll(held)
    around = QVBoxLayout(native)
    around.setContentsMargins(0, 0, 0, 0)
    around.addWidget(area)
    return area
