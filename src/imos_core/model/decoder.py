"""Decoder: memory readout, sensory memory and skip connections to mask logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.model.blocks import (
    FeatureFusion,
    ResidualBlock,
    Upsample,
    gate_convolution,
    gated_update,
    repeat_objects,
)

if TYPE_CHECKING:
    from torch import Tensor

    from imos_core.config import ModelConfig


class Guide(NamedTuple):
    """The previous frame and its masks, in the geometry of the frame to be segmented."""

    previous_frame: Tensor
    """`(B, 3, H, W)`."""
    frame: Tensor
    """`(B, 3, H, W)`."""
    previous_mask: Tensor
    """`(B, n, H, W)` probability of each object in the previous frame."""
    previous_others: Tensor
    """`(B, n, H, W)` probability of all other objects in the previous frame."""
    previous_f4: Tensor
    """`(B, C, H / 4, W / 4)` features of the previous frame at stride 4."""


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

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, hidden: Tensor) -> Tensor:
        """Return the next `hidden`, all inputs with folded objects `(B * n, C, ...)`."""
        size = (g16.shape[-2], g16.shape[-1])
        mixed = (
            self.g16_conv(g16)
            + self.g8_conv(F.adaptive_avg_pool2d(g8, size))
            + self.g4_conv(F.adaptive_avg_pool2d(g4, size))
        )
        return gated_update(self.transform(torch.cat([mixed, hidden], 1)), hidden)


class Guidance(NamedTuple):
    """What the guide adds to the decoder."""

    g16: Tensor
    """`(B * n, C16, h, w)` addition at memory stride."""
    g8: Tensor
    """Addition at stride 8."""
    g4: Tensor
    """Addition at stride 4."""
    moved_mask: Tensor
    """`(B * n, 1, H, W)` the previous mask, moved by local matching."""


class LocalMatching(nn.Module):
    """Move the previous mask to where its surroundings went.

    Each position at stride 4 looks for itself in the previous frame, near by rather than far off,
    and takes the mask (all 16 pixels of a cell) from there. One attention whose keys carry the
    position: ``score = exp(t) * key . key' - exp(n) * |p - p'|^2``.
    """

    _WIDTH = 40  # equal widths of keys and values let attention run fused

    def __init__(self, image_channels: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(image_channels, self._WIDTH - 4, 1)
        self.temperature = nn.Parameter(torch.tensor(2.0))
        # before anything is learned, what was here is here
        self.nearness = nn.Parameter(torch.tensor(-0.7))

    def forward(self, previous: Tensor, current: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Match and move.

        Parameters
        ----------
        previous, current : Tensor
            `(B, C, h, w)` image features at stride 4.
        cells : Tensor
            `(B * n, 32, h, w)` what is to be moved.

        Returns
        -------
        moved : Tensor
            `(B * n, 32, h, w)`.
        flow : Tensor
            `(B * n, 2, h, w)` where it came from, in cells.
        """
        height, width = current.shape[-2:]
        objects = cells.shape[0] // current.shape[0]
        rows = torch.arange(height, device=cells.device, dtype=torch.float32) - (height - 1) / 2
        cols = torch.arange(width, device=cells.device, dtype=torch.float32) - (width - 1) / 2
        place = torch.stack(torch.meshgrid(rows, cols, indexing="ij")).flatten(1)  # (2, h * w)
        nearness = self.nearness.exp()
        here = self._keys(current) * self.temperature.exp()
        there = self._keys(previous)
        batch = len(here)
        ones = here.new_ones(batch, 1, height * width)
        spread = place.expand(batch, -1, -1)
        far = -spread.square().sum(1, keepdim=True)
        query = torch.cat([here, 2 * nearness * spread, nearness * ones, 0 * ones], 1)
        key = torch.cat([there, spread, far, 0 * ones], 1)
        value = torch.cat([cells.float().reshape(batch, objects * 32, height * width), spread], 1)
        value = self._pad(value)
        moved = F.scaled_dot_product_attention(
            query.mT[:, None], key.mT[:, None], value.mT[:, None], scale=1.0
        )[:, 0].mT
        carried = moved[:, : 32 * objects].reshape(-1, 32, height, width)
        flow = moved[:, 32 * objects : 32 * objects + 2] - place
        return carried, repeat_objects(flow.reshape(-1, 2, height, width), carried)

    def _keys(self, features: Tensor) -> Tensor:
        return F.normalize(self.key(features).float(), dim=1).flatten(2)

    def _pad(self, value: Tensor) -> Tensor:
        missing = self._WIDTH - value.shape[1]
        return F.pad(value, (0, 0, 0, missing)) if missing > 0 else value


class GuideEncoder(nn.Module):
    """Bring the previous frame and its mask, at full resolution, to the decoder's scales.

    Pixel-unshuffling keeps every pixel of the old contour; local matching moves it, convolutions
    at strides 4, 8 and the memory stride judge the result.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        g16, g8, g4 = config.decoder_channels
        width = config.guide_channels
        self.matching = LocalMatching(config.query_planes[0] * config.expansion)
        self.stem = nn.Conv2d(8 * 16, width, 3, padding=1)
        self.moved = nn.Conv2d(2 * 16 + 2, width, 3, padding=1)
        self.block4 = ResidualBlock(width, width)
        self.down8 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.block8 = ResidualBlock(2 * width, 2 * width)
        self.to_g16 = nn.Conv2d(2 * width, g16, 3, stride=config.memory_stride // 8, padding=1)
        self.to_g8 = nn.Conv2d(2 * width, g8, 1)
        self.to_g4 = nn.Conv2d(width, g4, 1)

    def forward(self, guide: Guide, f4: Tensor) -> Guidance:
        """Encode the guide of a frame whose features at stride 4 are `f4` `(B, C, h, w)`."""
        objects = guide.previous_mask.shape[1]
        frames = torch.cat([guide.previous_frame, guide.frame], 1)
        # masks to -1..1: zero is "unknown", as for normalised intensities
        masks = 2 * torch.stack([guide.previous_mask, guide.previous_others], 2) - 1
        image = frames[:, None].expand(-1, objects, -1, -1, -1)
        x = torch.cat([image, masks], 2).flatten(0, 1)  # (B * n, 8, H, W)
        cells = F.pixel_unshuffle(masks.flatten(0, 1), 4)  # (B * n, 32, H / 4, W / 4)
        moved, flow = self.matching(guide.previous_f4, f4, cells)
        x4 = self.stem(F.pixel_unshuffle(x, 4)) + self.moved(torch.cat([moved, flow], 1))
        x4 = self.block4(x4)
        x8 = self.block8(self.down8(torch.relu(x4)))
        mask = F.pixel_shuffle(moved[:, :16], 4)
        return Guidance(self.to_g16(torch.relu(x8)), self.to_g8(x8), self.to_g4(x4), mask)


class Decoder(nn.Module):
    """Three scales up to logits at stride 4 (and to full resolution where guided)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c4, c8, c16 = (p * config.expansion for p in config.query_planes)
        g16, g8, g4 = config.decoder_channels
        self.fuser = FeatureFusion(
            c16, config.value_dim + config.hidden_dim, g16, config.gate_reduction
        )
        self.hidden_update = SensoryUpdate(config)
        self.up_16_8 = Upsample(c8, g16, g8)
        self.up_8_4 = Upsample(c4, g8, g4)
        self.pred = nn.Conv2d(g4, 1, 3, padding=1)
        self.guide = GuideEncoder(config) if config.guided else None
        self.detail = nn.Conv2d(g4, 16, 3, padding=1) if config.guided else None
        if config.guided:
            self.trust = nn.Parameter(torch.tensor(2.0))

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
        active = torch.relu(g4)
        logits = self.pred(active)  # (B * n, 1, H / 4, W / 4)
        if update_hidden:
            hidden = self.hidden_update(
                g16, g8, torch.cat([g4, logits], 1), hidden.flatten(0, 1)
            ).unflatten(0, shape)
        full = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
        if self.detail is not None and guidance is not None:
            full = full + F.pixel_shuffle(self.detail(active), 4)
            # a matched mask is a good guess from the first step of training on
            full = full + self.trust * guidance.moved_mask
        return full.squeeze(1).unflatten(0, shape), hidden
