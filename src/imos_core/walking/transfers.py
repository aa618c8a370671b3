"""Transfers: several arrays at a time between the processor's memory and that of a device.

A GPU is waited for once for all objects of a slice, not once for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor


def to_device(arrays: Sequence[npt.NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Send arrays of one type to a device; on the processor, tensors share their memory."""
    if device.type == "cpu" or len(arrays) < 2:
        return [torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays]
    sent = torch.from_numpy(np.concatenate([a.reshape(-1) for a in arrays])).to(device)
    parts = sent.split([a.size for a in arrays])
    return [part.view(a.shape) for part, a in zip(parts, arrays, strict=True)]


def to_host(tensors: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
    """Bring tensors of one type from a device; on the processor, arrays share their memory."""
    if len(tensors) < 2 or tensors[0].device.type == "cpu":
        return [t.cpu().numpy() for t in tensors]
    brought = torch.cat([t.reshape(-1) for t in tensors]).cpu().numpy()
    parts = np.split(brought, np.cumsum([t.numel() for t in tensors])[:-1])
    return [part.reshape(t.shape) for part, t in zip(parts, tensors, strict=True)]
