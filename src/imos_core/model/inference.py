"""The network as inference wants it: norms folded away, weights in the type of the arithmetic."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from imos_core.model.blocks import ResidualBlock, Upsample
from imos_core.model.encoders import QueryEncoder, ValueEncoder
from imos_core.model.fused import FusedConv2d, NativeConv2d, RectifiedConv2d
from imos_core.model.quantised import quantise
from imos_core.model.resnet import BasicBlock, Bottleneck
from imos_core.model.winograd import WinogradConv2d, Workspace
from imos_core.model.winograd_half import HalfWinogradConv2d, half_pays

if TYPE_CHECKING:
    from imos_core.model.network import IMOS


_PAIRS = [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("conv", "bn1"), ("convT", "bn2")]
"""Convolutions and the norms after them, by name within a block or an adapter."""


@torch.no_grad()
def for_inference(model: IMOS, dtype: torch.dtype, *, grey: bool = False) -> IMOS:
    """Return a copy that computes the same in less time; the original stays as it is.

    Batch norms, which rest, become part of the convolutions before them. Weights are cast to
    `dtype` once; autocast would do it for every slice anew. Images lie channels-last.

    Parameters
    ----------
    model : IMOS
        Network.
    dtype : torch.dtype
        Type that autocast computes in; float32 where it is off; int8: float32, but for
        convolutions in eight bits.
    grey : bool
        Whether the three channels of all frames would be alike: frames then have one, and the
        convolutions that see them the sum of their weights.
    """
    eight_bits = dtype == torch.int8
    dtype = torch.float32 if eight_bits else dtype
    network = copy.deepcopy(model).eval().requires_grad_(False)
    _fold_norms(network)
    if grey:
        _see_grey(network)
    _overwrite(network)
    on_processor = next(model.parameters()).device.type == "cpu"
    if on_processor and dtype == torch.float32:
        _save_products(network, WinogradConv2d)
    elif on_processor and dtype == torch.bfloat16 and half_pays():
        _save_products(network, HalfWinogradConv2d)
    if dtype != torch.float32:
        _cast(network, dtype)
    if on_processor:
        _use_processor(network, dtype)
    if eight_bits:
        quantise(network)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _fold_norms(network: IMOS) -> None:
    """Make batch norms part of the convolutions before them."""
    for module in list(network.modules()):
        in_a_row = isinstance(module, nn.Sequential)
        for convolution, norm in list(pairwise(module._modules)) if in_a_row else _PAIRS:
            _fold(module, convolution, norm)


def _overwrite(network: IMOS) -> None:
    """Let blocks overwrite what nobody needs any more."""
    for module in network.modules():
        if isinstance(module, BasicBlock | Bottleneck | ResidualBlock | Upsample):
            module.in_place = True


def _cast(network: IMOS, dtype: torch.dtype) -> None:
    """Cast weights once; autocast would do it for every slice anew."""
    for name, module in network.named_modules():
        if name.startswith("presence"):
            continue  # it is small, and judges in float32
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.to(dtype)


def _use_processor(network: IMOS, dtype: torch.dtype) -> None:
    """Let oneDNN do convolutions, and what comes after them as it writes."""
    for module in list(network.modules()):
        # decoders add in float32 what autocast has computed in less
        if dtype == torch.float32 or not isinstance(module, ResidualBlock):
            _fuse(module)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if NativeConv2d.serves(child):
                setattr(module, name, NativeConv2d(child))


def _see_grey(network: IMOS) -> None:
    """Let every convolution that sees frames see one channel for three."""
    frame = slice(0, 3)
    _add_up(network.key_encoder.conv1, [frame])
    _add_up(network.value_encoder.conv1, [frame])
    if network.decoder.guide is not None:
        # pixels of a cell of 4 x 4 are channels there
        _add_up(network.decoder.guide.stem, [frame, slice(3, 6)], 16)


def _add_up(convolution: nn.Conv2d, alike: list[slice], pixels: int = 1) -> None:
    """Add up weights of channels that are alike; what comes after them stays."""
    weight = convolution.weight.unflatten(1, (-1, pixels))
    sums = [weight[:, same].sum(1, keepdim=True) for same in alike]
    weight = torch.cat([*sums, weight[:, alike[-1].stop :]], 1).flatten(1, 2)
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.in_channels = weight.shape[1]


def _save_products(network: IMOS, kind: type[WinogradConv2d]) -> None:
    """Make large convolutions take half the time; they take more room."""
    workspace = Workspace(kind.dtype)
    for parent in [*network.key_encoder.modules(), *network.decoder.modules()]:
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and kind.serves(child):
                setattr(parent, name, kind(child, workspace))


def _fuse(parent: nn.Module) -> None:
    """Let convolutions of a module rectify and add as they write."""
    if isinstance(parent, BasicBlock | Bottleneck | ResidualBlock | QueryEncoder | ValueEncoder):
        for name, child in list(parent.named_children()):
            if name.startswith("conv") and FusedConv2d.serves(child):
                setattr(parent, name, FusedConv2d(child))
    elif isinstance(parent, nn.Sequential):
        for (name, child), (after, rectifier) in pairwise(list(parent.named_children())):
            if isinstance(rectifier, nn.ReLU) and FusedConv2d.serves(child):
                setattr(parent, name, RectifiedConv2d(child))
                setattr(parent, after, nn.Identity())


def _fold(parent: nn.Module, convolution: str, norm: str) -> None:
    """Make a batch norm part of the convolution before it, if there are both."""
    first, second = getattr(parent, convolution, None), getattr(parent, norm, None)
    if not isinstance(second, nn.BatchNorm2d):
        return
    if not isinstance(first, nn.Conv2d | nn.ConvTranspose2d):
        return
    assert second.running_mean is not None
    assert second.running_var is not None
    first.weight, first.bias = fuse_conv_bn_weights(
        first.weight,
        first.bias,
        second.running_mean,
        second.running_var,
        second.eps,
        second.weight,
        second.bias,
        transpose=isinstance(first, nn.ConvTranspose2d),
    )
    setattr(parent, norm, nn.Identity())
