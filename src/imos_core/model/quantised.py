"""Convolutions in eight bits, which processors multiply two to four times as fast.

Weights and inputs are rounded to 8 bits, products are added up exactly, and everything else stays
float32. How far the inputs of each convolution reach has been measured beforehand
(`imos_core.training.activations`): the same input always gives the same output, whatever else is
computed with it.
"""

from __future__ import annotations

import warnings
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import nn

from imos_core.model.blocks import ResidualBlock
from imos_core.model.fused import (
    FusedConv2d,
    NativeConv2d,
    RectifiedConv2d,
    bare_convolution,
    native,
    passes,
    ramp,
)
from imos_core.model.resnet import BasicBlock, Bottleneck

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from imos_core.model.network import IMOS

_LEAST_CHANNELS = 32
"""Convolutions of fewer channels stand near the image, where rounding shows (those of the
descriptors cost 0.004 in J&F with several objects), and wait for memory more than for products."""


class QuantisedConv2d(FusedConv2d):
    """A convolution whose weights and inputs have 8 bits (Jacob et al., 2018, section 2).

    Parameters
    ----------
    convolution : NativeConv2d
        What it computes, in float32.
    extent : (float, float)
        Smallest and largest input; what lies beyond counts as these.
    most : int
        Largest weight, as of `eight_bits`.
    """

    def __init__(self, convolution: NativeConv2d, extent: tuple[float, float], most: int) -> None:
        super().__init__(convolution)
        low, high = min(extent[0], 0.0), max(extent[1], 1e-6)
        self._scale = (high - low) / 255
        self._zero = round(-low / self._scale)
        self._rectifies = isinstance(convolution, RectifiedConv2d)
        self._scale_after: float | None = None
        weight = self.weight.float()
        # each of the channels that come out has a scale of its own
        scales = (weight.abs().amax((1, 2, 3)) / most).clamp_min(1e-12)
        rounded = (weight / scales[:, None, None, None]).round().to(torch.int8)
        packed = torch.ops.onednn.qconv_prepack(
            rounded, scales, self._scale, self._zero,
            self.stride, self.padding, self.dilation, self.groups,
        )  # fmt: skip
        self._packed, self._scales = packed, scales
        self._zeros = torch.zeros_like(scales, dtype=torch.long)

    @staticmethod
    def can_replace(convolution: nn.Module) -> TypeGuard[NativeConv2d]:
        """Whether a module is a convolution that gains by it."""
        return (
            isinstance(convolution, NativeConv2d)
            and convolution.weight.dtype == torch.float32
            and convolution.weight.shape[1] >= _LEAST_CHANNELS
        )

    def hand_on(self, following: QuantisedConv2d) -> None:
        """Give rectified results to another convolution alone, as the 8 bits that it wants."""
        if following._zero == 0:
            self._scale_after = following._scale

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, C_in, H, W)`."""
        return self._then("relu" if self._rectifies else "none", x)

    def between(self, x: Tensor) -> Tensor:
        """Let negative values be 0, convolve, and again."""
        # where 0 is the smallest input, rounding to 8 bits rectifies
        return self.rectified(torch.relu(x) if self._zero else x)

    def onto(self, x: Tensor, other: Tensor, *, relu: bool = False) -> Tensor:
        """Convolve and add to `other`, which may be overwritten; then maybe rectify."""
        result: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            *self._quantised(x), other.contiguous(memory_format=torch.channels_last), self.bias,
            self.stride, self.padding, self.dilation, self.groups,
            1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "relu" if relu else None, [], "",
        )  # fmt: skip
        return result

    def _then(self, what: str, x: Tensor) -> Tensor:
        scale, dtype = 1.0, torch.float32
        if self._scale_after is not None and what == "relu":
            scale, dtype = self._scale_after, torch.uint8
        result: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *self._quantised(x), self.bias,
            self.stride, self.padding, self.dilation, self.groups,
            scale, 0, dtype, what, [], "",
        )  # fmt: skip
        return result

    def _quantised(self, x: Tensor) -> tuple[Tensor, float, int, Tensor, Tensor, Tensor]:
        """Input and weights as the operators take them."""
        if x.dtype != torch.uint8:
            x = _rounded(x, self._scale, self._zero)
        return x, self._scale, self._zero, self._packed, self._scales, self._zeros


def _rounded(x: Tensor, scale: float, zero: int) -> Tensor:
    """Round to 8 bits."""
    levels = torch.quantize_per_tensor(x, scale, zero, torch.quint8)
    # the bytes themselves: int_repr copies them one by one
    whole = torch.empty(0, dtype=torch.uint8, device="cpu")
    return whole.set_(levels.untyped_storage(), 0, levels.shape, levels.stride())


def quantise(network: IMOS) -> None:
    """Let convolutions whose input has been measured compute in eight bits.

    Parameters
    ----------
    network : IMOS
        A copy for inference in float32, on a processor with `eight_bits`; it is changed.
    """
    most = eight_bits()
    for name, parent in list(network.named_modules()):
        for part, child in list(parent.named_children()):
            extent = network.activations.get(f"{name}.{part}")
            if extent is not None and QuantisedConv2d.can_replace(child):
                setattr(parent, part, QuantisedConv2d(child, extent, most))
    for parent in network.modules():
        for one, other in pairwise(_chain(parent)):
            if isinstance(one, QuantisedConv2d) and isinstance(other, QuantisedConv2d):
                one.hand_on(other)


def _chain(parent: nn.Module) -> Iterable[nn.Module]:
    """Convolutions of a block of which each gives what it rectifies to the next one alone."""
    if isinstance(parent, ResidualBlock):
        return parent.conv1, parent.conv2
    if isinstance(parent, BasicBlock) and parent.adapter is None:
        return parent.conv1, parent.conv2
    if isinstance(parent, Bottleneck) and parent.adapter is None:
        return parent.conv1, parent.conv2, parent.conv3
    if isinstance(parent, nn.Sequential):
        return [m for m in parent if not isinstance(m, nn.Identity)]
    return ()


@lru_cache
def eight_bits() -> int:
    """Largest weight that this processor multiplies by 8 bits without overflow; 0: it does not.

    Without instructions for it (VNNI), two products are added up in 16 bits: weights must be
    halved. What torch promises to nobody is tried, not looked up.
    """
    if not native(torch.float32):
        return 0
    with warnings.catch_warnings():
        # a future version of torch will have no quantize_per_tensor: then there is none of this
        warnings.simplefilter("ignore")
        return next((most for most in (127, 63) if passes(partial(_is_as_expected, most))), 0)


def _is_as_expected(most: int) -> bool:
    """Whether the operators do what they did when this was written, with the largest weights."""
    some = ramp(-90, 90, 2 * 32 * 8 * 8).sin_().view(2, 32, 8, 8) + 1
    some = some.contiguous(memory_format=torch.channels_last)
    some[:, :, :2] = 2
    one, other = bare_convolution(32), bare_convolution(32)
    for part in (*one.parameters(), *other.parameters()):
        part.copy_(ramp(-99, 80, part.numel()).cos_().view_as(part) + 0.5)
    other.weight.div_(300)
    first, then = one(some).relu(), other(one(some).relu())
    extents = (-0.5, 2.0), (0.0, float(first.max()))
    given, after = (
        QuantisedConv2d(FusedConv2d(c), extent, most)
        for c, extent in zip((one, other), extents, strict=True)
    )
    pairs = [
        (given.rectified(some), first),
        (after.between(first - 1), other((first - 1).relu()).relu()),
        (after.onto(first, torch.ones_like(then), relu=True), (then + 1).relu()),
    ]
    given.hand_on(after)
    pairs.append((after(given.rectified(some)), then))
    return all(
        found.dtype == torch.float32 and float((found - true).abs().max() / true.abs().max()) < 0.03
        for found, true in pairs
    )
