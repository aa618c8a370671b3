"""Pace: how often a layer is redrawn while a run writes it."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARE = 4.0  # times what it takes to draw pass until the next time: 3-D views need a second
_DRAWN = 20  # milliseconds after which the window has begun to draw


class Pace:
    """Redraws now and then, and leaves most of the main thread's time to the person.

    Parameters
    ----------
    fastest : float
        Seconds between two times at least.
    """

    def __init__(self, fastest: float) -> None:
        self._fastest, self._next, self._began = fastest, 0.0, 0.0

    def redraw(self, refresh: Callable[[], None]) -> bool:
        """Redraw if it is time to; return whether it was.

        Parameters
        ----------
        refresh : callable
            What tells the window that there is something to draw, which it does later on.
        """
        if (now := time.monotonic()) < self._next:
            return False
        self._began, self._next = now, math.inf
        refresh()
        qt = sys.modules.get("qtpy.QtWidgets")
        if qt is None or qt.QApplication.instance() is None:
            self._rest()
        else:
            from qtpy.QtCore import QTimer

            QTimer.singleShot(_DRAWN, lambda: QTimer.singleShot(0, self._rest))
        return True

    def _rest(self) -> None:
        """Let the window have a rest: all is drawn."""
        now = time.monotonic()
        self._next = now + max(self._fastest, _SHARE * (now - self._began))
