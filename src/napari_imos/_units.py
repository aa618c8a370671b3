"""Units: layers, and the viewer that shows them, may count lengths in different ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


def units_of(counts: Any, ndim: int) -> list[Any]:
    """Units of the last axes of a layer or of a viewer's sliders; None where there are none."""
    units = getattr(counts, "units", None) or ()  # before napari 0.7, sliders had none
    known = list(units)[-ndim:]
    return [None] * (ndim - len(known)) + known


def factors(units: Sequence[Any], others: Sequence[Any]) -> npt.NDArray[np.float64]:
    """How many of the other units one unit is, axis by axis; 1 if they cannot be compared."""
    return np.array([_factor(a, b) for a, b in zip(units, others, strict=True)])


def is_length(unit: str) -> bool:
    """Whether napari knows a unit, which files write as they like, as one of length."""
    import pint

    try:
        return bool(pint.get_application_registry().Unit(unit).is_compatible_with("meter"))
    except (AttributeError, ValueError, TypeError):  # pint's errors are of these kinds
        return False


def _factor(unit: Any, other: Any) -> float:
    if unit is None or other is None:
        return 1.0
    try:
        return float((1.0 * unit).to(other).magnitude)
    except (TypeError, ValueError):  # a length and a number of pixels
        return 1.0
