"""Whole numbers: indices and ids as callers give them, checked in one sentence."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, SupportsIndex

from imos_core.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterable


def whole(value: Any, name: str) -> int:
    """Return a whole number: an integer of any kind, or a float without a fraction.

    Parameters
    ----------
    value : Any
        What was given.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    PromptError
        If it is none.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        return operator.index(value)
    except TypeError:
        raise PromptError(f"{name} must be a whole number, not {value!r}: give one.") from None


def axis_of(axis: Any) -> int:
    """Return an axis of a volume as 0, 1 or 2; negative ones count from the last.

    Raises
    ------
    PromptError
        If there is no such axis.
    """
    number = whole(axis, "axis")
    if not -3 <= number < 3:
        raise PromptError(f"Axis {axis} is out of range: give 0, 1 or 2.")
    return number % 3


def whole_numbers(values: SupportsIndex | Iterable[SupportsIndex], name: str) -> list[int]:
    """Return whole numbers as a list; one alone is a list of one.

    Parameters
    ----------
    values : int or iterable of int
        What was given.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    PromptError
        If they are none.
    """
    if not isinstance(values, str):
        try:
            return [operator.index(values)]  # type: ignore[arg-type]  # what else it is, is seen here
        except TypeError:
            pass
        try:
            return [whole(value, f"Each of {name}") for value in values]  # type: ignore[union-attr]
        except TypeError:
            pass
    raise PromptError(f"{name} must be whole numbers, such as [3, 8], not {values!r}: give some.")
