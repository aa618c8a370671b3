"""Winograd's convolution in bfloat16: fewer multiplications, somewhat more rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from imos_core.model.fused import native
from imos_core.model.winograd import Factors, WinogradConv2d

if TYPE_CHECKING:
    from torch import Tensor

_TILES = 900
"""Tiles at a time, about."""
_OF_WEIGHT = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def half_pays() -> bool:
    """Whether it is faster than oneDNN's own convolution in bfloat16, on this processor.

    It is where vector units multiply. With AMX, multiplications cost next to nothing.
    """
    # missing in older versions, which do not compute in bfloat16 by themselves either
    matrices = getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return native(torch.bfloat16) and wide and not matrices


class _HalfFactors:
    """Transformed weights: 16 matrices to multiply with.

    Parameters
    ----------
    weight : Tensor
        `(C_out, C_in, 3, 3)` float32.
    """

    def __init__(self, weight: Tensor) -> None:
        outer, inner = weight.shape[:2]
        way = weight.new_tensor(_OF_WEIGHT)
        pixels = weight.permute(3, 2, 0, 1).reshape(9, -1)
        matrices = (torch.kron(way, way) @ pixels).view(16, outer, inner).mT
        self._matrices = matrices.to(torch.bfloat16, memory_format=torch.contiguous_format)

    def multiply(self, x: Tensor, out: Tensor) -> None:
        """Multiply `(16, n, C_in)` into `(16, n, C_out)`."""
        torch.bmm(x, self._matrices, out=out)


class HalfWinogradConv2d(WinogradConv2d):
    """A 3 x 3 convolution with stride 1 and padding 1, computed as F(2 x 2, 3 x 3) in bfloat16.

    The transforms are sums and differences (Lavin and Gray, "Fast algorithms for convolutional
    neural networks", CVPR 2016, section 4.1), which round to 1.5 to 2 times the error that a direct
    convolution in bfloat16 has; those of larger tiles to ten times.

    Parameters
    ----------
    convolution : nn.Conv2d
        What it computes, with weights in float32.
    workspace : Workspace
        Of bfloat16, shared with other convolutions of the same thread.
    """

    tile = 2
    dtype = torch.bfloat16

    def tiles_at_once(self) -> int:
        """How many tiles to compute at a time, about."""
        return _TILES

    def transform(self, weight: Tensor) -> Factors:
        """Transform weights `(C_out, C_in, 3, 3)`."""
        return _HalfFactors(weight)

    def convolve_tiles(
        self,
        padded: Tensor,
        factors: Factors,
        shape: torch.Size,
        one: Tensor,
        other: Tensor,
    ) -> Tensor:
        """Convolve rows of tiles; see `WinogradConv2d.convolve_tiles`."""
        images, _, wide, inner = padded.shape
        _, height, width, outer = shape
        down, across = -(-height // 2), -(-width // 2)
        tiles = images * down * across
        rows = padded[:, : 2 * down + 2].unflatten(1, (down + 1, 2))
        high = other[: 4 * images * down * wide * inner].view(4, images, down, wide, inner)
        _differences(rows[:, :-1, 0], rows[:, :-1, 1], rows[:, 1:, 0], rows[:, 1:, 1], high)
        columns = high.unflatten(3, (across + 1, 2))
        both = one[: 16 * tiles * inner].view(4, 4, images, down, across, inner)
        _differences(
            columns[:, :, :, :-1, 0],
            columns[:, :, :, :-1, 1],
            columns[:, :, :, 1:, 0],
            columns[:, :, :, 1:, 1],
            both,
        )
        product = other[: 16 * tiles * outer].view(4, 4, tiles, outer)
        factors.multiply(both.view(16, tiles, inner), product.view(16, tiles, outer))
        mixed = one[: 8 * tiles * outer].view(2, 4, tiles, outer)
        torch.add(product[0], product[1], out=mixed[0]).add_(product[2])
        torch.sub(product[1], product[2], out=mixed[1]).sub_(product[3])
        mixed[:, 0].add_(mixed[:, 1]).add_(mixed[:, 2])
        mixed[:, 1].sub_(mixed[:, 2]).sub_(mixed[:, 3])
        result: Tensor = mixed[:, :2].unflatten(2, (images, down, across))
        return result


def _differences(a: Tensor, b: Tensor, c: Tensor, d: Tensor, out: Tensor) -> None:
    """Transform the four elements of tiles along one axis into `(4, ...)`."""
    torch.sub(a, c, out=out[0])
    torch.add(b, c, out=out[1])
    torch.sub(c, b, out=out[2])
    torch.sub(b, d, out=out[3])
