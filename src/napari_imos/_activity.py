"""Activity: bars with the time left in napari's activity dock, or on the terminal without one."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

_EVERY = 0.3  # seconds


class ActivityBar:
    """Progress that is told seldom.

    napari handles all waiting events whenever a bar moves: told of every slice, the window would
    take in slices within slices and not come to paint itself.

    Parameters
    ----------
    total : int
        What there is to do.
    desc : str
        Word before the bar.
    """

    def __init__(self, total: int, desc: str) -> None:
        from napari.utils import progress

        self._bar: Any = progress(total=total, desc=desc)
        self._done = self._told = 0
        self._next = 0.0
        self._moving = False

    def reach(self, done: int) -> None:
        """Say how much is done."""
        self._done = done
        early = self._moving or time.monotonic() < self._next
        if self._bar is None or early or done <= self._told:
            return
        step, self._told = done - self._told, done
        self._moving = True  # the bar may call us again while it moves
        try:
            self._bar.update(step)
        finally:
            self._moving, self._next = False, time.monotonic() + _EVERY

    def close(self) -> None:
        """Take the bar away."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


def bar(
    slices: Iterable[Any], total: int | None, *, shown: bool
) -> AbstractContextManager[Iterable[Any]]:
    """Return the slices under a bar in the window, or in the terminal; alone if none is wanted."""
    if not shown:
        return nullcontext(slices)
    from napari.utils import progress

    return progress(slices, desc="iMOS", total=total)
