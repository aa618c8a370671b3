"""UndoKey: Ctrl+Z where napari alone would do too little: while a run writes, in hidden layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_imos._record.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels

_KEY, _REDO_KEY = "Control-Z", "Control-Shift-Z"


class UndoKey:
    """Holds a layer's undo key while a run is writing, which is not in its history yet.

    What is painted meanwhile is in the history, and goes first.

    Parameters
    ----------
    labels : Labels
        Layer that is written.
    stop : callable
        Stops the run.
    """

    def __init__(self, labels: Labels, stop: Callable[[], object]) -> None:
        self.pressed = False
        """Whether the run is to be taken back."""
        self._labels, self._stop, self._strokes = labels, stop, 0
        labels.bind_key(_KEY, self._on_pressed, overwrite=True)
        labels.events.paint.connect(self._on_painted)

    def release(self) -> None:
        """Give the key back to the layer."""
        self._labels.bind_key(_KEY, None, overwrite=True)
        self._labels.events.paint.disconnect(self._on_painted)

    def _on_pressed(self, layer: Labels) -> None:
        # nobody may be left to give the key back: then it does what it always does
        if self._strokes or not Ledger.of(layer).busy:
            self._strokes = max(self._strokes - 1, 0)
            layer.undo()
            return
        self.pressed = True
        self._stop()

    def _on_painted(self, event: object = None) -> None:
        if not Ledger.of(self._labels).committing:
            self._strokes += 1


class HiddenUndoKeys:
    """Tells of Ctrl+Z and Ctrl+Shift+Z in a hidden layer, which napari does not draw again.

    Parameters
    ----------
    labels : Labels
        Layer that is hidden.
    told : callable
        Told after each.
    """

    def __init__(self, labels: Labels, told: Callable[[], object]) -> None:
        self._labels, self._told = labels, told
        labels.bind_key(_KEY, self._on_undo, overwrite=True)
        labels.bind_key(_REDO_KEY, self._on_redo, overwrite=True)

    def release(self) -> None:
        """Give the keys back to the layer."""
        for key in (_KEY, _REDO_KEY):
            self._labels.bind_key(key, None, overwrite=True)

    def _on_undo(self, layer: Labels) -> None:
        layer.undo()
        self._told()

    def _on_redo(self, layer: Labels) -> None:
        layer.redo()
        self._told()
