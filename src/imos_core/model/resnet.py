"""Residual trunks (stride 4, 8 and 16 or 8) whose blocks may carry an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from imos_core.model.adapter import ConvAdapter
from imos_core.model.fused import FusedConv2d, rectified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def _downsample(inner: int, outer: int, stride: int) -> nn.Sequential | None:
    """Projection for the skip connection, where shape changes."""
    if stride == 1 and inner == outer:
        return None
    return nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))


class _Block(nn.Module):
    """What both kinds of block share."""

    downsample: nn.Sequential | None
    in_place = False
    """Whether fresh results are overwritten: less to allocate, but not for training."""
    owns_input = False
    """Whether nobody else looks at its input, so that this may be overwritten too."""

    def _rectified(self, convolution: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
        return rectified(convolution, norm, x, in_place=self.in_place)

    def _joined(
        self,
        convolution: nn.Module,
        norm: nn.Module,
        inner: Tensor,
        x: Tensor,
        extra: Tensor | None = None,
    ) -> Tensor:
        """Convolve `inner`; add the skip connection from `x`, and `extra`; rectify."""
        skip = x if self.downsample is None else self.downsample(x)
        if isinstance(convolution, FusedConv2d) and extra is None:
            fresh = skip.clone() if skip is x and not self.owns_input else skip
            return convolution.onto(inner, fresh, relu=True)
        fresh = norm(convolution(inner))
        if extra is not None:
            fresh = fresh + extra
        return fresh.add_(skip).relu_() if self.in_place else torch.relu(fresh + skip)


class BasicBlock(_Block):
    """Two 3 x 3 convolutions; the adapter stands beside the second."""

    def __init__(self, inner: int, planes: int, stride: int, adapter: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _downsample(inner, planes, stride)
        self.adapter = ConvAdapter(planes) if adapter else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inner, H, W)` to `(B, planes, H / stride, W / stride)`."""
        first = self._rectified(self.conv1, self.bn1, x)
        extra = None if self.adapter is None else self.adapter(first)
        return self._joined(self.conv2, self.bn2, first, x, extra)


class Bottleneck(_Block):
    """1 x 1, 3 x 3, 1 x 1 convolutions; the adapter stands beside the 3 x 3."""

    def __init__(self, inner: int, planes: int, outer: int, stride: int, adapter: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        self.downsample = _downsample(inner, outer, stride)
        self.adapter = ConvAdapter(planes, stride) if adapter else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inner, H, W)` to `(B, outer, H / stride, W / stride)`."""
        first = self._rectified(self.conv1, self.bn1, x)
        middle = self._rectified(self.conv2, self.bn2, first)
        if self.adapter is not None:
            middle = middle + self.adapter(first)
        return self._joined(self.conv3, self.bn3, middle, x)


def bottleneck_stage(
    inner: int, planes: int, outer: int, depth: int, stride: int, adapter: bool
) -> nn.Sequential:
    """Chain `depth` bottlenecks, the first with `stride`."""
    first = Bottleneck(inner, planes, outer, stride, adapter)
    return _chained(first, [Bottleneck(outer, planes, outer, 1, adapter) for _ in range(depth - 1)])


def basic_stage(inner: int, planes: int, depth: int, stride: int, adapter: bool) -> nn.Sequential:
    """Chain `depth` basic blocks, the first with `stride`."""
    first = BasicBlock(inner, planes, stride, adapter)
    return _chained(first, [BasicBlock(planes, planes, 1, adapter) for _ in range(depth - 1)])


def _chained(first: _Block, rest: Sequence[_Block]) -> nn.Sequential:
    for block in rest:
        block.owns_input = True
    return nn.Sequential(first, *rest)
