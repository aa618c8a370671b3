"""The shape of the network that a phase trains: a preset, and what the phase changes of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from imos_core.config import PRESETS, ModelConfig
from imos_core.errors import FileError
from imos_core.training.ranges import check_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imos_core.training.config import TrainConfig

_CHOICES = {"memory_stride": (8, 16), "normalisation": ("imagenet", "zscore")}


def shape_of(config: TrainConfig) -> ModelConfig:
    """Shape of a phase's network.

    Raises
    ------
    FileError
        If the preset is unknown, or the setting `shape` says what no network can have.
    """
    if config.model not in PRESETS:
        raise FileError(f"There is no preset {config.model!r}: use one of {', '.join(PRESETS)}.")
    preset = PRESETS[config.model]
    try:
        changed = _checked(config.shape, preset)
    except ValueError as error:
        raise FileError(f"The setting shape serves no network: {error}") from error
    return replace(preset, **changed, adapters=config.adapters)


def _checked(shape: Any, preset: ModelConfig) -> dict[str, Any]:
    """Check the fields that a phase changes; lists, which TOML has, become tuples."""
    if shape is None:
        return {}
    if not hasattr(shape, "items"):
        raise ValueError(f"it is a table such as {{ flow = false }}, not {shape!r}.")
    table: Mapping[str, Any] = shape
    known = {name: value for name, value in asdict(preset).items() if name != "adapters"}
    for name, value in table.items():
        if name not in known:
            raise ValueError(f"there is no {name}: choose from {', '.join(known)}.")
        default = preset.window_size if name == "colour_window_size" else known[name]
        check_kind(name, value, default)
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"{name} is one of {_CHOICES[name]}, not {value!r}.")
        if isinstance(default, tuple) and len(value) != len(default):
            raise ValueError(f"{name} has {len(default)} numbers, not {len(value)}.")
        if isinstance(default, tuple | int):
            for number in value if isinstance(default, tuple) else (value,):
                if not isinstance(number, int) or (number < 1 and not isinstance(default, bool)):
                    raise ValueError(f"{name} has whole numbers from 1 on, not {number!r}.")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
