"""TakenOut: tells when the dock that a widget is in is closed for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject

from napari_imos._weak import weakly

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget


class TakenOut(QObject):
    """Watches a widget for being taken out of its dock, as napari does when that is closed.

    A dock that is hidden, floats, is moved or becomes a tab keeps what it holds. What was taken
    out may live on, or be docked again.

    Parameters
    ----------
    widget : QWidget
        Widget, which owns this.
    act : bound method
        What to do then.
    """

    def __init__(self, widget: QWidget, act: Callable[[], object]) -> None:
        super().__init__(widget)
        self._widget = widget
        self._act = weakly(act)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Look whether there is still something around it."""
        changed = event is not None and event.type() == QEvent.Type.ParentChange
        if changed and self._widget.parentWidget() is None:
            self._act()
        return bool(super().eventFilter(watched, event))
