"""Which values the settings of a phase may have."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from imos_core.config import MemoryConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imos_core.training.config import TrainConfig

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Range:
    """Numbers from one to another."""

    low: float
    """Least number."""
    high: float = math.inf
    """Largest number."""
    open_low: bool = False
    """Whether `low` itself is left out."""
    open_high: bool = False
    """Whether `high` itself is left out."""

    def __contains__(self, value: float) -> bool:
        # a number that is none is in no range
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"from {self.low:g} to {'below ' * self.open_high}{self.high:g}"
        low = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        return low + " and finite" * self.open_high


_SHARE = Range(0, 1)
_COUNT = Range(1)
RANGES: Mapping[str, Range] = {
    "frames": Range(2),
    "size": Range(16),
    "max_skip": _COUNT,
    "beginnings": _SHARE,
    "endings": _SHARE,
    "turns": _SHARE,
    "thin_plate": _SHARE,
    "caps": _SHARE,
    "occlusions": _SHARE,
    "batch_size": _COUNT,
    "learning_rate": Range(0, open_low=True, open_high=True),
    "final_rate": _SHARE,
    "warm_up_steps": Range(0),
    "minutes": Range(0, open_low=True, open_high=True),
    "steps": Range(0),
    # what a generator of random numbers takes
    "seed": Range(0, 2**63 - 1),
    "references": _COUNT,
    "enclosed": _SHARE,
    "truncate": _COUNT,
    "mine_from": _SHARE,
    "mine_to": _SHARE,
    # an average that forgets nothing never learns
    "average": Range(0, 1, open_high=True),
    "workers": Range(0),
    "save_minutes": Range(0),
    "validation_minutes": Range(0),
    "validation_objects": _COUNT,
}
"""Settings that are numbers, and from where to where they may go."""


def check_ranges(config: TrainConfig) -> None:
    """Refuse numbers that mean nothing, and lists that are none.

    Raises
    ------
    ValueError
        With the setting's name.
    """
    for name, allowed in RANGES.items():
        value = getattr(config, name)
        if value not in allowed:
            raise ValueError(f"{name} is {allowed}, not {value}.")
    for name in ("folders", "licences", "modalities"):
        value = getattr(config, name)
        if isinstance(value, str):
            raise ValueError(f"{name} is a list: set square brackets around {value!r}.")
        for item in value:
            if not isinstance(item, str):
                raise ValueError(f"{name} is a list of text, but {item!r} is in it.")
    # sums of decimal fractions are not exact
    if config.beginnings + config.endings > 1 + 1e-9:
        raise ValueError("beginnings and endings are shares of the same clips: at most 1 together.")
    if config.enclosed and config.frames == 2:
        raise ValueError("enclosed paints the last frame too: give 3 frames or more.")
    if config.mine_from > config.mine_to:
        raise ValueError("mine_from comes before mine_to: give it the smaller number.")


def check_kind(name: str, value: object, default: object) -> None:
    """Refuse a setting that is of another kind than the default one.

    Raises
    ------
    ValueError
        With its name.
    """
    # a bool is an int, but 3 frames are no yes, and true is no number of frames
    fits = isinstance(value, bool) == isinstance(default, bool)
    if isinstance(default, float) and fits:
        fits = isinstance(value, int | float)
    elif isinstance(default, int | str) and fits:
        fits = isinstance(value, type(default))
    elif isinstance(default, tuple):
        fits = isinstance(value, list | tuple | str)  # `check_ranges` says what is wrong with text
    if default is not None and not fits:
        kind = "a list" if isinstance(default, tuple) else _KINDS[type(default)]
        raise ValueError(f"{name} is {kind}, not {value!r}.")


def memory_of(table: object) -> MemoryConfig:
    """Read the setting `memory`.

    Raises
    ------
    ValueError
        If it is no table, or names something unknown or of another kind.
    """
    known = {f.name: f.default for f in fields(MemoryConfig)}
    if not isinstance(table, dict):
        raise ValueError(f"memory is a table such as {{ max_working_frames = 4 }}, not {table!r}.")
    values: dict[str, Any] = table
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"memory has no {name}: choose from {', '.join(known)}.")
        check_kind(f"memory.{name}", value, known[name])
    return MemoryConfig(**values)
