"""Dense descriptors: a small network, trained for correspondence, that says what matches what.

The architecture is the backbone of XFeat (Potje et al., CVPR 2024) with its batch norms folded
into the convolutions. Its weights stay frozen: a few slices teach nobody what a hundred thousand
pairs of views have taught it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F

from imos_core.config import DESCRIPTOR_DIM

if TYPE_CHECKING:
    from torch import Tensor


def _layers(*shapes: tuple[int, int, int, int]) -> nn.Sequential:
    """Convolutions `(inner, outer, kernel, stride)`, each followed by ReLU."""
    layers: list[nn.Module] = []
    for inner, outer, kernel, stride in shapes:
        layers += [nn.Conv2d(inner, outer, kernel, stride, kernel // 2), nn.ReLU()]
    return nn.Sequential(*layers)


class DenseDescriptors(nn.Module):
    """One descriptor of unit variance per cell of 4 x 4 pixels.

    The network works at stride 8; it sees the frame at twice its size, which brings its cells to
    stride 4 of the frame.
    """

    def __init__(self) -> None:
        super().__init__()
        dim = DESCRIPTOR_DIM
        self.skip = nn.Conv2d(1, 24, 1)
        self.block1 = _layers((1, 4, 3, 1), (4, 8, 3, 2), (8, 8, 3, 1), (8, 24, 3, 2))
        self.block2 = _layers((24, 24, 3, 1), (24, 24, 3, 1))
        self.block3 = _layers((24, 64, 3, 2), (64, 64, 3, 1), (64, 64, 1, 1))
        self.block4 = _layers((64, 64, 3, 2), (64, 64, 3, 1), (64, 64, 3, 1))
        self.block5 = _layers((64, 128, 3, 2), (128, 128, 3, 1), (128, 128, 3, 1), (128, 64, 1, 1))
        self.fusion = _layers((64, 64, 3, 1), (64, 64, 3, 1))
        self.project = nn.Conv2d(64, dim, 1)
        self.requires_grad_(False)

    def forward(self, frame: Tensor) -> Tensor:
        """Describe `(B, channels, H, W)`: `(B, 64, H / 4, W / 4)`."""
        grey = frame.float().mean(1, keepdim=True)
        grey = F.interpolate(grey, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.instance_norm(grey)
        x2 = self.block2(self.block1(x) + self.skip(F.avg_pool2d(x, 4)))
        x3 = self.block3(x2)
        x4 = self.block4(x3)
        x5 = self.block5(x4)
        size = (x3.shape[-2], x3.shape[-1])
        for deep in (x4, x5):
            x3 = x3 + F.interpolate(deep, size=size, mode="bilinear", align_corners=False)
        described: Tensor = self.project(self.fusion(x3)).float()
        unit: Tensor = F.normalize(described, dim=1) * DESCRIPTOR_DIM**0.5
        return unit
