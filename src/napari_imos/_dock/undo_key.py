"""UndoKey: Ctrl+Z while a run writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_imos._record.ledger import Ledger

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
        self._labels, self._stop = labels, stop
        labels.bind_key(_KEY, self._on_pressed, overwrite=True)

    def release(self) -> None:
        """Give the key back to the layer."""
        self._labels.bind_key(_KEY, None, overwrite=True)

    def _on_pressed(self, layer: Labels) -> None:
        ledger = Ledger.of(layer)
        # nobody may be left to give the key back: then it does what it always does
        if ledger.painted_over or not ledger.busy:
            layer.undo()
            return
        self.pressed = True
        self._stop()
