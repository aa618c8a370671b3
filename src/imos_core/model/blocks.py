"""Building blocks of fusers and decoder: residual blocks, attention gates, gated update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.model.fused import FusedConv2d
from imos_core.model.winograd import WinogradConv2d, add_residual, convolve

if TYPE_CHECKING:
    from torch import Tensor


class ResidualBlock(nn.Module):
    """Pre-activated residual block without normalisation."""

    in_place = False
    """Whether results are added in place: less to allocate, but autocast would round otherwise."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(inner, outer, 3, padding=1) if inner != outer else None
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)

    def forward(self, x: Tensor, *, owned: bool = False) -> Tensor:
        """Map `(B, inner, h, w)` to `(B, outer, h, w)`.

        Parameters
        ----------
        x : Tensor
            Input.
        owned : bool
            Whether nobody needs the input any more, so that it may be changed.
        """
        skip = x if self.downsample is None else self.downsample(x)
        if isinstance(self.conv1, FusedConv2d) and isinstance(self.conv2, FusedConv2d):
            fresh = skip.clone() if skip is x and not owned else skip
            return self.conv2.onto(self.conv1.between(x), fresh)
        if isinstance(self.conv1, WinogradConv2d) and isinstance(self.conv2, WinogradConv2d):
            fresh = skip.clone() if skip is x and not owned else skip
            return add_residual(self.conv1, self.conv2, x, fresh)
        inner = convolve(self.conv1, x, relu=True)
        return self.add(convolve(self.conv2, inner, relu=True), skip)

    def add(self, out: Tensor, other: Tensor) -> Tensor:
        """Add to a result of a convolution."""
        return out.add_(other) if self.in_place else out + other


class _ChannelGate(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, channels // reduction),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        scale = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * torch.sigmoid(scale)[:, :, None, None]


class _GateConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)


class _SpatialGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spatial = _GateConv()

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial.conv(pooled))


class Attention(nn.Module):
    """Channel gate, then spatial gate (CBAM)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.ChannelGate = _ChannelGate(channels, reduction)
        self.SpatialGate = _SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """Gate `(B, C, h, w)`."""
        gated: Tensor = self.SpatialGate(self.ChannelGate(x))
        return gated


class FeatureFusion(nn.Module):
    """Fuse image features with per-object features.

    Parameters
    ----------
    image_channels, object_channels, outer : int
        Channels of the two inputs and of the result.
    reduction : int
        Reduction of the channel gate.
    """

    def __init__(
        self, image_channels: int, object_channels: int, outer: int, reduction: int
    ) -> None:
        super().__init__()
        self.block1 = ResidualBlock(image_channels + object_channels, outer)
        self.attention = Attention(outer, reduction)
        self.block2 = ResidualBlock(outer, outer)

    def forward(self, image: Tensor, group: Tensor) -> Tensor:
        """Fuse `image` `(B, Ci, h, w)` with `group` `(B * n, Co, h, w)`: `(B * n, outer, h, w)`."""
        # transformed weights take room: those of both parts serve any number of objects
        if len(group) == len(image) and not isinstance(self.block1.conv1, WinogradConv2d):
            mixed = self.block1(torch.cat([image, group], 1))
        else:
            mixed = self._mix(image, group)
        fused: Tensor = self.block2(mixed + self.attention(mixed), owned=True)
        return fused

    def _mix(self, image: Tensor, group: Tensor) -> Tensor:
        """Do as `block1`, but convolve the image once for all objects."""
        block = self.block1
        inner = _convolve_parts(block.conv1, image, group, relu=True)
        out = convolve(block.conv2, inner, relu=True)
        if block.downsample is None:
            return block.add(out, torch.cat([repeat_objects(image, group), group], 1))
        return block.add(out, _convolve_parts(block.downsample, image, group, relu=False))


def _convolve_parts(
    convolution: nn.Conv2d | WinogradConv2d, image: Tensor, group: Tensor, *, relu: bool
) -> Tensor:
    """Convolve (3 x 3) `image` and `group` as if stacked, for every object."""
    shared = convolve(convolution, image, relu=relu, bias=False)
    own = convolve(convolution, group, relu=relu, first=image.shape[1])
    return add_image(own, shared, in_place=not torch.is_grad_enabled())


def gate_convolution(inner: int, hidden: int) -> nn.Conv2d:
    """Convolution of input and sensory memory to the three gates of `gated_update`."""
    convolution = nn.Conv2d(inner + hidden, 3 * hidden, 3, padding=1)
    if not convolution.weight.is_meta:  # PyTorch would import its compiler there: a second, 70 MB
        nn.init.xavier_normal_(convolution.weight)
    return convolution


def gated_update(gates: Tensor, hidden: Tensor) -> Tensor:
    """Forget, update and candidate gates for the sensory memory (XMem, section 3.4).

    Parameters
    ----------
    gates : Tensor
        `(B * n, 3 * CH, h, w)` from a `gate_convolution`.
    hidden : Tensor
        `(B * n, CH, h, w)` sensory memory.

    Returns
    -------
    Tensor
        The next sensory memory.
    """
    forget, update, candidate = gates.chunk(3, 1)
    forget, update = torch.sigmoid(forget), torch.sigmoid(update)
    return forget * hidden * (1 - update) + update * torch.tanh(candidate)


class GatedUpdate(nn.Module):
    """Gated update from one input."""

    def __init__(self, inner: int, hidden: int) -> None:
        super().__init__()
        self.transform = gate_convolution(inner, hidden)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return the next `hidden` `(B * n, CH, h, w)`."""
        return gated_update(self.transform(torch.cat([x, hidden], 1)), hidden)


class Upsample(nn.Module):
    """Bring object features to the size of a skip connection and merge both."""

    in_place = False
    """As in `ResidualBlock`."""

    def __init__(self, skip: int, inner: int, outer: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, inner, 3, padding=1)
        self.out_conv = ResidualBlock(inner, outer)

    def forward(self, skip: Tensor, group: Tensor) -> Tensor:
        """Merge `skip` `(B, Cs, H, W)` and `group` `(B * n, inner, h, w)`."""
        image: Tensor = self.skip_conv(skip)
        fresh = group.shape[-2:] != image.shape[-2:]
        if fresh:
            group = F.interpolate(
                group, size=image.shape[-2:], mode="bilinear", align_corners=False
            )
        added = add_image(group, image, in_place=self.in_place and fresh)
        merged: Tensor = self.out_conv(added, owned=True)
        return merged


def add_image(group: Tensor, image: Tensor, *, in_place: bool) -> Tensor:
    """Add `(B, C, h, w)` to each object of `(B * n, C, h, w)`."""
    if len(group) == len(image):
        # an axis of one, taken apart and flattened, would hide that channels lie last
        return group.add_(image) if in_place else group + image
    objects = group.unflatten(0, (len(image), -1))
    added: Tensor = objects.add_(image[:, None]) if in_place else objects + image[:, None]
    return added.flatten(0, 1)


def repeat_objects(image: Tensor, group: Tensor) -> Tensor:
    """Repeat `(B, C, h, w)` for the objects of `group` `(B * n, ...)`: `(B * n, C, h, w)`."""
    objects = group.shape[0] // image.shape[0]
    return image if objects == 1 else image.repeat_interleave(objects, 0)
