"""A bar that shows how far a propagation is, if anybody wants to see it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager


def bar(
    slices: Iterable[Any], total: int | None, *, shown: bool
) -> AbstractContextManager[Iterable[Any]]:
    """Return the slices under a bar in the window, or in the terminal; alone if none is wanted."""
    if not shown:
        return nullcontext(slices)
    from napari.utils import progress

    return progress(slices, desc="iMOS", total=total)
