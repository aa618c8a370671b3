"""Placed: where a layer lies, as records note it, and as much of that as napari takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Labels, Layer

_NUMBERS = ("scale", "translate", "rotate", "shear", "affine")
PLACED = (*_NUMBERS, "units", "axis_labels")
"""What says where a layer lies: keywords of `Labels`, and its attributes."""


def place_of(layer: Layer, without: int | None = None) -> dict[str, Any]:
    """Return keywords that let another layer lie where one does, `without` one of its axes."""
    place = {name: getattr(layer, name) for name in PLACED}
    place["affine"] = layer.affine.affine_matrix
    if without is None:
        return place
    del place["shear"]  # napari says it in several ways
    for name in ("rotate", "affine"):
        place[name] = np.delete(np.delete(np.asarray(place[name]), without, 0), without, 1)
    for name in ("scale", "translate", "units", "axis_labels"):
        place[name] = [value for a, value in enumerate(place[name]) if a != without]
    return place


def placed(labels: Labels) -> dict[str, Any]:
    """Return where a layer lies, as JSON would hold it."""
    where: dict[str, Any] = {
        name: np.asarray(value, float).tolist()
        for name, value in place_of(labels).items()
        if name in _NUMBERS
    }
    where["units"] = [str(unit) for unit in labels.units]
    where["axis_labels"] = [str(name) for name in labels.axis_labels]
    return where


def saved_place(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record has of `placed`, if napari takes it."""
    axes = len(record["shape"])
    record = {"affine": np.eye(axes + 1).tolist(), **record}  # older ones had none
    return {name: record[name] for name in PLACED if _serves(name, record.get(name), axes)}


def _serves(name: str, value: Any, axes: int) -> bool:
    """Whether what a record has under one of the names of `placed` is such a thing."""
    if not isinstance(value, list | tuple):
        return False
    if name not in _NUMBERS:
        known = _is_unit if name == "units" else str
        words = [word for word in value if isinstance(word, str) and known(word)]
        return len(words) == len(value) == axes
    try:
        numbers = np.asarray(value)
    except ValueError:  # rows of several lengths
        return False
    if numbers.dtype.kind not in "if" or not np.isfinite(numbers).all():
        return False
    if name == "affine":
        last = numbers[-1:].ravel().tolist() == [0] * axes + [1]
        return numbers.shape == (axes + 1, axes + 1) and last and bool(np.linalg.det(numbers))
    if name == "rotate":
        return numbers.shape == (axes, axes) and bool(np.linalg.det(numbers))
    if name == "shear":
        # napari says what is above the diagonal, or all of a matrix with something below it only
        full = numbers.shape == (axes, axes) and not np.triu(numbers, 1).any()
        return full or numbers.shape == (axes * (axes - 1) // 2,)
    return numbers.shape == (axes,) and (name == "translate" or bool(numbers.all()))


def _is_unit(word: str) -> bool:
    import pint

    try:
        pint.get_application_registry().Unit(word)
    except Exception:  # parsers raise whatever they like
        return False
    return True
