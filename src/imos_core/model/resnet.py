"""Residual trunks (stride 4, 8 and 16 or 8) whose blocks may carry an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from imos_core.model.adapter import ConvAdapter

if TYPE_CHECKING:
    from torch import Tensor


def _downsample(inner: int, outer: int, stride: int) -> nn.Sequential | None:
    """Projection for the skip connection, where shape changes."""
    if stride == 1 and inner == outer:
        return None
    return nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))


class _Block(nn.Module):
    """What both kinds of block share."""

    in_place = False
    """Whether fresh results are overwritten: less to allocate, but not for training."""

    def _relu(self, fresh: Tensor) -> Tensor:
        return fresh.relu_() if self.in_place else torch.relu(fresh)

    def _join(self, fresh: Tensor, skip: Tensor) -> Tensor:
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
        first = self._relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(first))
        if self.adapter is not None:
            out = out + self.adapter(first)
        return self._join(out, x if self.downsample is None else self.downsample(x))


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
        first = self._relu(self.bn1(self.conv1(x)))
        middle = self._relu(self.bn2(self.conv2(first)))
        if self.adapter is not None:
            middle = middle + self.adapter(first)
        out = self.bn3(self.conv3(middle))
        return self._join(out, x if self.downsample is None else self.downsample(x))


def bottleneck_stage(
    inner: int, planes: int, outer: int, depth: int, stride: int, adapter: bool
) -> nn.Sequential:
    """Chain `depth` bottlenecks, the first with `stride`."""
    return nn.Sequential(
        Bottleneck(inner, planes, outer, stride, adapter),
        *(Bottleneck(outer, planes, outer, 1, adapter) for _ in range(depth - 1)),
    )


def basic_stage(inner: int, planes: int, depth: int, stride: int, adapter: bool) -> nn.Sequential:
    """Chain `depth` basic blocks, the first with `stride`."""
    return nn.Sequential(
        BasicBlock(inner, planes, stride, adapter),
        *(BasicBlock(planes, planes, 1, adapter) for _ in range(depth - 1)),
    )
