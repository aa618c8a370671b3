"""Files of tensors: what is in them, and how networks are told apart."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from imos_core.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


def read_state(path: Path, what: str = "model") -> dict[str, Tensor]:
    """Read the tensors of a weights file as float32; `what` it is called in messages.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or holds anything but tensors of finite numbers.
    """
    if not path.is_file():
        raise WeightsError(f"The {what} file {path} does not exist: check its name.")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():  # what torch thinks of a pickle, our sentence says
                warnings.simplefilter("ignore")
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
    if sparse := next((k for k, v in state.items() if v.layout != torch.strided), None):
        raise WeightsError(
            f"The {what} file {path} holds a sparse tensor, {sparse}: save it after to_dense()."
        )
    copy = path.suffix == ".safetensors"  # it is mapped, and Windows replaces no file that is
    state = {
        k: v.to(torch.float32 if v.is_floating_point() else v.dtype, copy=copy)
        for k, v in state.items()
    }
    if bad := _not_finite(state):
        raise WeightsError(
            f"The {what} file {path} is damaged: its tensor {bad} holds numbers that are not "
            "finite; fetch it again, or train anew."
        )
    return state


def stored(state: Mapping[str, Tensor], path: Path, *, half: bool = True) -> dict[str, Tensor]:
    """Return tensors as files hold them, without counters.

    Parameters
    ----------
    state : mapping of str to Tensor
        Tensors of a network.
    path : Path
        Where they go, for the message.
    half : bool
        Whether in float16.

    Raises
    ------
    WeightsError
        If numbers are not finite, or would not be in float16.
    """
    kept = {
        k: (v.half() if half and v.is_floating_point() else v).contiguous().cpu()
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }
    if bad := _not_finite(kept):
        large = ", or too large for float16 (above 65504)" if half else ""
        raise WeightsError(
            f"{path} is not written, as tensor {bad} holds numbers that are not finite{large}: "
            "train anew with a lower learning rate."
        )
    return kept


def _not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Name of a tensor that holds NaN or infinite numbers."""
    floats = {k: v for k, v in state.items() if v.is_floating_point()}
    # sums tell in 2 ms, and looking at every number in 10; they may overflow without need
    sums = [v.sum(dtype=torch.float32) for v in floats.values()]
    if not sums or torch.stack(sums).isfinite().all():
        return None
    return next((k for k, v in floats.items() if not v.isfinite().all()), None)


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """Checksum of a network's tensors as they are saved, whatever file they come from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith("num_batches_tracked"):
            values = state[name].detach().cpu().contiguous()
            digest.update(name.encode())
            digest.update(values.half().numpy().tobytes())
    return digest.hexdigest()
