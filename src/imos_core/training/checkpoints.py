"""Checkpoints of a training run: reading one, and whether it is of the same phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from imos_core.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from imos_core.training.config import TrainConfig


def phase_of(config: TrainConfig) -> str:
    """What a run must have in common with the one that it goes on with."""
    names = ("model", "shape", "adapters", "trainable", "frames", "size", "memory")
    return repr([getattr(config, name) for name in names])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this loop.

    Raises
    ------
    WeightsError
        If it is none.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"The checkpoint {path} cannot be read: {error}") from error
    if not isinstance(checkpoint, dict) or not {"model", "optimizer", "step"} <= set(checkpoint):
        raise WeightsError(f"{path} is no checkpoint of a training run: use its checkpoint.pt.")
    return checkpoint
