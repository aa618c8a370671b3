"""Sample volumes with truth, to try the engine on without any data of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from imos_core.errors import FileError
from imos_core.synthetic import synthetic_volume

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Sample", "load_sample", "sample_names"]

_MIN_AREA = 30  # pixels; a sliver in the prompt slice is not an object that anybody would paint


@dataclass(frozen=True)
class Sample:
    """A volume, its truth and the slice to paint."""

    image: npt.NDArray[np.uint8]
    """`(T, H, W)` intensities."""
    labels: npt.NDArray[np.uint16]
    """`(T, H, W)` truth of the objects that the prompt slice shows; 0 is background."""
    spacing: tuple[float, float, float]
    """Distance of neighbouring slices, rows and columns, millimetres or micrometres."""
    name: str
    """Name for `load_sample`."""
    description: str
    """One sentence for people."""
    prompt_slice: int
    """Index along the first axis of the slice that serves as the prompt."""


@dataclass(frozen=True)
class _Synthetic:
    kind: str
    seed: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    description: str


_BRAIN = (
    "Brain MRI (MNI152 template, coronal, 2 mm slices): both lateral ventricles, cerebellum and "
    "brain stem."
)

_SYNTHETIC = {
    "cells": _Synthetic(
        "cells", 208, (40, 160, 160), (0.5, 0.2, 0.2), "Synthetic membrane-stained tissue: cells."
    ),
    "vessels": _Synthetic(
        "tubes", 206, (40, 160, 160), (1.0, 1.0, 1.0), "Synthetic vessels that wander and branch."
    ),
    "ultrasound": _Synthetic(
        "speckle", 205, (40, 160, 160), (0.5, 0.3, 0.3), "Synthetic ultrasound: three bodies."
    ),
}


def sample_names() -> tuple[str, ...]:
    """Names of the samples, the default first."""
    return ("brain", *_SYNTHETIC)


def load_sample(name: str | None = None) -> Sample:
    """Load or make a sample; nothing is downloaded.

    Parameters
    ----------
    name : str, optional
        One of `sample_names`; by default the first, a real MRI volume.

    Returns
    -------
    Sample

    Raises
    ------
    FileError
        If there is no sample of this name.
    """
    if name is None or name == "brain":
        return _brain()
    if name not in _SYNTHETIC:
        raise FileError(f"There is no sample {name!r}: choose one of {', '.join(sample_names())}.")
    recipe = _SYNTHETIC[name]
    image, labels = synthetic_volume(recipe.kind, recipe.shape, recipe.seed)
    return _sample(image, labels, recipe.spacing, name, recipe.description, len(image) // 2)


def _brain() -> Sample:
    """Read the embedded volume, which scripts/make_samples.py wrote."""
    file = files("imos_core").joinpath("_samples", "brain.npz")
    with file.open("rb") as stream, np.load(stream) as arrays:
        image, labels, spacing = (arrays[key] for key in ("image", "labels", "spacing"))
    depth, height, width = spacing.tolist()
    return _sample(image, labels, (depth, height, width), "brain", _BRAIN, prompt_slice=30)


def _sample(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    spacing: tuple[float, float, float],
    name: str,
    description: str,
    prompt_slice: int,
) -> Sample:
    """Keep the objects that can be painted in the prompt slice, numbered from 1."""
    area = np.bincount(labels[prompt_slice].ravel(), minlength=int(labels.max()) + 1)
    keep = area >= _MIN_AREA
    keep[0] = False
    table = np.where(keep, np.cumsum(keep), 0).astype(np.uint16)
    return Sample(image, table[labels], spacing, name, description, prompt_slice)
