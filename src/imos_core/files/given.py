"""Fields of dataclasses that take what people write, and hold what is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Given(Generic[In, Out]):
    """A field that is read when it is set; type checkers know both types.

    They do not know that it has no default, where it has none: that shows when the script runs.

    Parameters
    ----------
    read : callable
        Makes what is held of what is given and the field's name, or refuses it.
    optional : bool
        Whether None is the default, and held as it is; otherwise there is none.
    """

    def __init__(self, read: Callable[[Any, str], Any], *, optional: bool = False) -> None:
        self._read, self._optional = read, optional
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, holder: None, owner: type) -> None: ...
    @overload
    def __get__(self, holder: object, owner: type) -> Out: ...
    def __get__(self, holder: object | None, owner: type) -> Out | None:
        if holder is None:
            # where dataclasses ask for the default
            if not self._optional:
                raise AttributeError(self._name)
            return None
        try:
            held: Out = holder.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None
        return held

    def __set__(self, holder: object, given: In) -> None:
        missing = given is None and self._optional
        holder.__dict__[self._name] = None if missing else self._read(given, self._name)
