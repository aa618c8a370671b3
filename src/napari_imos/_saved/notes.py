"""Notes: the record of a layer's slices in its metadata, as plain values, brought up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_imos._record.ledger import Ledger
from napari_imos._saved.session import METADATA, describe
from napari_imos._weak import weakly

if TYPE_CHECKING:
    from napari.layers import Labels
    from qtpy.QtCore import QObject

_PAUSE = 0.3  # seconds without a change after which it is noted ...
_SHARE = 20.0  # ... and this many times what it takes: with many time points that is a while


class Notes:
    """Brings a layer's metadata up to date when its slices were looked at and nothing moves.

    Parameters
    ----------
    parent : QObject
        With which it ends.
    """

    def __init__(self, parent: QObject) -> None:
        self._changed: Labels | None = None
        self._takes = 0.0
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(weakly(self._write_changed))

    def changed(self, labels: Labels) -> None:
        """Take up that labels have changed."""
        self._timer.stop()
        if self._changed is not None and self._changed != labels:
            self._write_changed()
        self._changed = labels

    def looked(self) -> None:
        """Take up that all slices were looked at."""
        if self._changed is not None:
            self._timer.start(round(1000 * max(_PAUSE, _SHARE * self._takes)))

    def write(self, labels: Labels) -> None:
        """Put what is known of a layer into its metadata."""
        if self._changed == labels:
            self.stop()
        began = time.perf_counter()
        labels.metadata[METADATA] = describe(labels)
        self._takes = time.perf_counter() - began

    def stop(self) -> None:
        """Note nothing more by itself."""
        self._changed = None
        self._timer.stop()

    def _write_changed(self) -> None:
        # a run notes it when it ends
        if self._changed is not None and not Ledger.of(self._changed).busy:
            self.write(self._changed)
