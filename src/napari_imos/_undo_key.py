"""UndoKey: Ctrl+Z while a run is writing takes the run back, not what was painted before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_imos._ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels

_KEY = "Control-Z"


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
