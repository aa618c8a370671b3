"""Warm-up: the engine is imported while the person still looks at the widget."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from importlib import import_module
from threading import Thread

from imos_core.errors import ImosError

_ENGINE = "imos_core.propagation"


def warm_up() -> Thread | None:
    """Import the engine and load its model in a thread, once.

    It takes seconds, which nobody waits for this way.

    Returns
    -------
    Thread or None
        None if the engine is there already.
    """
    if _ENGINE in sys.modules:
        return None
    thread = Thread(target=_import, name="imos warm-up")
    thread.start()
    return thread


def _import() -> None:
    import_module(_ENGINE)
    from imos_core.weights import load_shared

    # the first time, this brings in as much again; whatever is wrong is said when it is needed
    with suppress(ImosError):
        load_shared("imos-compact", device="cpu")
    # so many new objects are due for a full collection, a fifth of a second in which nothing
    # moves: better now than in the middle of the first run
    gc.collect()
