"""Peak memory of a piece of work: the process, and the GPU if there is one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import psutil
import torch

if TYPE_CHECKING:
    from types import TracebackType

_PERIOD = 0.01  # seconds


class PeakMemory:
    """Watches the memory of this process while a ``with`` block runs.

    A thread looks a hundred times a second, so what lives shorter than that may be missed.
    """

    def __init__(self) -> None:
        self.process = 0
        """Largest resident set of the process in bytes, Python, libraries and data included."""
        self.gpu = 0
        """Most bytes that PyTorch held on the GPU; 0 without one."""
        self._done = threading.Event()
        self._own = psutil.Process()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self._look()
        if torch.cuda.is_available():
            self.gpu = int(torch.cuda.max_memory_allocated())

    def _look(self) -> None:
        self.process = max(self.process, self._own.memory_info().rss)

    def _watch(self) -> None:
        while not self._done.wait(_PERIOD):
            self._look()
