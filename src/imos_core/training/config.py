"""Training phases as TOML files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from imos_core.data.clips import ClipConfig
from imos_core.errors import FileError
from imos_core.training.material_settings import check_material
from imos_core.training.ranges import check_kind, check_ranges, memory_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imos_core.config import MemoryConfig


_STRIDE = 16
"""Pixels of a position of the network's deepest features."""


@dataclass(frozen=True)
class TrainConfig(ClipConfig):
    """One phase of training, and how its clips are cut."""

    model: str = "imos-compact"
    """Preset that is trained."""
    shape: Mapping[str, Any] | None = None
    """Fields of the preset that differ, by name: for ablations."""
    adapters: bool = False
    """Whether every residual block carries an adapter; weights without adapters serve to start."""
    trainable: Literal["all", "decoder", "adapters"] = "all"
    """What learns: everything; with both encoders frozen, their adapters, the key projection and
    the decoder (the paper's tuning); or adapters alone, whose result is an adapter file."""
    static: str = ""
    """Folder of static images (one folder per origin); empty: none."""
    sequences: str = ""
    """Folder of training sequences; empty: none."""
    folders: tuple[str, ...] = ()
    """Folders of images and labels side by side: ``images`` and ``labels``, nnU-Net, DAVIS."""
    regions: str = ""
    """Folder of regions of training sequences (`imos_core.data.regions`); empty: none."""
    image_regions: str = ""
    """Folder of regions of static images (`imos_core.data.image_regions`); empty: none."""
    licences: tuple[str, ...] = ("open",)
    """Which sequences of the manifest are used (its field `use`)."""
    modalities: tuple[str, ...] = ()
    """Only sequences of these folders, also in validation; empty: all."""
    weights: Mapping[str, float] | None = None
    """How often material is drawn, by the names of the folders above, each of which has a weight
    if it is set, and of `synthetic`; without this table all folders alike, and 0.3 synthetic."""
    emphasis: Mapping[str, float] | None = None
    """How many times as often modalities, origins of images and synthetic kinds are drawn as they
    would be within their folder, by name."""
    batch_size: int = 8
    """Clips per step."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    final_rate: float = 0.02
    """Learning rate at the end, as a share of the peak (cosine)."""
    warm_up_steps: int = 200
    """Steps of linear warm-up."""
    train_norms: bool = True
    """Whether batch norms learn statistics (first phase from scratch only)."""
    minutes: float = 60.0
    """Length of the phase; the schedule follows the clock."""
    steps: int = 0
    """Length of the phase in steps, if not 0; the schedule follows them, not the clock."""
    seed: int = 14159265
    """Seed of everything random."""
    references: int = 3
    """Memory frames per read."""
    memory: MemoryConfig | None = None
    """Memory of three tiers that overflows on the way, as at inference; None: `references`."""
    enclosed: float = 0.0
    """Share of batches whose last frame is painted too, as between two anchors; not with
    `memory`."""
    truncate: int = 4
    """With `memory`, the number of frames through which gradients flow back."""
    mine_from: float = 0.15
    """Share of the phase after which cross entropy narrows to the hardest pixels ..."""
    mine_to: float = 0.6
    """... and after which it looks at the hardest 15 % only."""
    bfloat16: bool = True
    """Mixed precision where the processor has it."""
    average: float = 0.998
    """Decay of the moving average of weights that is saved."""
    workers: int = 1
    """Processes that make batches; 0 makes them in line (and repeatable on one thread)."""
    save_minutes: float = 5.0
    """How often a checkpoint is written."""
    validation: str = ""
    """Folder of validation sequences; empty: none."""
    validation_minutes: float = 10.0
    """How often the averaged weights are validated, besides at the end."""
    validation_objects: int = 2
    """Most objects per validation sequence."""

    def __post_init__(self) -> None:
        if self.trainable not in ("all", "decoder", "adapters"):
            raise ValueError(f"trainable is all, decoder or adapters, not {self.trainable!r}.")
        if self.trainable == "adapters" and not self.adapters:
            raise ValueError("trainable is adapters, but there are none: set adapters = true.")
        if self.size % _STRIDE or self.size < _STRIDE:
            raise ValueError(
                f"size is a multiple of {_STRIDE}, as the network asks, not {self.size}."
            )
        check_ranges(self)
        check_material(self)


def read_config(path: Path) -> TrainConfig:
    """Read a phase from a TOML file.

    Raises
    ------
    FileError
        If the file cannot be read or names something unknown.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileError(f"{path} is no readable training configuration: {error}.") from error
    unknown = set(values) - {f.name for f in fields(TrainConfig)}
    if unknown:
        raise FileError(f"{path} names unknown settings {sorted(unknown)}: remove them.")
    try:
        for name, value in values.items():
            check_kind(name, value, getattr(TrainConfig, name))
        if "memory" in values:
            values["memory"] = memory_of(values["memory"])
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return TrainConfig(**given)
    except (TypeError, ValueError) as error:
        raise FileError(f"{path} holds a wrong setting: {error}") from error
