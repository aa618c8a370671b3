"""What weights files say of themselves, by which adapters are told from whole models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import safetensors

from imos_core.errors import FileError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHORT = 12
"""Characters of a fingerprint that people compare."""


def header_of(path: Path) -> dict[str, str]:
    """What a ``.safetensors`` file says beside its tensors."""
    with safetensors.safe_open(path, "np") as file:
        return dict(file.metadata() or {})


def is_adapter(path: Path) -> bool:
    """Whether a weights file says that it is an adapter for some network, not a whole one.

    The file must be readable; see `read_state`.
    """
    if path.suffix != ".safetensors":
        return False
    header = header_of(path)
    return "config" not in header and "base_sha256" in header


def refuse_to_replace(path: Path) -> None:
    """Refuse to write an adapter where something else is: a network would be lost.

    Raises
    ------
    FileError
        If there is a file that is no adapter.
    """
    try:
        keeps = os.path.exists(path) and not is_adapter(path)
    except Exception:  # damaged files make readers raise whatever they like
        keeps = True
    if keeps:
        raise FileError(
            f"{path} exists and is no adapter, and would be overwritten: choose another name."
        )


def base_of_adapter(header: Mapping[str, str]) -> str:
    """What an adapter was tuned for, by its header: a file and the beginning of its fingerprint.

    Adapters for a network that came from no file name the preset alone.
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


def refuse_model(path: Path, header: Mapping[str, str]) -> None:
    """Refuse a file of a whole network, by its header, where an adapter is wanted.

    Raises
    ------
    WeightsError
        If it says that it is one.
    """
    if "config" in header and "base_sha256" not in header:
        raise WeightsError(
            f"{path} is a whole model, not an adapter: give it as the model instead."
        )
