"""Keys: shortcuts of the labelling loop, bound to the viewer while the widget is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QComboBox, QLineEdit

from napari_imos._weak import weakly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

KEYS = {
    "propagate": "Shift-P",
    "stop": "Shift-S",
    "next_to_check": "Shift-N",
    "checked": "Shift-C",
    "anchor": "Shift-A",
    "end": "Shift-E",
    "previous_anchor": "Shift-Left",
    "next_anchor": "Shift-Right",
}
"""Action -> key; napari gives the active layer's own keys the right of way."""
_LETTERS = {ord(key[-1]) for key in KEYS.values() if len(key) == len("Shift-P")}


def written(action: str) -> str:
    """Key of an action as people write it."""
    return KEYS[action].replace("-", "+")


class _LetThrough(QObject):
    """Passes our letters on to the window, which boxes that hold the focus would take."""

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Qt: whether an event ends here."""
        if event.type() != QEvent.Type.KeyPress:
            return False
        ours = event.modifiers() == Qt.KeyboardModifier.ShiftModifier and event.key() in _LETTERS
        return ours and QApplication.sendEvent(watched.window(), event)


def let_keys_through(widget: QWidget) -> None:
    """Let the keys act, whichever box of a widget has the focus.

    Lines of text keep what is typed until it is entered.
    """
    through = _LetThrough(widget)
    for box in (*widget.findChildren(QComboBox), *widget.findChildren(QAbstractSpinBox)):
        box.installEventFilter(through)
    for line in widget.findChildren(QLineEdit):
        if not isinstance(line.parent(), QAbstractSpinBox):
            line.returnPressed.connect(line.clearFocus)


class Keys:
    """Bindings of a viewer, to be taken back.

    Parameters
    ----------
    viewer : Viewer
        Its keys.
    actions : mapping of str to bound method
        Name in `KEYS` -> what to do.
    """

    def __init__(self, viewer: Viewer, actions: Mapping[str, Callable[[], object]]) -> None:
        self._viewer = viewer
        self._before: dict[str, Any] = {}
        self._bound: dict[str, Any] = {}
        for name, method in actions.items():
            key = KEYS[name]
            self._bound[key] = pressed = weakly(method)
            self._before[key] = viewer.bind_key(key, pressed, overwrite=True)

    def release(self) -> None:
        """Give the keys back to whoever had them."""
        for key, before in self._before.items():
            mine = self._viewer.bind_key(key, before, overwrite=True)
            if mine is not self._bound[key] and mine is not None:
                # another widget has bound it since: it stays there
                self._viewer.bind_key(key, mine, overwrite=True)
        self._before.clear()
