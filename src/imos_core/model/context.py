"""Image context: a small network, trained to classify photographs, says what things look like.

The architecture is EfficientNet-Lite0 (Tan and Le, ICML 2019; the Lite variant of 2020) down to its
stride of 16, with its batch norms folded into the convolutions. Its weights stay frozen: a few
thousand images teach nobody what a million have taught it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.config import CONTEXT_DIMS
from imos_core.model.fused import clipped

if TYPE_CHECKING:
    from torch import Tensor

STAGES = ((16, 1, 3, 1, 1), (24, 6, 3, 2, 2), (40, 6, 5, 2, 2), (80, 6, 3, 2, 3), (112, 6, 5, 1, 3))
"""Channels, expansion, kernel, stride of the first block, and blocks of each stage."""
STEM = 32
"""Channels of the first convolution."""
_GAIN = 0.5
"""From normalised intensities to the range that it was trained in."""


class InvertedResidual(nn.Module):
    """Expand, convolve every channel by itself, project; added to the input where shapes agree."""

    def __init__(self, inner: int, outer: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        middle = inner * expansion
        self.expand = nn.Conv2d(inner, middle, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(middle, middle, kernel, stride, groups=middle)
        self.project = nn.Conv2d(middle, outer, 1)
        self._margins = _margins(kernel, stride)
        self._adds = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inner, H, W)` to `(B, outer, H / stride, W / stride)`."""
        middle = x if self.expand is None else clipped(self.expand, x)
        out: Tensor = self.project(clipped(self.depthwise, F.pad(middle, self._margins)))
        return out.add_(x) if self._adds else out


class ImageContext(nn.Module):
    """Features of cells of 4 x 4 and of 8 x 8 pixels, of zero mean and unit variance in each cell.

    The network works at strides 8 and 16; it sees the frame at twice its size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2)
        self.stages = nn.ModuleList()
        widths = (STEM, *(stage[0] for stage in STAGES))
        for (inner, outer), (_, expansion, kernel, stride, depth) in zip(
            pairwise(widths), STAGES, strict=True
        ):
            first = InvertedResidual(inner, outer, expansion, kernel, stride)
            rest = (InvertedResidual(outer, outer, expansion, kernel, 1) for _ in range(depth - 1))
            self.stages.append(nn.Sequential(first, *rest))
        self.requires_grad_(False)

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Describe `(B, 3, H, W)`: `(B, 40, H / 4, W / 4)` and `(B, 112, H / 8, W / 8)`."""
        found = {}
        with torch.no_grad():
            seen = F.interpolate(_GAIN * frame, scale_factor=2, mode="bilinear")
            x = clipped(self.stem, F.pad(seen, _margins(3, 2)))
            for stage, (width, *_) in zip(self.stages, STAGES, strict=True):
                x = stage(x)
                found[width] = x
            fine, coarse = (_standardised(found[width]) for width in CONTEXT_DIMS)
        return fine, coarse


def _margins(kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Padding of a convolution of a side that `stride` divides: the odd pixel goes after it."""
    total = kernel - stride
    return (total // 2, total - total // 2) * 2


def _standardised(features: Tensor) -> Tensor:
    """Bring the channels of every cell to zero mean and unit variance."""
    return F.layer_norm(features.float().movedim(1, -1), features.shape[1:2]).movedim(-1, 1)
