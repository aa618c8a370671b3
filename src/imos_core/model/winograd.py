"""Winograd's convolution: large 3 x 3 ones with a quarter of the multiplications, in float32."""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.model.fused import NativeConv2d, native, passes, ramp

if TYPE_CHECKING:
    from torch import Tensor

_TILE = 4
_MANY_CHANNELS = 256
"""Channels in and out from which the work saved is more than the work added."""
_TILES = 240
"""Tiles at a time, about: few enough for caches, enough for a quick product."""

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
    at = torch.tensor(_POINTS, dtype=torch.float64, device="cpu")

    def evaluate(terms: int) -> Tensor:
        infinity = torch.zeros(1, terms, dtype=torch.float64, device="cpu")
        infinity[0, -1] = 1
        return torch.cat([at[:, None] ** torch.arange(terms, device="cpu"), infinity])

    apart = at[:, None] - at
    apart.fill_diagonal_(1)
    scale = torch.cat([apart.prod(1), torch.ones(1, dtype=torch.float64, device="cpu")])[:, None]
    of_input = torch.linalg.inv(evaluate(6)).T * scale
    return of_input, evaluate(3) / scale, evaluate(_TILE).T


class Workspace(threading.local):
    """Room for what lies between the steps of a convolution, for one after the other.

    What is allocated and freed again and again costs more time than the arithmetic. Every thread
    has a room of its own.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._room = torch.empty(0, dtype=dtype, device="cpu")
        self._between = torch.empty(0, dtype=dtype, device="cpu")

    def between(self, *shape: int) -> Tensor:
        """Return a tensor, whatever it holds, for what two convolutions hand over."""
        if math.prod(shape) > self._between.numel():
            self._between = self._between.new_empty(math.prod(shape))
        return self._between[: math.prod(shape)].view(shape)

    def take(self, *sizes: int) -> list[Tensor]:
        """Return flat tensors, whatever they hold, for one convolution."""
        if sum(sizes) > self._room.numel():
            self._room = self._room.new_empty(sum(sizes))
        return list(self._room[: sum(sizes)].split(sizes))


class Factors(Protocol):
    """Transformed weights: a matrix for each element of a tile of the input."""

    def multiply(self, x: Tensor, out: Tensor) -> None:
        """Multiply `(elements, n, C_in)` into `(elements, n, C_out)`."""


class _Factors:
    """Transformed weights: 36 matrices to multiply with.

    Parameters
    ----------
    weight : Tensor
        `(C_out, C_in, 3, 3)`.
    """

    def __init__(self, weight: Tensor) -> None:
        outer, inner = weight.shape[:2]
        way = _transforms()[1].to(weight)
        pixels = weight.permute(3, 2, 0, 1).reshape(9, -1)
        ordered = by_onednn()
        self._ordered: list[Tensor] = []
        self._matrices = weight.new_empty(0 if ordered else 36, inner, outer)
        # a few at a time: what is allocated for the first serves the others too
        for k, rows in enumerate(torch.kron(way, way).split(6)):
            few = (rows @ pixels).view(-1, outer, inner)
            if ordered:
                order = torch.ops.mkldnn._reorder_linear_weight
                self._ordered += [order(matrix, _TILES) for matrix in few]
            else:
                self._matrices[6 * k : 6 * k + 6] = few.mT

    def multiply(self, x: Tensor, out: Tensor) -> None:
        """Multiply `(36, n, C_in)` into `(36, n, C_out)`."""
        if self._ordered:
            linear = torch.ops.mkldnn._linear_pointwise
            parts = zip(x, self._ordered, strict=True)
            torch.stack([linear(a, b, None, "none", [], "") for a, b in parts], out=out)
        else:
            torch.bmm(x, self._matrices, out=out)


def by_onednn() -> bool:
    """Whether oneDNN multiplies faster than `torch.bmm`.

    It does with AVX-512, on other processors than Intel's by half or more; with AVX2 it takes
    up to half as long again.
    """
    strong = native(torch.float32) and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return strong and _multiplies()


@lru_cache
def _multiplies() -> bool:
    """Whether oneDNN's products are what they were when this was written."""

    def probe() -> bool:
        a, b = ramp(-1, 1, 60).sin().view(2, 5, 6).unbind()
        ordered = torch.ops.mkldnn._reorder_linear_weight(b.contiguous(), 5)
        found = torch.ops.mkldnn._linear_pointwise(a, ordered, None, "none", [], "")
        return torch.allclose(found, a @ b.T, atol=1e-4)

    return passes(probe)


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

    tile = _TILE
    """Pixels of a tile of the result, each way; the tile of the input it needs has two more."""
    dtype = torch.float32
    """Type that it computes in, and that its workspace has."""

    weight: Tensor
    bias: Tensor | None
    _of_input: Tensor
    _of_result: Tensor

    def __init__(self, convolution: nn.Conv2d, workspace: Workspace) -> None:
        super().__init__()
        self.workspace = workspace
        self.register_buffer("weight", convolution.weight.detach(), persistent=False)
        self.register_buffer("bias", convolution.bias, persistent=False)
        of_input, _, of_result = _transforms()
        self.register_buffer("_of_input", of_input.float(), persistent=False)
        self.register_buffer("_of_result", of_result.float().contiguous(), persistent=False)
        self._transformed: dict[tuple[int, int], Factors] = {}

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
        self,
        x: Tensor,
        first: int = 0,
        *,
        bias: bool = True,
        relu: bool = False,
        into: Tensor | None = None,
        add: bool = False,
    ) -> Tensor:
        """Convolve some channels of an input.

        Parameters
        ----------
        x : Tensor
            `(B, C, H, W)`, channels of the input from `first` on.
        first : int
            Where they begin.
        bias : bool
            Whether to add the bias.
        relu : bool
            Whether negative input counts as 0.
        into : Tensor, optional
            `(B, C_out, H, W)`, another tensor than `x`, that gets the result.
        add : bool
            Whether the result is added to what is there.

        Returns
        -------
        Tensor
            `(B, C_out, H, W)`; `into` if given.
        """
        x = x.permute(0, 2, 3, 1)
        batch, height, width, channels = x.shape
        factors = self._factors(first, channels)
        outer = len(self.weight)
        if into is None:
            shape = (batch, height, width, outer)
            into = x.new_empty(shape, dtype=self.dtype).permute(0, 3, 1, 2)
        out = into.permute(0, 2, 3, 1)
        side, most = self.tile, self.tiles_at_once()
        across, all_down = -(-width // side), -(-height // side)
        down = min(max(1, most // across), all_down)
        images = min(max(1, most // (all_down * across)), batch)
        half = (side + 2) ** 2 * images * down * across * max(channels, outer)
        frame = (images, down * side + 2, across * side + 2, channels)
        padded, one, other = self.workspace.take(math.prod(frame), half, half)
        padded = padded.view(frame)
        padded[:, :, 0].zero_()
        padded[:, :, width + 1 :].zero_()
        for some, results in zip(x.split(images), out.split(images), strict=True):
            for top in range(0, height, down * side):
                rows = results[:, top : top + down * side]
                start, stop = max(top - 1, 0), min(top + down * side + 1, height)
                frames = padded[: len(some)]
                frames[:, : start - top + 1].zero_()
                frames[:, stop - top + 1 :].zero_()
                held = frames[:, start - top + 1 : stop - top + 1, 1 : width + 1]
                held.copy_(some[:, start:stop])
                if relu:
                    held.relu_()
                tiles = self.convolve_tiles(frames, factors, rows.shape, one, other)
                if bias and self.bias is not None:
                    tiles.add_(self.bias)
                _write(tiles, rows, add=add)
        return into

    def tiles_at_once(self) -> int:
        """How many tiles to compute at a time, about."""
        return _TILES

    def transform(self, weight: Tensor) -> Factors:
        """Transform weights `(C_out, C_in, 3, 3)`."""
        return _Factors(weight)

    def _factors(self, first: int, channels: int) -> Factors:
        """Transform the weights of some channels of the input, once."""
        if (first, channels) not in self._transformed:
            part = self.weight[:, first : first + channels]
            self._transformed[first, channels] = self.transform(part)
        return self._transformed[first, channels]

    def convolve_tiles(
        self,
        padded: Tensor,
        factors: Factors,
        shape: torch.Size,
        one: Tensor,
        other: Tensor,
    ) -> Tensor:
        """Convolve rows of tiles.

        Parameters
        ----------
        padded : Tensor
            `(n, h + 2, w + 2, C_in)`, in whole tiles.
        factors : Factors
            Transformed weights.
        shape : torch.Size
            Of the result, `(n, H, W, C_out)`; may end within a tile.
        one, other : Tensor
            Room; every step reads one and writes the other.

        Returns
        -------
        Tensor
            Whole tiles `(columns, rows, n, down, across, C_out)`, in `one`.
        """
        images, _, wide, inner = padded.shape
        _, height, width, outer = shape
        down, across = -(-height // _TILE), -(-width // _TILE)
        tiles = images * down * across
        # rows first: neighbouring tiles share columns, which are transformed once for both
        line = wide * inner
        high = other[: images * down * 6 * line].view(images, down, 6, line)
        for image, rows in zip(padded, high, strict=True):
            six = image.as_strided((down, 6, line), (_TILE * line, line, 1), image.storage_offset())
            torch.bmm(self._of_input.expand(down, 6, 6), six, out=rows)
        given = one[: 36 * tiles * inner]
        given.view(6, 6, images, down, across, inner).copy_(
            high.as_strided(
                (6, 6, images, down, across, inner),
                (inner, line, down * 6 * line, 6 * line, _TILE * inner, 1),
            )
        )
        both = other[: 36 * tiles * inner]
        torch.mm(self._of_input, given.view(6, -1), out=both.view(6, -1))
        product = one[: 36 * tiles * outer].view(36, tiles, outer)
        factors.multiply(both.view(36, tiles, inner), product)
        columns, result = other[: 24 * tiles * outer], one[: 16 * tiles * outer]
        torch.mm(self._of_result, product.view(6, -1), out=columns.view(4, -1))
        torch.bmm(
            self._of_result.expand(4, 4, 6), columns.view(4, 6, -1), out=result.view(4, 4, -1)
        )
        return result.view(_TILE, _TILE, images, down, across, outer)


def _write(tiles: Tensor, out: Tensor, *, add: bool) -> None:
    """Put tiles where they belong in `(n, H, W, C_out)`."""
    pixels = tiles.permute(2, 3, 1, 4, 0, 5)
    images, down, side, across, _, outer = pixels.shape
    if out.shape[1:3] == (down * side, across * side):
        out = out.view(pixels.shape)
    else:
        whole = pixels.reshape(images, down * side, across * side, outer)
        pixels = whole[:, : out.shape[1], : out.shape[2]]
    if add:
        out.add_(pixels)
    else:
        out.copy_(pixels)


def add_residual(first: WinogradConv2d, second: WinogradConv2d, x: Tensor, onto: Tensor) -> Tensor:
    """Add what two convolutions make of an input, each after a ReLU, to a tensor.

    What lies between them is not allocated anew: for several objects it is large, and the system
    clears it every time.

    Parameters
    ----------
    first, second : WinogradConv2d
        Convolutions that share their workspace.
    x : Tensor
        `(B, C_in, H, W)`.
    onto : Tensor
        `(B, C_out, H, W)` that is changed; may be `x`.

    Returns
    -------
    Tensor
        `onto`.
    """
    batch, _, height, width = x.shape
    room = first.workspace.between(batch, height, width, len(first.weight)).permute(0, 3, 1, 2)
    inner = first.of_channels(x, relu=True, into=room)
    return second.of_channels(inner, relu=True, into=onto, add=True)


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
