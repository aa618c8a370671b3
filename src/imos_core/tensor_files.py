"""Files of tensors: what is in them, whether they are adapters, and how networks are told apart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from imos_core.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

SHORT = 12
"""Characters of a fingerprint that people compare."""


def read_state(path: Path, what: str = "model") -> dict[str, Tensor]:
    """Read the tensors of a weights file as float32; `what` it is called in messages.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"The {what} file {path} does not exist: check its name.")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"The {what} file {path} cannot be read ({type(error).__name__}): it is damaged or no "
            "weights file; fetch it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(
            f"The {what} file {path} is no plain dictionary of tensors: save the state dict alone."
        )
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def header_of(path: Path) -> dict[str, str]:
    """What a ``.safetensors`` file says beside its tensors."""
    with safetensors.safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """Checksum of a network's tensors as they are saved, whatever file they come from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith("num_batches_tracked"):
            values = state[name].detach().cpu().contiguous()
            digest.update(name.encode())
            digest.update(values.half().numpy().tobytes())
    return digest.hexdigest()


def is_adapter(path: Path) -> bool:
    """Whether a weights file says that it is an adapter for some network, not a whole one.

    The file must be readable; see `read_state`.
    """
    if path.suffix != ".safetensors":
        return False
    header = header_of(path)
    return "config" not in header and "base_sha256" in header


def base_of_adapter(header: Mapping[str, str]) -> str:
    """What an adapter was tuned for, by its header: a file and the beginning of its fingerprint.

    Adapters of earlier versions name the preset alone.
    """
    file = header.get("base_file") or f"weights of the preset {header.get('base', 'unknown')}"
    return f"{file} (fingerprint {header.get('base_sha256', 'unknown')[:SHORT]})"


def refuse_adapter(path: Path) -> None:
    """Refuse an adapter file where a whole network is wanted.

    Raises
    ------
    WeightsError
        If it says that it is one.
    """
    if is_adapter(path):
        raise WeightsError(
            f"{path} is an adapter, not a whole model: give it as the adapter, on top of "
            f"{base_of_adapter(header_of(path))}."
        )
