"""Our own warnings, told in a sentence each and without the line of code that warns."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from imos_core.errors import FileWarning, OutOfMemoryWarning, PromptWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OURS = (FileWarning, OutOfMemoryWarning, PromptWarning)


@contextmanager
def told(say: Callable[[str], None]) -> Iterator[None]:
    """Tell what we warn of; what others warn of is shown as it would be.

    Parameters
    ----------
    say : callable
        Gets every sentence once, except that memory has run out, which may happen again.
    """
    said: set[str] = set()
    with warnings.catch_warnings():
        for ours in _OURS:
            warnings.simplefilter("always", ours)
        usual = warnings.showwarning

        def show(message: Any, category: Any, *more: Any, **others: Any) -> None:
            if not issubclass(category, _OURS):
                usual(message, category, *more, **others)
            elif str(message) not in said:
                if not issubclass(category, OutOfMemoryWarning):
                    said.add(str(message))
                say(str(message))

        warnings.showwarning = show
        yield
