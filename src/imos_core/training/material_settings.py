"""What a phase's file says of its material: weights and emphasis that mean what is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imos_core.training.config import TrainConfig

FOLDERS = ("static", "sequences", "folders", "regions", "image_regions")
"""Settings that name material."""
MATERIAL = (*FOLDERS, "synthetic")
"""What `weights` knows."""
_FEW = 10


def check_material(config: TrainConfig) -> None:
    """Refuse weights and emphasis that would be ignored, or that are no shares.

    Raises
    ------
    ValueError
        With the setting's name.
    """
    _check_factors("emphasis", config.emphasis)
    _check_factors("weights", config.weights)
    if config.weights is None:
        return
    for name in config.weights:
        if name not in MATERIAL:
            raise ValueError(
                f"weights names {name}, which is no material: choose from {', '.join(MATERIAL)}."
            )
    for name in FOLDERS:
        named = bool(getattr(config, name))
        if named and name not in config.weights:
            raise ValueError(
                f"{name} is set, but weights does not say how often it is drawn: add {name} there "
                "(0 leaves it out)."
            )
        if not named and config.weights.get(name, 0) > 0:
            raise ValueError(f"weights draws {name}, which is not set: name it, or take it out.")


def check_emphasis(emphasis: Mapping[str, float] | None, groups: Iterable[str]) -> None:
    """Refuse an emphasis on what none of the opened material has.

    Raises
    ------
    FileError
        With the name, and those that there are.
    """
    there = sorted(set(groups))
    for name in emphasis or {}:
        if name not in there:
            known = ", ".join(there[:_FEW]) + (", ..." if len(there) > _FEW else "")
            raise FileError(
                f"The setting emphasis names {name}, which the material that is drawn lacks (it "
                f"has {known or 'no groups'}): correct it or take it out."
            )


def _check_factors(name: str, table: object) -> None:
    """Refuse what is no table of finite numbers from 0 on."""
    if table is None:
        return
    if not isinstance(table, Mapping):
        raise ValueError(f"{name} is a table such as {{ name = 1.0 }}, not {table!r}.")
    for key, value in table.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 <= value < math.inf):
            raise ValueError(f"{name} has finite numbers from 0 on, but {key} is {value!r}.")
