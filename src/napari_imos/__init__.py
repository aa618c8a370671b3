"""napari plugin: paint one slice, watch the labels grow through all the others."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_imos.api import propagate, start_propagation

__all__ = ["__version__", "propagate", "start_propagation"]


def __getattr__(name: str) -> Any:
    # on first use, so that discovering the plugin costs nothing
    if name in ("propagate", "start_propagation"):
        return getattr(import_module("napari_imos.api"), name)
    if name == "__version__":
        return import_module("imos_core").__version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
