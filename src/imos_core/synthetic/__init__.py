"""Synthetic volumes with exact truth, for training, tests and samples.

Everything is cheap by construction: smooth fields are coarse noise spread with spline matrices,
objects are drawn only inside their bounding boxes, and a tessellation is searched on a coarse grid
and decided on the fine one among the few nearest seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imos_core.errors import ImageError
from imos_core.synthetic.acquisition import acquire, as_bytes, to_uint8
from imos_core.synthetic.cells import cells, nuclei
from imos_core.synthetic.instruments import instruments
from imos_core.synthetic.lesions import lesions
from imos_core.synthetic.membranes import membranes
from imos_core.synthetic.organs import organs
from imos_core.synthetic.speckle import speckle
from imos_core.synthetic.tubes import tubes

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from imos_core.synthetic.fields import Field, Labels, Shape

__all__ = ["KINDS", "synthetic_volume"]

# the place of a kind is part of its seed: new ones go to the end
KINDS = ("organs", "cells", "nuclei", "tubes", "speckle", "membranes", "lesions", "instruments")
"""Kinds of volume that `synthetic_volume` knows."""

_MIN_VOXELS = 12  # smaller crumbs are not objects that anybody would paint

_MAKERS: dict[str, Callable[[np.random.Generator, Shape], tuple[Field, Labels]]] = {
    "organs": organs,
    "cells": cells,
    "nuclei": nuclei,
    "tubes": tubes,
    "speckle": speckle,
    "membranes": membranes,
    "lesions": lesions,
    "instruments": instruments,
}
_FINISH: dict[str, Callable[[np.random.Generator, Field], npt.NDArray[np.uint8]]] = {
    "speckle": to_uint8,
    "organs": as_bytes,
    "lesions": as_bytes,
    "instruments": as_bytes,
}


def synthetic_volume(
    kind: str, shape: tuple[int, int, int] = (32, 160, 160), seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Make one volume and its truth.

    Objects appear, end and change shape from slice to slice; sizes, contrast, noise, drift and blur
    differ from seed to seed.

    Parameters
    ----------
    kind : str
        One of `KINDS`: "organs" (CT and MRI of a trunk), "cells" (a tessellation with a membrane
        stain), "nuclei" (bright touching ellipsoids), "tubes" (wandering, branching, ending tubes),
        "speckle" (ultrasound), "membranes" (electron microscopy of neurites or mitochondria),
        "lesions" (tumours of nested parts in MRI of a head), "instruments" (endoscopy video).
    shape : tuple of int
        `(T, H, W)`: slices, rows, columns, in voxels.
    seed : int
        The same seed gives the same volume.

    Returns
    -------
    image : ndarray of uint8, `(T, H, W)`, or `(T, H, W, 3)` for "instruments"
    labels : ndarray of uint16, `(T, H, W)`
        0 is background; objects are 1 to n, at least one of them.

    Raises
    ------
    ImageError
        If the kind is unknown or an axis of the shape is too short.
    """
    if kind not in _MAKERS:
        raise ImageError(f"Unknown kind of synthetic volume {kind!r}: choose one of {KINDS}.")
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < 16:
        raise ImageError(f"A synthetic volume needs shape (T >= 1, H >= 16, W >= 16), not {shape}.")
    rng = np.random.default_rng([KINDS.index(kind), seed])
    labels = np.zeros(shape, np.uint16)
    while not labels.any():  # a draw without any object is rare, but happens in small shapes
        clean, labels = _MAKERS[kind](rng, shape)
        labels = _consecutive(labels)
    return _FINISH.get(kind, acquire)(rng, clean), labels


def _consecutive(labels: Labels) -> Labels:
    """Drop crumbs and number the rest from 1."""
    count = np.bincount(labels.ravel())
    keep = count >= _MIN_VOXELS
    keep[0] = False
    table = np.where(keep, np.cumsum(keep), 0).astype(np.uint16)
    renumbered: Labels = table[labels]
    return renumbered
