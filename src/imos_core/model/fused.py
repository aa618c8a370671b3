"""Convolutions on a processor by oneDNN, with what follows them in one pass over the result.

oneDNN adds another tensor and rectifies while it writes; three passes over memory become one.
PyTorch would ask anew for every convolution who should compute it, and chooses a slow way for small
ones in float32.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class NativeConv2d(nn.Module):
    """A convolution by oneDNN.

    Parameters
    ----------
    convolution : nn.Conv2d or NativeConv2d
        What it computes, on a processor, in the type of its weight; see `serves`.
    """

    weight: Tensor
    bias: Tensor | None
    padding: list[int]
    stride: list[int]
    dilation: list[int]
    groups: int

    def __init__(self, convolution: nn.Conv2d | NativeConv2d) -> None:
        super().__init__()
        self.register_buffer("weight", convolution.weight.detach(), persistent=False)
        bias = convolution.bias
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)
        self.padding = [int(n) for n in convolution.padding]
        self.stride, self.dilation = list(convolution.stride), list(convolution.dilation)
        self.groups = convolution.groups

    @staticmethod
    def serves(convolution: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether a module is a convolution that can be computed like this, here."""
        return (
            type(convolution) is nn.Conv2d
            and native(convolution.weight.dtype)
            and not isinstance(convolution.padding, str)
            and convolution.padding_mode == "zeros"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, C_in, H, W)`."""
        return self._then("none", x)

    def _then(self, what: str, x: Tensor) -> Tensor:
        """Convolve, and apply a function to the result."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x.to(self.weight.dtype), self.weight, self.bias,
            self.padding, self.stride, self.dilation, self.groups,
            what, [], "",
        )  # fmt: skip
        return result


class FusedConv2d(NativeConv2d):
    """A convolution that rectifies, or adds, as it writes."""

    def rectified(self, x: Tensor) -> Tensor:
        """Convolve, then let negative values be 0."""
        return self._then("relu", x)

    def between(self, x: Tensor) -> Tensor:
        """Let negative values be 0, convolve, and again."""
        return self.rectified(torch.relu(x))

    def onto(self, x: Tensor, other: Tensor, *, relu: bool = False) -> Tensor:
        """Convolve and add to `other`, which may be overwritten; then maybe rectify."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            other.to(self.weight.dtype), x.to(self.weight.dtype), self.weight, self.bias,
            self.padding, self.stride, self.dilation, self.groups,
            "add", None, "relu" if relu else None, [], None,
        )  # fmt: skip
        return result


def native(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and computes in a type."""
    if not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise_"):
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return dtype in (torch.bfloat16, torch.float32) and _is_as_expected(dtype)


def passes(probe: Callable[[], bool]) -> bool:
    """Whether operators that torch promises to nobody do what a probe expects of them.

    They may be gone, or have become others, in a version to come or on another processor.
    """
    with torch.inference_mode(False), torch.no_grad():
        try:
            return probe()
        except (RuntimeError, TypeError, AttributeError, ValueError):
            return False


def ramp(first: float, last: float, count: int) -> Tensor:
    """Evenly spaced numbers to probe operators with, in float32 whatever torch's default is."""
    return torch.linspace(first, last, count, dtype=torch.float32, device="cpu")


def bare_convolution(channels: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution to probe operators with: channels last, weights not set yet.

    It uses up nobody's random numbers, as `torch.nn.utils.skip_init`, which imports SymPy.
    """
    bare = nn.Conv2d(channels, channels, 3, padding=1, device="meta", dtype=torch.float32)
    for name, part in list(bare.named_parameters()):
        order = torch.channels_last if part.dim() == 4 else torch.contiguous_format
        empty = torch.empty(part.shape, dtype=part.dtype, device="cpu", memory_format=order)
        setattr(bare, name, nn.Parameter(empty))
    return bare


@lru_cache
def _is_as_expected(dtype: torch.dtype) -> bool:
    """Whether oneDNN's convolutions do what they did when this was written."""
    return passes(partial(_convolves, dtype))


def _convolves(dtype: torch.dtype) -> bool:
    some = ramp(-90, 90, 16 * 8 * 8).sin_().view(1, 16, 8, 8)
    some = some.contiguous(memory_format=torch.channels_last)
    convolution = bare_convolution(16)
    for part in convolution.parameters():
        part.copy_(ramp(-99, 80, part.numel()).cos_().view_as(part))
    x, fused = some.to(dtype), FusedConv2d(convolution.to(dtype))
    expected = convolution.float()(x.float())
    pairs = [
        (fused(x), expected),
        (fused.rectified(x), expected.relu()),
        (fused.onto(x, torch.ones_like(expected), relu=True), (expected + 1).relu()),
    ]
    largest = 0.02 * float(expected.abs().max())
    return all(float((a.float() - b).abs().max()) < largest for a, b in pairs)


def rectified(
    convolution: nn.Module, norm: nn.Module, x: Tensor, *, in_place: bool = False
) -> Tensor:
    """Convolve, normalise and let negative values be 0; in one pass where the norm is folded."""
    if isinstance(convolution, FusedConv2d):
        return convolution.rectified(x)
    fresh: Tensor = norm(convolution(x))
    return fresh.relu_() if in_place else torch.relu(fresh)


class RectifiedConv2d(FusedConv2d):
    """A convolution and the ReLU after it."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, C_in, H, W)`, then let negative values be 0."""
        return self.rectified(x)
