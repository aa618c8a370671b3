"""Words: numbers and times as people write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

TAKE_BACK = " Ctrl+Z takes it back."
"""What is said after a run while it is the last thing that happened to its layer."""

ALL_CHECKED = "Every slice is drawn, corrected or checked."
NOTHING_TO_CHECK = "Nothing to check: propagate first, or go on with what you have corrected."

_MOST_GROUPS = 4
_MOST_LOCKED = 100_000  # labels of one range


def numbers(values: Sequence[int]) -> str:
    """Write ascending numbers briefly: ``1-3, 7``; after four groups, how many more."""
    groups: list[list[int]] = []
    for value in values:
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    words = [f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups[:_MOST_GROUPS]]
    more = sum(len(g) for g in groups[_MOST_GROUPS:])
    return ", ".join(words) + (f" and {more} more" if more else "")


def place(name: str, at: str | int) -> str:
    """Name positions on an axis: ``t 4``, ``4 on axis 0``."""
    return f"{at} on {name}" if name.startswith("axis ") else f"{name} {at}"


def counted(many: int, what: str) -> str:
    """Say how many there are of something whose plural takes an s."""
    return f"{many} {what}" if many == 1 else f"{many} {what}s"


def thought_right(slices: Sequence[int]) -> str:
    """Say that slices are left which need no look, as far as anybody can tell."""
    if len(slices) == 1:
        return f"Slice {slices[0]} is thought to be right: press again to look at it, too."
    return (
        f"The other {len(slices)} slices ({numbers(slices)}) are thought to be right: press again "
        "to look at them, too."
    )


def not_found(labels: Sequence[int]) -> str:
    """Add which labels are found no more, if any, to what is said of a slice."""
    if not labels:
        return ""
    return f", label{'s' if len(labels) > 1 else ''} {numbers(labels)} not found any more"


def seconds(duration: float) -> str:
    """Write a duration: ``4.2 s``, ``41 s``, ``3 min 5 s``."""
    minutes, rest = divmod(round(duration), 60)
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{duration:.1f} s" if duration < 9.5 else f"{rest} s"


def prompt(index: int, others: Sequence[int], ids: Sequence[int], along: str = "") -> str:
    """Say which slices, `along` which axis where it has to be said, and labels are propagated."""
    if not ids:
        return f"Nothing is painted on slice {index}."
    also = f" (with {numbers(sorted(others))})" if others else ""
    axis = f" along {along}" if along else ""
    return f"Prompt: slice {index}{axis}{also}, label{'s' if len(ids) > 1 else ''} {numbers(ids)}"


def read_locked(words: str) -> tuple[int, ...]:
    """Read locked labels as people write them: ``2, 5-7``.

    Raises
    ------
    PromptError
        If they are no such numbers.
    """
    found: set[int] = set()
    for part in words.replace(";", ",").split(","):
        first, dash, last = (piece.strip() for piece in part.strip().partition("-"))
        if not first and not dash:
            continue
        if (
            not first.isdecimal()
            or (dash and not last.isdecimal())
            or not 0 < int(first) <= int(last or first)
        ):
            raise PromptError(
                f"Locked labels are numbers such as 2, 5-7, but not {part.strip()!r}."
            )
        if int(last or first) - int(first) >= _MOST_LOCKED:
            raise PromptError(
                f"Locked labels {part.strip()} are too many: lock at most {_MOST_LOCKED} in a row."
            )
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
