"""Query encoder, key projection and value encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.config import DESCRIPTOR_DIM
from imos_core.model.blocks import FeatureFusion, GatedUpdate
from imos_core.model.descriptors import DenseDescriptors
from imos_core.model.fused import rectified
from imos_core.model.resnet import basic_stage, bottleneck_stage

if TYPE_CHECKING:
    from torch import Tensor

    from imos_core.config import ModelConfig


class QueryEncoder(nn.Module):
    """Image features at strides 4, 8 and the memory stride, independent of masks."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        p1, p2, p3 = config.query_planes
        d1, d2, d3 = config.query_depths
        c1, c2, c3 = (p * config.expansion for p in config.query_planes)
        self.conv1 = nn.Conv2d(3, config.stem_channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem_channels)
        self.res2 = bottleneck_stage(config.stem_channels, p1, c1, d1, 1, config.adapters)
        self.layer2 = bottleneck_stage(c1, p2, c2, d2, 2, config.adapters)
        self.layer3 = bottleneck_stage(c2, p3, c3, d3, config.memory_stride // 8, config.adapters)
        self.descriptors: DenseDescriptors | None = None
        if config.descriptors:
            self.descriptors = DenseDescriptors()
            self.describe = nn.Conv2d(DESCRIPTOR_DIM, c3, 1, bias=False)
            nn.init.zeros_(self.describe.weight)
            self._cells = config.memory_stride // 4

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode `(B, channels, H, W)`; return features at memory stride, stride 8 and stride 4.

        The descriptors, where there are any, are the last channels at stride 4.
        """
        x = rectified(self.conv1, self.bn1, frame)
        f4 = self.res2(F.max_pool2d(x, 3, 2, 1))
        f8 = self.layer2(f4)
        f16 = self.layer3(f8)
        if self.descriptors is not None:
            described = self.descriptors(frame)
            f16 = f16 + self.describe(F.avg_pool2d(described, self._cells))
            f4 = torch.cat([f4, described.to(f4.dtype)], 1)
        return f16, f8, f4


class KeyProjection(nn.Module):
    """Key, shrinkage and selection from the deepest image features (XMem, section 3.3)."""

    def __init__(self, inner: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inner, key_dim, 3, padding=1)
        self.d_proj = nn.Conv2d(inner, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(inner, key_dim, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight.data)
        nn.init.zeros_(self.key_proj.bias.data)  # type: ignore[union-attr]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return key `(B, CK, h, w)`, shrinkage `(B, 1, h, w)`, selection `(B, CK, h, w)`."""
        shrinkage = self.d_proj(features).square() + 1
        return self.key_proj(features), shrinkage, torch.sigmoid(self.e_proj(features))


class ValueEncoder(nn.Module):
    """Memory values from a frame and the masks of its objects."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        v1, v2, v3 = config.value_planes
        d1, d2, d3 = config.value_depths
        self.conv1 = nn.Conv2d(5, config.stem_channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem_channels)
        self.layer1 = basic_stage(config.stem_channels, v1, d1, 1, config.adapters)
        self.layer2 = basic_stage(v1, v2, d2, 2, config.adapters)
        self.layer3 = basic_stage(v2, v3, d3, config.memory_stride // 8, config.adapters)
        image_channels = config.query_planes[2] * config.expansion
        self.fuser = FeatureFusion(image_channels, v3, config.value_dim, config.gate_reduction)
        self.hidden_reinforce = GatedUpdate(config.value_dim, config.hidden_dim)

    def forward(
        self,
        frame: Tensor,
        features: Tensor,
        hidden: Tensor,
        masks: Tensor,
        others: Tensor,
        deep_update: bool,
    ) -> tuple[Tensor, Tensor]:
        """Encode one memory frame.

        Parameters
        ----------
        frame : Tensor
            `(B, channels, H, W)`.
        features : Tensor
            `(B, C, h, w)` of the same frame, from the query encoder.
        hidden : Tensor
            `(B, n, CH, h, w)` sensory memory.
        masks, others : Tensor
            `(B, n, H, W)` probability of each object, and of all other objects.
        deep_update : bool
            Whether to refresh the sensory memory.

        Returns
        -------
        value : Tensor
            `(B, n, CV, h, w)`.
        hidden : Tensor
            `(B, n, CH, h, w)`.
        """
        batch, objects = masks.shape[:2]
        image = frame[:, None].expand(-1, objects, -1, -1, -1)
        x = torch.cat([image, masks[:, :, None], others[:, :, None]], 2).flatten(0, 1)
        x = F.max_pool2d(rectified(self.conv1, self.bn1, x), 3, 2, 1)
        value = self.fuser(features, self.layer3(self.layer2(self.layer1(x))))
        if deep_update:
            hidden = self.hidden_reinforce(value, hidden.flatten(0, 1)).unflatten(
                0, (batch, objects)
            )
        return value.unflatten(0, (batch, objects)), hidden
