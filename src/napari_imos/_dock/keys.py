"""Keys: shortcuts of the labelling loop, bound to the viewer while the widget is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QLineEdit

from napari_imos._weak import weakly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from magicgui.widgets import PushButton
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
_ARROWS = (Qt.Key.Key_Left, Qt.Key.Key_Right)
_LETTERS = {ord(key[-1]) for key in KEYS.values() if len(key) == len("Shift-P")}


def written(action: str) -> str:
    """Key of an action as people write it."""
    return KEYS[action].replace("-", "+")


class _LetThrough(QObject):
    """Passes keys of the viewer on to it, which whatever holds the focus would take."""

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Qt: whether an event ends here."""
        if event.type() != QEvent.Type.KeyPress or not _is_for_viewer(watched, event):
            return False
        window = watched.window()
        while window.parentWidget() is not None:  # a dock that floats is a window
            window = window.parentWidget().window()
        return QApplication.sendEvent(window, event)


def _is_for_viewer(holder: QWidget, event: Any) -> bool:
    """Whether a key is one of the viewer, and no use to who holds the focus."""
    inside = isinstance(holder, QAbstractSpinBox | QComboBox)
    text = holder.findChild(QLineEdit) if inside else holder
    text = text if isinstance(text, QLineEdit) else None
    # macOS calls arrows a part of the keypad
    modifiers, key = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier, event.key()
    shift, control = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
    if modifiers == shift and key in _LETTERS:
        return text is not holder
    if modifiers == shift and key in _ARROWS:
        return text is None
    if key == Qt.Key.Key_Z and modifiers == control:
        return text is None or not text.isUndoAvailable()
    if key == Qt.Key.Key_Z and modifiers == control | shift:
        return text is None or not text.isRedoAvailable()
    return False


def let_keys_through(widget: QWidget) -> None:
    """Let the keys act, whichever part of a widget has the focus.

    Lines of text keep what is typed until it is entered, and what edits it.
    """
    through = _LetThrough(widget)
    for kind in (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit):
        for part in widget.findChildren(kind):
            part.installEventFilter(through)
    for line in widget.findChildren(QLineEdit):
        if not isinstance(line.parent(), QAbstractSpinBox):
            line.returnPressed.connect(line.clearFocus)


def switch(button: PushButton, on: bool) -> None:
    """Enable a button or not; its focus goes to the viewer, not to the button beside it."""
    if not on and button.native.hasFocus():
        button.native.clearFocus()
    button.enabled = on


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
