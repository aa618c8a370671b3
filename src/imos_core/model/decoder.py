"""Decoder: memory readout, sensory memory and skip connections to mask logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.model.blocks import FeatureFusion, Upsample, gate_convolution, gated_update
from imos_core.model.guide import GuideEncoder

if TYPE_CHECKING:
    from torch import Tensor

    from imos_core.config import ModelConfig
    from imos_core.model.guide import Guide


class SensoryUpdate(nn.Module):
    """Refresh the sensory memory from three scales of the decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        g16, g8, g4 = config.decoder_channels
        mid = g8
        self.g16_conv = nn.Conv2d(g16, mid, 1)
        self.g8_conv = nn.Conv2d(g8, mid, 1)
        self.g4_conv = nn.Conv2d(g4 + 1, mid, 1)
        self.transform = gate_convolution(mid, config.hidden_dim)

    def forward(
        self, g16: Tensor, g8: Tensor, g4: Tensor, logits: Tensor, hidden: Tensor
    ) -> Tensor:
        """Return the next `hidden`.

        Parameters
        ----------
        g16, g8, g4 : Tensor
            The decoder at memory stride, stride 8 and stride 4, all averaged to the memory stride:
            `(B * n, C, h, w)`.
        logits : Tensor
            `(B * n, 1, H / 4, W / 4)`.
        hidden : Tensor
            `(B * n, CH, h, w)`.
        """
        seen = F.adaptive_avg_pool2d(logits, (g16.shape[-2], g16.shape[-1]))
        mixed = self.g16_conv(g16) + self.g8_conv(g8) + self.g4_conv(torch.cat([g4, seen], 1))
        return gated_update(self.transform(torch.cat([mixed, hidden], 1)), hidden)


class Decoder(nn.Module):
    """Three scales up to logits at stride 4 (and to full resolution where guided)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        _, c8, c16 = (p * config.expansion for p in config.query_planes)
        g16, g8, g4 = config.decoder_channels
        self.fuser = FeatureFusion(
            c16, config.value_dim + config.hidden_dim, g16, config.gate_reduction
        )
        self.hidden_update = SensoryUpdate(config)
        self.up_16_8 = Upsample(c8, g16, g8)
        self.up_8_4 = Upsample(config.f4_channels, g8, g4)
        self.pred = nn.Conv2d(g4, 1, 3, padding=1)
        self.guide = GuideEncoder(config) if config.guided else None
        self.detail = nn.Conv2d(g4, 16, 3, padding=1) if config.guided else None
        if config.guided:
            self.trust = nn.Parameter(torch.tensor(2.0))
        if config.guided and config.descriptors:
            self.trust_tracked = nn.Parameter(torch.tensor(0.0))
        if config.guided and config.flow:
            self.trust_flowed = nn.Parameter(torch.tensor(1.0))

    def forward(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        readout: Tensor,
        hidden: Tensor,
        update_hidden: bool,
        guide: Guide | None,
    ) -> tuple[Tensor, Tensor]:
        """Decode one frame.

        Parameters
        ----------
        features : tuple of Tensor
            Image features at memory stride, stride 8 and stride 4.
        readout : Tensor
            `(B, n, CV, h, w)`.
        hidden : Tensor
            `(B, n, CH, h, w)`.
        update_hidden : bool
            Whether to refresh the sensory memory.
        guide : Guide or None
            Needed by a guided network.

        Returns
        -------
        logits : Tensor
            `(B, n, H, W)`.
        hidden : Tensor
            `(B, n, CH, h, w)`.
        """
        f16, f8, f4 = features
        shape = readout.shape[:2]
        group = torch.cat([readout, hidden], 2).flatten(0, 1)
        g16 = self.fuser(f16, group)
        guidance = None
        if self.guide is not None:
            if guide is None:
                raise ValueError("A guided network needs the previous frame and its masks.")
            guidance = self.guide(guide, f4)
            g16 = g16 + guidance.g16
        g8 = self.up_16_8(f8, g16)
        if guidance is not None:
            g8 = g8 + guidance.g8
        g4 = self.up_8_4(f4, g8)
        if guidance is not None:
            g4 = g4 + guidance.g4
        size = (g16.shape[-2], g16.shape[-1])
        scales = [F.adaptive_avg_pool2d(x, size) for x in (g8, g4)] if update_hidden else []
        active = torch.relu(g4) if torch.is_grad_enabled() else g4.relu_()
        logits = self.pred(active)  # (B * n, 1, H / 4, W / 4)
        if update_hidden:
            hidden = self.hidden_update(g16, *scales, logits, hidden.flatten(0, 1)).unflatten(
                0, shape
            )
        full = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
        if self.detail is not None and guidance is not None:
            full = full + F.pixel_shuffle(self.detail(active), 4)
            # a matched mask is a good guess from the first step of training on
            full = full + self.trust * guidance.moved_mask
            if guidance.tracked_mask is not None:
                full = full + self.trust_tracked * guidance.tracked_mask
            if guidance.flowed_mask is not None:
                full = full + self.trust_flowed * guidance.flowed_mask
        return full.squeeze(1).unflatten(0, shape), hidden
