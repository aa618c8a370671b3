"""Guide: the previous frame and its mask, moved to where the object went."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.config import DESCRIPTOR_DIM
from imos_core.model.blocks import ResidualBlock, repeat_objects
from imos_core.model.flow import optical_flow, warp

if TYPE_CHECKING:
    from torch import Tensor

    from imos_core.config import ModelConfig


class Guide(NamedTuple):
    """The previous frame and its masks, in the geometry of the frame to be segmented."""

    previous_frame: Tensor
    """`(B, channels, H, W)`."""
    frame: Tensor
    """`(B, channels, H, W)`."""
    previous_mask: Tensor
    """`(B, n, H, W)` probability of each object in the previous frame."""
    previous_others: Tensor
    """`(B, n, H, W)` probability of all other objects in the previous frame."""
    previous_f4: Tensor
    """`(B, C, H / 4, W / 4)` features of the previous frame at stride 4."""
    flow: Tensor | None = None
    """`(B, 2, H, W)`, as `frame_flow` finds it, where somebody has found it already."""


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
    tracked_mask: Tensor | None
    """The same, moved by dense descriptors, where the network has them."""
    flowed_mask: Tensor | None
    """The same, moved by optical flow, where the network uses it."""


class LocalMatching(nn.Module):
    """Move the previous mask to where its surroundings went.

    Each position at stride 4 looks for itself in the previous frame, near by rather than far off,
    and takes the mask (all 16 pixels of a cell) from there. One attention whose keys carry the
    position: ``score = exp(t) * key . key' - exp(n) * |p - p'|^2``.
    """

    _WIDTH = 40  # equal widths of keys and values let attention run fused

    def __init__(self, channels: int, temperature: float = 2.0, nearness: float = -0.7) -> None:
        super().__init__()
        self.key = nn.Conv2d(channels, self._WIDTH - 4, 1)
        self.temperature = nn.Parameter(torch.tensor(temperature))
        # before anything is learned, what was here is here
        self.nearness = nn.Parameter(torch.tensor(nearness))

    def forward(self, previous: Tensor, current: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Match and move.

        Parameters
        ----------
        previous, current : Tensor
            `(B, C, h, w)` features at stride 4.
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
        batch, objects = len(current), cells.shape[0] // current.shape[0]
        rows = torch.arange(height, device=cells.device, dtype=torch.float32) - (height - 1) / 2
        cols = torch.arange(width, device=cells.device, dtype=torch.float32) - (width - 1) / 2
        place = torch.stack(torch.meshgrid(rows, cols, indexing="ij"), -1).flatten(0, 1)
        nearness = self.nearness.exp()
        far = -place.square().sum(1, keepdim=True)
        one, none = torch.ones_like(far), torch.zeros_like(far)
        # the fused kernel wants channels that stand together: positions come before channels
        query = self._tokens(
            self._keys(current) * self.temperature.exp(),
            torch.cat([2 * nearness * place, nearness * one, none], 1),
        )
        key = self._tokens(self._keys(previous), torch.cat([place, far, none], 1))
        what = cells.float().reshape(batch, objects * 32, height * width).mT
        missing = max(self._WIDTH - 2 - what.shape[2], 0)
        value = self._tokens(what, torch.cat([place, none.expand(-1, missing)], 1))
        moved = F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0].mT
        carried = moved[:, : 32 * objects].reshape(-1, 32, height, width)
        flow = moved[:, 32 * objects : 32 * objects + 2] - place.mT
        return carried, repeat_objects(flow.reshape(-1, 2, height, width), carried)

    def _keys(self, features: Tensor) -> Tensor:
        """Keys `(B, h * w, C)`."""
        keys = self.key(features).float().permute(0, 2, 3, 1).flatten(1, 2)
        return F.normalize(keys, dim=2)

    @staticmethod
    def _tokens(tokens: Tensor, same: Tensor) -> Tensor:
        """Add channels that are the same in every batch; one head."""
        return torch.cat([tokens, same.expand(len(tokens), -1, -1)], 2)[:, None]


class GuideEncoder(nn.Module):
    """Bring the previous frame and its mask, at full resolution, to the decoder's scales.

    Pixel-unshuffling keeps every pixel of the old contour. It is moved three ways: by what the
    network has learned, over longer ways by dense descriptors, and to a fraction of a pixel by
    optical flow; convolutions at strides 4, 8 and the memory stride judge the results.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        g16, g8, g4 = config.decoder_channels
        width = config.guide_channels
        self.matching = LocalMatching(config.f4_channels)
        self.stem = nn.Conv2d(8 * 16, width, 3, padding=1)
        self.moved = nn.Conv2d(2 * 16 + 2, width, 3, padding=1)
        self.block4 = ResidualBlock(width, width)
        self.down8 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.block8 = ResidualBlock(2 * width, 2 * width)
        self.to_g16 = nn.Conv2d(2 * width, g16, 3, stride=config.memory_stride // 8, padding=1)
        self.to_g8 = nn.Conv2d(2 * width, g8, 1)
        self.to_g4 = nn.Conv2d(width, g4, 1)
        self.tracking: LocalMatching | None = None
        if config.descriptors:
            self.tracking = LocalMatching(DESCRIPTOR_DIM, temperature=3.4, nearness=-3.0)
            self.tracked = nn.Conv2d(2 * 16 + 2, width, 3, padding=1)
            nn.init.zeros_(self.tracked.weight)
        self.flowed: nn.Conv2d | None = None
        if config.flow:
            self.flowed = nn.Conv2d(3 * 16 + 2, width, 3, padding=1)
            nn.init.zeros_(self.flowed.weight)

    def forward(self, guide: Guide, f4: Tensor) -> Guidance:
        """Encode the guide of a frame whose features at stride 4 are `f4` `(B, C, h, w)`."""
        frames = torch.cat([guide.previous_frame, guide.frame], 1)
        # masks to -1..1: zero is "unknown", as for normalised intensities
        masks = 2 * torch.stack([guide.previous_mask, guide.previous_others], 2) - 1
        cells = F.pixel_unshuffle(masks.flatten(0, 1), 4)  # (B * n, 32, H / 4, W / 4)
        # rounded before it is moved around, as the convolution rounds it anyway
        dtype = self.stem.weight.dtype
        image = repeat_objects(F.pixel_unshuffle(frames.to(dtype), 4), cells)
        moved, flow = self.matching(guide.previous_f4, f4, cells)
        x4 = self.stem(torch.cat([image, cells.to(dtype)], 1))
        x4 = x4 + self.moved(torch.cat([moved, flow], 1))
        tracked_mask = None
        if self.tracking is not None:
            tracked, way = self.tracking(
                guide.previous_f4[:, -DESCRIPTOR_DIM:], f4[:, -DESCRIPTOR_DIM:], cells
            )
            x4 = x4 + self.tracked(torch.cat([tracked, way], 1))
            tracked_mask = F.pixel_shuffle(tracked[:, :16], 4)
        flowed_mask = None
        if self.flowed is not None:
            evidence, flowed_mask = _flow_along(guide, masks)
            x4 = x4 + self.flowed(evidence.to(x4.dtype))
        x4 = self.block4(x4)
        x8 = self.block8(self.down8(torch.relu(x4)))
        mask = F.pixel_shuffle(moved[:, :16], 4)
        return Guidance(
            self.to_g16(torch.relu(x8)),
            self.to_g8(x8),
            self.to_g4(x4),
            mask,
            tracked_mask,
            flowed_mask,
        )


def frame_flow(frame: Tensor, previous_frame: Tensor) -> Tensor:
    """Optical flow `(B, 2, H, W)` between frames `(B, channels, H, W)`; masks have no part in it.

    See `imos_core.model.flow.optical_flow`.
    """
    return optical_flow(_grey(frame), _grey(previous_frame))


def _grey(frame: Tensor) -> Tensor:
    return frame.mean(1, keepdim=True)


def _flow_along(guide: Guide, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Move the masks by optical flow.

    Parameters
    ----------
    guide : Guide
        Both frames.
    masks : Tensor
        `(B, n, 2, H, W)` previous masks of object and others, -1..1.

    Returns
    -------
    evidence : Tensor
        `(B * n, 50, H / 4, W / 4)` moved masks, how badly the frames then differ, and the flow.
    mask : Tensor
        `(B * n, 1, H, W)` the moved mask of the object.
    """
    now, before = (_grey(x) for x in (guide.frame, guide.previous_frame))
    flow = guide.flow if guide.flow is not None else optical_flow(now, before)
    seen = warp(torch.cat([masks.flatten(1, 2), before], 1), flow)
    moved = seen[:, :-1].unflatten(1, masks.shape[1:3]).flatten(0, 1)
    differ = (now.float() - seen[:, -1:]).abs().clamp(max=3)
    planes = torch.cat([moved, repeat_objects(differ, moved)], 1)
    cells = F.pixel_unshuffle(planes, 4)
    steps = repeat_objects(F.avg_pool2d(flow, 4) / 4, moved)
    return torch.cat([cells, steps], 1), moved[:, :1]
