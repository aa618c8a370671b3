"""Precision: parts of a network that compute in less than float32, and parts that must not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def lowered(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Compute what suits it in a type; float32: everything as it is.

    Parameters
    ----------
    device : torch.device
        Where it is computed.
    dtype : torch.dtype
        ``bfloat16``, ``float16`` or ``float32``; ``int8`` (in a copy for inference) leaves all
        else in float32.

    Returns
    -------
    context manager
        Entered by one thread at a time, as often as need be.
    """
    low = dtype in (torch.bfloat16, torch.float16)
    # to switch off what a device does not know is an error too (PyTorch 2.4 on Apple's GPUs)
    if not low and not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, dtype if low else None, enabled=low)


def undiminished(device: torch.device) -> AbstractContextManager[object]:
    """Compute in the types that tensors have, also if a caller lowered them."""
    return lowered(device, torch.float32)
