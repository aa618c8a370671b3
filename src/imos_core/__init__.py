"""iMOS engine: one painted slice in, every slice out; it knows neither napari nor Qt."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imos_core import errors, metrics
    from imos_core.adaptation.tune import Adaptation, adapt
    from imos_core.config import MemoryConfig, ModelConfig
    from imos_core.errors import (
        DeviceError,
        FileError,
        FileWarning,
        ImageError,
        ImosError,
        OutOfMemoryWarning,
        PromptError,
        PromptWarning,
        PropagationError,
        WeightsError,
    )
    from imos_core.model import IMOS
    from imos_core.propagation import SegmentedSlice, propagate
    from imos_core.propagator import Propagator
    from imos_core.weights import load_model

__all__ = [
    "IMOS",
    "Adaptation",
    "DeviceError",
    "FileError",
    "FileWarning",
    "ImageError",
    "ImosError",
    "MemoryConfig",
    "ModelConfig",
    "OutOfMemoryWarning",
    "PromptError",
    "PromptWarning",
    "PropagationError",
    "Propagator",
    "SegmentedSlice",
    "WeightsError",
    "__version__",
    "adapt",
    "errors",
    "load_model",
    "metrics",
    "propagate",
]

# Names are imported on first use, so that opening a menu or asking for help never loads torch.
_HOMES = {
    "Adaptation": "imos_core.adaptation.tune",
    "DeviceError": "imos_core.errors",
    "FileError": "imos_core.errors",
    "FileWarning": "imos_core.errors",
    "IMOS": "imos_core.model",
    "ImageError": "imos_core.errors",
    "ImosError": "imos_core.errors",
    "MemoryConfig": "imos_core.config",
    "ModelConfig": "imos_core.config",
    "OutOfMemoryWarning": "imos_core.errors",
    "PromptError": "imos_core.errors",
    "PromptWarning": "imos_core.errors",
    "PropagationError": "imos_core.errors",
    "Propagator": "imos_core.propagator",
    "SegmentedSlice": "imos_core.propagation",
    "WeightsError": "imos_core.errors",
    "adapt": "imos_core.adaptation.tune",
    "load_model": "imos_core.weights",
    "propagate": "imos_core.propagation",
}


def __getattr__(name: str) -> Any:
    if name in ("errors", "metrics"):
        return import_module(f"imos_core.{name}")
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("napari-imos")
        except PackageNotFoundError:  # run from a source folder
            return "0+unknown"
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
