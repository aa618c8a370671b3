"""Devices and precisions: what is asked for, and what this machine has."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from imos_core.errors import DeviceError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def pick_device(name: str) -> torch.device:
    """Turn a name into a device that is there.

    Parameters
    ----------
    name : str
        ``"auto"`` (CUDA, else the processor) or a torch device name. Apple's GPUs have to be
        asked for, ``"mps"``: nobody has tried the engine on one, and a small network that starts
        a thousand short computations a slice hardly gains there.

    Raises
    ------
    DeviceError
        If it is unknown or not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"Device {name!r} is unknown: use auto, cpu, cuda or mps.") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("No CUDA device is available here: use device auto or cpu.")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise DeviceError(f"There is no {name}: use cuda or cpu.")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("No MPS device is available here: use device auto or cpu.")
    elif device.type != "cpu":
        raise DeviceError(f"Device {name!r} is not supported: use auto, cpu, cuda or mps.")
    return device


def check_place(network: torch.nn.Module, device: str) -> None:
    """Refuse a device that is not the network's; ``"auto"`` is.

    Raises
    ------
    DeviceError
        If it is another one, or not available.
    """
    if device == "auto":
        return
    here, wanted = next(network.parameters()).device, pick_device(device)
    if wanted.type != here.type or wanted.index not in (None, here.index or 0):
        raise DeviceError(
            f"The network is on {here}, not on {device}: bring it there with its to(), or use "
            "device auto."
        )


def check_weights(network: torch.nn.Module) -> None:
    """Refuse a network that is not in float32, from which copies in other types are made.

    Raises
    ------
    WeightsError
        If it is not.
    """
    for parameter in network.parameters():
        if parameter.dtype != torch.float32:
            raise WeightsError(
                f"The network's weights are {parameter.dtype}: call its float(), and let precision "
                "say in what it computes."
            )


def arithmetic(
    precision: str | torch.dtype, device: torch.device, *, eight_bits: bool = False
) -> torch.dtype:
    """Pick the type of the network's arithmetic.

    Parameters
    ----------
    precision : str or torch.dtype
        ``"auto"``: bfloat16 where the device computes it faster than float32, else int8 where it
        may be and pays, else float32. Short names, such as ``"fp32"``, serve too.
    device : torch.device
        Where the network runs.
    eight_bits : bool
        Whether convolutions of this network can compute in eight bits.

    Returns
    -------
    torch.dtype
        ``int8`` means float32, but for convolutions.

    Raises
    ------
    DeviceError
        If the name is unknown, or not for this network or machine.
    """
    name = precision_name(precision)
    if name != "auto":
        if name not in _DTYPES:
            raise DeviceError(
                f"Precision {precision!r} is unknown: use auto, float32, bfloat16, float16 or int8."
            )
        if name == "int8" and not (eight_bits and device.type == "cpu"):
            raise DeviceError(
                "Precision int8 is for inference on a processor, in windows, with a model whose "
                "activations were measured, as the embedded one's: use auto."
            )
        return _DTYPES[name]
    if device.type == "cuda" and _has_bfloat16():
        return torch.bfloat16
    if device.type == "cpu" and _bfloat16_pays():
        return torch.bfloat16  # nearly as fast as eight bits, and nearer to float32
    if device.type == "cpu" and eight_bits and _has_wide_vectors():
        return torch.int8
    return torch.float32


def precision_name(precision: str | torch.dtype) -> str:
    """Return the name of a precision: ``"int8"`` of ``torch.int8``."""
    return str(precision).removeprefix("torch.")


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 for 0 while learning, in the thread that asks.

    Attention gives next to none to what is far, and a processor needs many times as long for
    numbers that are so small: without this, gradients of the guide's attention take a fifth of a
    training step. At inference nothing is gained.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _has_wide_vectors() -> bool:
    """Whether eight bits pay: measured with AVX2 and AVX-512."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


def _has_bfloat16() -> bool:
    """Whether the GPU itself computes bfloat16, which older ones only imitate, slowly."""
    try:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    except TypeError:  # older versions of torch count no imitation
        return bool(torch.cuda.is_bf16_supported())


def _bfloat16_pays() -> bool:
    """Whether the processor computes bfloat16 faster than float32."""
    # the only way torch tells; missing in older versions, where float32 is right anyway
    if _torch_says("_is_amx_tile_supported"):
        return True
    if not _torch_says("_is_avx512_bf16_supported"):
        return False
    # Intel's vector units are no faster with it than without (measured: 0.7 times as fast)
    facts: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return "intel" not in str(facts.get("cpu_name", "")).lower()


def _torch_says(name: str) -> bool:
    return bool(getattr(torch.cpu, name, bool)())
