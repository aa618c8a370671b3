"""Weak callbacks: what Qt or a viewer calls must not keep a widget alive that was taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Callable


def weakly(
    method: Callable[[], object], otherwise: Callable[[], object] | None = None
) -> Callable[..., None]:
    """Return a function that calls a bound method as long as its object lives.

    Parameters
    ----------
    method : bound method
        Called without arguments, whatever the function is given.
    otherwise : callable, optional
        What is called once the object is gone.
    """
    weak = WeakMethod(method)

    def call(*args: Any) -> None:
        act = weak() or otherwise
        if act is not None:
            act()

    return call
