"""Winograd's convolution: large 3 x 3 ones with a quarter of the multiplications, in float32."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.model.fused import NativeConv2d, native

if TYPE_CHECKING:
    from torch import Tensor

_TILE = 4
"""Pixels of a tile of the result, each way; the tile of the input it needs has two more."""
_MANY_CHANNELS = 256
"""Channels in and out from which the work saved is more than the work added."""
_TILES = 112
"""Tiles at a time: few enough for the processor's caches, enough for a quick matrix product."""

_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))
"""Where polynomials are evaluated, besides infinity; these round half as much as whole numbers do.

Alam, Anderson, Barabasz and Gregg, "Winograd convolution for deep neural networks: efficient point
selection", 2022.
"""


def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Transforms of input `(6, 6)`, weight `(6, 3)` and result `(4, 6)`, in float64.

    Toom and Cook's construction, as in Lavin and Gray, "Fast algorithms for convolutional neural
    networks", CVPR 2016: polynomials are evaluated at the points, multiplied and interpolated.
    """
    at = torch.tensor(_POINTS, dtype=torch.float64)

    def evaluate(terms: int) -> Tensor:
        infinity = torch.zeros(1, terms, dtype=torch.float64)
        infinity[0, -1] = 1
        return torch.cat([at[:, None] ** torch.arange(terms), infinity])

    apart = at[:, None] - at
    apart.fill_diagonal_(1)
    scale = torch.cat([apart.prod(1), torch.ones(1, dtype=torch.float64)])[:, None]
    of_input = torch.linalg.inv(evaluate(6)).T * scale
    return of_input, evaluate(3) / scale, evaluate(_TILE).T


class Workspace(threading.local):
    """Room for what lies between the steps of a convolution, for one after the other.

    What is allocated and freed again and again costs more time than the arithmetic. Every thread
    has a room of its own.
    """

    def __init__(self) -> None:
        self._room = torch.empty(0)

    def take(self, *sizes: int) -> list[Tensor]:
        """Return flat tensors of float32, whatever they hold."""
        if sum(sizes) > self._room.numel():
            self._room = torch.empty(sum(sizes))
        return list(self._room[: sum(sizes)].split(sizes))


class _Factors:
    """Transformed weights: 36 matrices to multiply with, by oneDNN where it is there.

    On other processors than Intel's that gets up to twice as much out of them as `torch.bmm`.

    Parameters
    ----------
    weight : Tensor
        `(C_out, C_in, 3, 3)`.
    """

    def __init__(self, weight: Tensor) -> None:
        outer, inner = weight.shape[:2]
        way = _transforms()[1].to(weight)
        pixels = weight.permute(2, 3, 0, 1).reshape(9, -1)
        self._ordered = native(weight.dtype)
        self._matrices: list[Tensor] = []
        # a few at a time: what is allocated for the first serves the others too
        for rows in torch.kron(way, way).split(6):
            for matrix in (rows @ pixels).view(-1, outer, inner):
                self._matrices.append(self._kept(matrix))

    def _kept(self, matrix: Tensor) -> Tensor:
        if not self._ordered:
            return matrix.T
        ordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(matrix, _TILES)
        return ordered

    def multiply(self, x: Tensor, out: Tensor) -> None:
        """Multiply `(36, n, C_in)` into `(36, n, C_out)`."""
        parts = zip(x, self._matrices, strict=True)
        if self._ordered:
            linear = torch.ops.mkldnn._linear_pointwise
            torch.stack([linear(a, b, None, "none", [], "") for a, b in parts], out=out)
        else:
            for (a, b), result in zip(parts, out, strict=True):
                torch.mm(a, b, out=result)


class WinogradConv2d(nn.Module):
    """A 3 x 3 convolution with stride 1 and padding 1, computed as F(4 x 4, 3 x 3).

    On a processor this takes about half the time of the direct convolution where there are 256
    channels and more. Results differ by some 1e-6 of their size; weights take four times the room.

    Parameters
    ----------
    convolution : nn.Conv2d
        What it computes; see `serves`.
    workspace : Workspace
        Shared with other convolutions of the same thread.
    """

    weight: Tensor
    bias: Tensor | None
    _of_input: Tensor
    _of_result: Tensor

    def __init__(self, convolution: nn.Conv2d, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self.register_buffer("weight", convolution.weight.detach(), persistent=False)
        self.register_buffer("bias", convolution.bias, persistent=False)
        of_input, _, of_result = _transforms()
        self.register_buffer("_of_input", of_input.float(), persistent=False)
        self.register_buffer("_of_result", of_result.float().contiguous(), persistent=False)
        self._transformed: dict[tuple[int, int], _Factors] = {}

    @staticmethod
    def serves(convolution: nn.Conv2d) -> bool:
        """Whether a convolution can be computed like this, and gains by it."""
        return (
            min(convolution.in_channels, convolution.out_channels) >= _MANY_CHANNELS
            and convolution.kernel_size == (3, 3)
            and convolution.stride == convolution.dilation == (1, 1)
            and convolution.padding == (1, 1)
            and convolution.groups == 1
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, C_in, H, W)` to `(B, C_out, H, W)`, channels last."""
        return self.of_channels(x)

    def of_channels(
        self, x: Tensor, first: int = 0, *, bias: bool = True, relu: bool = False
    ) -> Tensor:
        """Convolve `(B, C, H, W)`, channels of the input from `first` on; as `convolve`."""
        x = x.permute(0, 2, 3, 1)
        batch, height, width, channels = x.shape
        factors = self._factors(first, channels)
        outer = len(self.weight)
        across = -(-width // _TILE)
        down = min(max(1, _TILES // across), -(-height // _TILE))
        out = x.new_empty(batch, height, width, outer)
        half = 36 * down * across * max(channels, outer)
        frame = (down * _TILE + 2, across * _TILE + 2, channels)
        padded, one, other = self._workspace.take(math.prod(frame), half, half)
        padded = padded.view(frame)
        padded[:, 0].zero_()
        padded[:, width + 1 :].zero_()
        for image, result in zip(x, out, strict=True):
            for top in range(0, height, down * _TILE):
                rows = result[top : top + down * _TILE]
                start, stop = max(top - 1, 0), min(top + down * _TILE + 1, height)
                padded[: start - top + 1].zero_()
                padded[stop - top + 1 :].zero_()
                held = padded[start - top + 1 : stop - top + 1, 1 : width + 1]
                held.copy_(image[start:stop])
                if relu:
                    held.relu_()
                self._convolve(padded, factors, self.bias if bias else None, rows, one, other)
        return out.permute(0, 3, 1, 2)

    def _factors(self, first: int, channels: int) -> _Factors:
        """Transform the weights of some channels of the input, once."""
        if (first, channels) not in self._transformed:
            part = self.weight[:, first : first + channels]
            self._transformed[first, channels] = _Factors(part)
        return self._transformed[first, channels]

    def _convolve(
        self,
        padded: Tensor,
        factors: _Factors,
        bias: Tensor | None,
        out: Tensor,
        one: Tensor,
        other: Tensor,
    ) -> None:
        """Convolve rows of tiles.

        Parameters
        ----------
        padded : Tensor
            `(h + 2, w + 2, C_in)`, in whole tiles.
        factors : _Factors
            Transformed weights.
        bias : Tensor or None
            `(C_out,)`.
        out : Tensor
            `(H, W, C_out)` that is written; may end within a tile.
        one, other : Tensor
            Room; every step reads one and writes the other.
        """
        inner, outer = padded.shape[2], out.shape[2]
        down, across = -(-out.shape[0] // _TILE), -(-out.shape[1] // _TILE)
        tiles = down * across
        row, column, _ = padded.stride()
        given, rows = one[: 36 * tiles * inner], other[: 36 * tiles * inner]
        given.view(6, 6, down, across, inner).copy_(
            padded.as_strided(
                (6, 6, down, across, inner), (row, column, _TILE * row, _TILE * column, 1),
                padded.storage_offset(),
            )
        )  # fmt: skip
        torch.mm(self._of_input, given.view(6, -1), out=rows.view(6, -1))
        both = one[: 36 * tiles * inner]
        torch.bmm(self._of_input.expand(6, 6, 6), rows.view(6, 6, -1), out=both.view(6, 6, -1))
        product = other[: 36 * tiles * outer].view(36, tiles, outer)
        factors.multiply(both.view(36, tiles, inner), product)
        columns, result = one[: 24 * tiles * outer], other[: 16 * tiles * outer]
        torch.mm(self._of_result, product.view(6, -1), out=columns.view(4, -1))
        torch.bmm(
            self._of_result.expand(4, 4, 6), columns.view(4, 6, -1), out=result.view(4, 4, -1)
        )
        if bias is not None:
            result.view(-1, outer).add_(bias)
        pixels = result.view(_TILE, _TILE, down, across, outer).permute(2, 0, 3, 1, 4)
        if out.shape[0] == down * _TILE and out.shape[1] == across * _TILE:
            out.view(down, _TILE, across, _TILE, outer).copy_(pixels)
        else:
            whole = pixels.reshape(down * _TILE, across * _TILE, outer)
            out.copy_(whole[: out.shape[0], : out.shape[1]])


def convolve(
    convolution: nn.Conv2d | NativeConv2d | WinogradConv2d,
    x: Tensor,
    *,
    relu: bool = False,
    first: int = 0,
    bias: bool = True,
) -> Tensor:
    """Convolve (3 x 3) an input, or some of its channels: the sum over all parts is the whole.

    Parameters
    ----------
    convolution : nn.Conv2d, NativeConv2d or WinogradConv2d
        Convolution of all channels, with stride 1 and padding 1.
    x : Tensor
        `(B, C, H, W)`, all channels or a part of them.
    relu : bool
        Whether negative input counts as 0.
    first : int
        Where its channels begin in the whole input.
    bias : bool
        Whether to add the bias.
    """
    if isinstance(convolution, WinogradConv2d):
        return convolution.of_channels(x, first, bias=bias, relu=relu)
    if relu:
        x = torch.relu(x)
    if isinstance(convolution, NativeConv2d) and bias and x.shape[1] == convolution.weight.shape[1]:
        result: Tensor = convolution(x)
        return result
    weight = convolution.weight[:, first : first + x.shape[1]]
    return F.conv2d(x, weight, convolution.bias if bias else None, padding=1)
