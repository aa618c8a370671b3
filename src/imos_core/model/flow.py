"""Optical flow between two windows: pyramidal, iterative Lucas-Kanade in batched tensor operations.

Nothing here is learned (Lucas and Kanade, 1981; Le Besnerais and Champagnat, 2005). It needs no
training to be exact to a fraction of a pixel, which learned matching at stride 4 is not.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from imos_core.precision import undiminished
from imos_core.sampling import sample_on

_LEVELS = 4
_ITERATIONS = 2
_FLAT = 1e-2  # keeps still what has no texture, in squared standard deviations per pixel
_LARGEST_STEP = 2.0  # pixels per iteration
_FEW = 2**16  # pixels of a window; whole slices would fill memory


@torch.no_grad()
def optical_flow(now: Tensor, before: Tensor) -> Tensor:
    """Find where the pixels of a frame were in the frame before.

    Parameters
    ----------
    now, before : Tensor
        `(B, 1, H, W)` of about unit variance; sides divisible by 8.

    Returns
    -------
    Tensor
        `(B, 2, H, W)` steps along x and y, in pixels: ``before(p + flow(p)) = now(p)``.
    """
    with undiminished(now.device):  # half a pixel is much here
        return _pyramid(now.float(), before.float())


def _pyramid(now: Tensor, before: Tensor) -> Tensor:
    """Estimate flow from coarse to fine."""
    fine, coarse = [now], [before]
    for _ in range(_LEVELS - 1):
        fine.append(F.avg_pool2d(fine[-1], 2))
        coarse.append(F.avg_pool2d(coarse[-1], 2))
    flow = now.new_zeros(len(now), 2, *fine[-1].shape[-2:])
    for target, source in zip(reversed(fine), reversed(coarse), strict=True):
        if flow.shape[-1] != target.shape[-1]:
            flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)
        for _ in range(_ITERATIONS):
            moved = warp(source, flow)
            error = target - moved
            gx, gy = _gradients(target + moved)
            # what does not match counts less: occlusions, specular highlights
            sure = torch.add(1, error.abs(), alpha=2).reciprocal_()
            sx, sy = gx * sure, gy * sure
            products = torch.cat([gx * sx, gy * sx, gy * sy, error * sx, error * sy], 1)
            xx, xy, yy, xe, ye = _smooth(products, 9, 2.5).unbind(1)
            xx, yy = xx + _FLAT, yy + _FLAT
            along = torch.addcmul(yy * xe, xy, ye, value=-1)
            down = torch.addcmul(xx * ye, xy, xe, value=-1)
            determinant = torch.addcmul(xx * yy, xy, xy, value=-1)
            step = torch.stack([along, down], 1).div_(determinant[:, None])
            flow = _smooth(step.clamp_(-_LARGEST_STEP, _LARGEST_STEP).add_(flow), 7, 1.5)
    return flow


def warp(planes: Tensor, flow: Tensor) -> Tensor:
    """Fetch every pixel of `(B, C, H, W)` from where `flow` `(B, 2, H, W)` says it was."""
    height, width = flow.shape[-2:]
    few = height * width <= _FEW
    middles, sides = (_kept_pixels if few else _pixels)(height, width, flow.device, flow.dtype)
    grid = torch.addcmul(middles, flow.permute(0, 2, 3, 1), sides)
    return sample_on(planes.float(), grid, border=True)


def _pixels(
    height: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Middles of pixels `(H, W, 2)` and their sides `(2,)`, where a plane goes from -1 to 1."""
    with torch.inference_mode(False):  # who asks next may be training
        sides = torch.tensor([2 / width, 2 / height], device=device, dtype=dtype)
        x, y = (torch.arange(n, device=device, dtype=dtype) + 0.5 for n in (width, height))
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) * sides - 1, sides


_kept_pixels = lru_cache(maxsize=16)(_pixels)  # of windows: ten in every slice, always the same


def _gradients(sum_of_two: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y of the mean of two planes, whose sum is given."""
    quarter = sum_of_two / 4
    x = F.pad(quarter, (1, 1, 0, 0), mode="replicate")
    y = F.pad(quarter, (0, 0, 1, 1), mode="replicate")
    return x[..., 2:] - x[..., :-2], y[..., 2:, :] - y[..., :-2, :]


def _smooth(planes: Tensor, size: int, sigma: float) -> Tensor:
    """Gaussian filter along both axes, zeros around."""
    height, width = planes.shape[-2:]
    flat = planes.reshape(-1, height, width)
    down = _banded(height, size, sigma, planes.device, planes.dtype)
    across = _banded(width, size, sigma, planes.device, planes.dtype)
    return (down @ (flat @ across)).view_as(planes)


@lru_cache(maxsize=64)  # some 30 are asked for in every slice, always the same
def _banded(
    length: int, size: int, sigma: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Matrix `(length, length)` of a Gaussian filter.

    A convolution of one channel leaves most of a processor idle; a matrix product of more
    operations is many times faster.
    """
    with torch.inference_mode(False):  # who asks next may be training
        place = torch.arange(length, device=device)
        distance = (place[:, None] - place).abs()
        within = distance <= size // 2
        kernel = torch.exp(-(distance.to(dtype) ** 2) / (2 * sigma**2)) * within
        # a row in the middle holds the whole kernel, whose sum is 1
        offsets = torch.arange(size, device=device, dtype=dtype) - size // 2
        return kernel / torch.exp(-(offsets**2) / (2 * sigma**2)).sum()
