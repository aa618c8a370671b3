"""Samples under File > Open Sample: an image, and a Labels layer painted on one slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    LayerData = tuple[Any, dict[str, Any], str]


def brain() -> list[LayerData]:
    """Brain MRI with four structures."""
    return _layers("brain", "mm")


def cells() -> list[LayerData]:
    """Synthetic tissue with many cells."""
    return _layers("cells", "um")


def vessels() -> list[LayerData]:
    """Synthetic vessels."""
    return _layers("vessels", "mm")


def ultrasound() -> list[LayerData]:
    """Synthetic ultrasound."""
    return _layers("ultrasound", "mm")


def _layers(name: str, unit: str) -> list[LayerData]:
    from imos_core.samples import load_sample

    sample = load_sample(name)
    prompt = np.zeros_like(sample.labels)
    prompt[sample.prompt_slice] = sample.labels[sample.prompt_slice]
    geometry = {
        "scale": sample.spacing,
        "units": (unit,) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    about = {"description": sample.description}
    return [
        (sample.image, {"name": name, "metadata": about, **geometry}, "image"),
        (prompt, {"name": f"{name} labels", **geometry}, "labels"),
    ]
