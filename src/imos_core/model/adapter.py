"""Convolutional adapters: the small trainable branch that makes frozen encoders medical.

Paper, section 3.3 and figure 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class ConvAdapter(nn.Module):
    """Down-projection, up-projection and a learned scale, beside one 3 x 3 convolution.

    Parameters
    ----------
    planes : int
        Channels in and out.
    stride : int
        Stride of the convolution that the adapter stands beside.
    """

    def __init__(self, planes: int, stride: int = 1) -> None:
        super().__init__()
        inner = max(planes // 4, 1)
        self.conv = nn.Conv2d(planes, inner, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.convT = nn.ConvTranspose2d(inner, planes, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.gate = nn.Parameter(torch.full((1,), 0.02))

    def forward(self, x: Tensor) -> Tensor:
        """Return the correction `(B, planes, H / stride, W / stride)` for `x`."""
        x = torch.relu(self.bn1(self.conv(x)))
        return self.gate * torch.relu(self.bn2(self.convT(x)))


def freeze_encoders(model: nn.Module) -> None:
    """Freeze both encoders except their adapters (iMOS training).

    The value encoder's fuser and sensory update belong to the encoder and are frozen too.
    """
    for name, parameter in model.named_parameters():
        inside = name.startswith(("key_encoder.", "value_encoder."))
        parameter.requires_grad_(not inside or ".adapter." in name)


def adapter_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Select the tensors that belong to adapters."""
    return {k: v for k, v in model.state_dict().items() if ".adapter." in k}
