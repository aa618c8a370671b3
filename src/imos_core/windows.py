"""Object-centred windows: cut from a slice at the network's working size, and pasted back.

Pixel coordinates run from 0 to H (or W) at the outer edges of the image; the centre of pixel i is
at i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from imos_core.boxes import box_of, is_empty
from imos_core.sampling import sample_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from imos_core.boxes import Box

_MARGIN = 2.2  # side of a new window over the extent of its object
_LARGEST = 0.66  # extent over side at which a window is renewed ...
_SMALLEST = 0.26
_OFF_CENTRE = 0.16  # ... or offset over side
_LEAST_SIDE = 44.0  # pixels: below, there is too little to see
_LEAST_ZOOM = 0.45  # of the first window: an object that dwindles is not magnified for ever


_THIN = 6.0  # samples: mean thickness below which a coarse window loses much of an object
_MIDDLE = 0.75  # share of a window along each side that a stretch of a longer object is judged by
_OFF_MIDDLE = 0.1  # offset over side at which it is centred anew


@dataclass(frozen=True)
class Window:
    """A rectangle of a slice, in pixels."""

    y: float
    """Row of its centre."""
    x: float
    """Column of its centre."""
    height: float
    """Rows."""
    width: float
    """Columns."""


class Part(NamedTuple):
    """Where a part of a slice is."""

    origin: tuple[int, int]
    """Its first row and column."""
    shape: tuple[int, int]
    """Height and width of the slice."""


def window_around(
    mask: npt.NDArray[np.bool_],
    spacing: tuple[float, float] = (1.0, 1.0),
    least_side: float = _LEAST_SIDE,
    part: Part | None = None,
) -> Window:
    """Return a window around an object: square in space, with a margin, inside the slice if it can.

    Parameters
    ----------
    mask : ndarray of bool
        `(H, W)`, not empty.
    spacing : (float, float)
        Size of a pixel along rows and columns, any unit.
    least_side : float
        Smallest side, in pixels of the finer spacing.
    part : Part, optional
        Where in the slice `mask` is, if it is a part of it.
    """
    box = _bounds(mask, part)
    shape = mask.shape if part is None else part.shape
    scale = _scale(spacing)
    side = float(side_around(np.array(box), shape, spacing, least_side))
    height, width = side / scale[0], side / scale[1]
    y, x = (box[0] + box[1]) / 2, (box[2] + box[3]) / 2
    return Window(_inside(y, height, shape[0]), _inside(x, width, shape[1]), height, width)


def side_around(
    boxes: npt.NDArray[np.integer],
    shape: tuple[int, int],
    spacing: tuple[float, float] = (1.0, 1.0),
    least_side: float = _LEAST_SIDE,
) -> npt.NDArray[np.float64]:
    """Sides of windows around boxes of a slice, in pixels of the finer spacing.

    Parameters
    ----------
    boxes : ndarray of int
        `(..., 4)` first row, last row + 1, first column, last column + 1.
    shape : (int, int)
        Height and width of the slice, which no window exceeds.
    spacing : (float, float)
        Size of a pixel along rows and columns, any unit.
    least_side : float
        Smallest side.

    Returns
    -------
    ndarray of float
        `(...)`.
    """
    rows, cols = _scale(spacing)
    top, bottom, left, right = np.moveaxis(boxes, -1, 0)
    extent = np.maximum((bottom - top) * rows, (right - left) * cols)
    sides: npt.NDArray[np.float64] = np.maximum(_MARGIN * extent, least_side)
    return np.minimum(sides, max(shape[0] * rows, shape[1] * cols))


def is_thin(mask: npt.NDArray[np.bool_], window: Window, size: int) -> bool:
    """Whether an object is too thin for a window, whose samples are coarser than pixels.

    Vessels, membranes, rings, ribs, and objects of several parts fill little of a window that is as
    large as they are long.

    Parameters
    ----------
    mask : ndarray of bool
        `(H, W)`, not empty.
    window : Window
        Window around it.
    size : int
        Samples along each side.
    """
    coarse = max(window.height, window.width) >= size
    return coarse and samples_across(mask, window, size) < _THIN


def samples_across(mask: npt.NDArray[np.bool_], window: Window, size: int) -> float:
    """Mean thickness of an object, in samples of a window of `size` along each side."""
    box = box_of(mask)
    assert box is not None
    part = np.pad(mask[box], 1)
    contour = np.count_nonzero(part[1:] != part[:-1]) + np.count_nonzero(
        part[:, 1:] != part[:, :-1]
    )
    # a long strip has two sides; steps of pixels make contours longer than they are
    thickness = 2 * np.count_nonzero(part) / (np.pi / 4 * contour)
    return float(thickness * size / max(window.height, window.width))


def follow(
    window: Window,
    mask: npt.NDArray[np.bool_],
    first: Window,
    spacing: tuple[float, float] = (1.0, 1.0),
    part: Part | None = None,
) -> Window:
    """Return the window for the next slice.

    The old one while the object sits well in it, otherwise a new one. An object that is gone
    leaves its window where it was, so that it is seen when it comes back there.

    Parameters
    ----------
    window : Window
        Current window.
    mask : ndarray of bool
        `(H, W)` object in the current slice.
    first : Window
        Window in the anchor slice, which bounds the magnification.
    spacing : (float, float)
        Size of a pixel.
    part : Part, optional
        Where in the slice `mask` is, if it is a part of it.
    """
    if not mask.any():
        return window
    box = _bounds(mask, part)
    extent = max((box[1] - box[0]) / window.height, (box[3] - box[2]) / window.width)
    target = window_around(
        mask, spacing, max(_LEAST_SIDE, _LEAST_ZOOM * min(first.height, first.width)), part
    )
    moved = max(abs(target.y - window.y) / window.height, abs(target.x - window.x) / window.width)
    zooms = target.height < 0.75 * window.height
    if extent > _LARGEST and target.height > 1.05 * window.height:
        return target
    if moved > _OFF_CENTRE or (extent < _SMALLEST and zooms):
        return target
    return window


def centred(window: Window, held: Box, middle: Box, shape: tuple[int, int]) -> Window:
    """Return the window for the next slice of a stretch of a longer object.

    Of the same size. What is in its middle is brought there again, if that has moved much; of an
    object that ends in the window, the end stays where it was on the painted slice.

    Parameters
    ----------
    window : Window
        Current window.
    held, middle : (slice, slice)
        Rows and columns that hold what the window, and its middle, show of the object.
    shape : (int, int)
        Height and width of the slice.
    """
    if is_empty(held):
        return window
    goals = [(s.start + s.stop) / 2 for s in (held if is_empty(middle) else middle)]
    centres, sides = (window.y, window.x), (window.height, window.width)
    edges = [
        (
            own.start <= max(centre - side / 2, 0) + 1,
            own.stop >= min(centre + side / 2, length) - 1,
        )
        for centre, side, own, length in zip(centres, sides, held, shape, strict=True)
    ]
    if sum(map(sum, edges)) == 1:  # it comes in on one side, and does not leave
        along = 0 if any(edges[0]) else 1
        end = sides[along] / (2 * _MARGIN)  # from the centre
        first, last = held[along].start, held[along].stop
        goals[along] = last - end if edges[along][0] else first + end
    y, x = (_inside(g, s, n) for g, s, n in zip(goals, sides, shape, strict=True))
    moved = max(abs(y - window.y) / window.height, abs(x - window.x) / window.width)
    return replace(window, y=y, x=x) if moved > _OFF_MIDDLE else window


def middle_of(window: Window, shape: tuple[int, int]) -> Box:
    """Rows and columns in the middle of a window; at the edge of a slice, up to that edge.

    What lies at the edge of a window is found with less to go by, and neighbours show it better.
    """
    box = []
    for centre, side, length in (
        (window.y, window.height, shape[0]),
        (window.x, window.width, shape[1]),
    ):
        start, stop = centre - _MIDDLE * side / 2, centre + _MIDDLE * side / 2
        first = 0 if centre - side / 2 < 1 else int(np.clip(np.floor(start), 0, length))
        last = length if centre + side / 2 > length - 1 else int(np.ceil(stop))
        box.append(slice(first, int(np.clip(last, first, length))))
    return box[0], box[1]


def window_lines(
    window: Window, size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pixel coordinates of a window's `size` samples: rows `(h,)` and columns `(w,)`."""
    y = window.y + window.height * _samples(size[0], device)
    x = window.x + window.width * _samples(size[1], device)
    return y, x


def window_grid(window: Window, size: tuple[int, int], device: torch.device) -> Tensor:
    """Pixel coordinates (x, y) of a window's `size` samples, `(h, w, 2)`."""
    y, x = window_lines(window, size, device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def sample(plane: Tensor, grid: Tensor, *, border: bool) -> Tensor:
    """Sample `(C, H, W)` at pixel coordinates (x, y) `(h, w, 2)`: `(C, h, w)`.

    Bilinear; where samples are further apart than pixels, pixels are averaged first.

    Parameters
    ----------
    plane : Tensor
        Image or mask.
    grid : Tensor
        Coordinates.
    border : bool
        Whether the edge is continued outside the plane (images) or 0 is (masks).
    """
    rows = float((grid[1, 0] - grid[0, 0]).norm()) if grid.shape[0] > 1 else 1.0
    cols = float((grid[0, 1] - grid[0, 0]).norm()) if grid.shape[1] > 1 else 1.0
    x, y = grid[None].unbind(-1)
    return _sampled(plane, x, y, (_factor(rows), _factor(cols)), border, (0, 0))[0]


def sample_lines(
    plane: Tensor,
    lines: tuple[Tensor, Tensor],
    factors: tuple[int, int],
    *,
    border: bool,
    origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Sample `(C, H, W)` where rows and columns meet: `(C, h, w)`; a GPU is not waited for.

    Parameters
    ----------
    plane : Tensor
        Image or mask, or a part of it.
    lines : (Tensor, Tensor)
        Rows `(h,)` and columns `(w,)`, as from `window_lines`.
    factors : (int, int)
        Rows and columns of pixels that are averaged first, as `sampling_factor` says.
    border : bool
        See `sample`.
    origin : (int, int)
        Row and column where the part begins.
    """
    y, x = lines
    return _sampled(plane, x[None, None], y[None, :, None], factors, border, origin)[0]


def as_tensor(windows: Sequence[Window], device: torch.device) -> Tensor:
    """Centres and sides of windows, `(B, 4)` as `Window` has them: sent as one tensor."""
    sides = [(w.y, w.x, w.height, w.width) for w in windows]
    return torch.tensor(sides, dtype=torch.float32, device="cpu").to(device)


def sample_windows(
    plane: Tensor,
    windows: Tensor,
    size: tuple[int, int],
    factors: tuple[int, int],
    origin: tuple[int, int],
) -> Tensor:
    """Sample several windows of an image in one go: `(B, C, h, w)`; edges are continued.

    Parameters
    ----------
    plane : Tensor
        `(C, H, W)`, the part of a slice that begins at `origin` and holds their `sampling_box`.
    windows : Tensor
        `(B, 4)`, as `as_tensor` gives them.
    size : (int, int)
        Rows and columns of the result.
    factors : (int, int)
        Their common `sampling_factor`.
    origin : (int, int)
        Row and column where the part begins.
    """
    device = plane.device
    y, x, height, width = windows.unbind(1)
    rows = y[:, None] + height[:, None] * _samples(size[0], device)
    cols = x[:, None] + width[:, None] * _samples(size[1], device)
    return _sampled(plane, cols[:, None, :], rows[:, :, None], factors, True, origin)


def sampling_factor(window: Window, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of pixels that are averaged before the window is sampled."""
    rows = _factor(window.height / size[0]) if size[0] > 1 else 1
    return rows, _factor(window.width / size[1]) if size[1] > 1 else 1


def sampling_box(
    windows: Sequence[Window], shape: tuple[int, int], size: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns of a slice of `shape` that sampling the windows looks at."""
    factors = sampling_factor(windows[0], size)
    box = []
    for length, factor, sides in (
        (shape[0], factors[0], [(w.y - w.height / 2, w.y + w.height / 2) for w in windows]),
        (shape[1], factors[1], [(w.x - w.width / 2, w.x + w.width / 2) for w in windows]),
    ):
        # one averaged pixel more on either side; blocks begin where those of the slice do
        first = np.floor(min(s[0] for s in sides) / factor) - 1
        last = np.ceil(max(s[1] for s in sides) / factor) + 1
        start = int(np.clip(first * factor, 0, (length - 1) // factor * factor))
        stop = int(np.clip(last * factor, start + 1, length))
        box.append(slice(start, stop))
    return box[0], box[1]


def _factor(step: float) -> int:
    return round(step) if step > 1.5 else 1


def _sampled(
    plane: Tensor,
    x: Tensor,
    y: Tensor,
    factors: tuple[int, int],
    border: bool,
    origin: tuple[int, int],
) -> Tensor:
    """Sample `(C, H, W)` at x and y that make `(B, h, w)` together: `(B, C, h, w)`."""
    if factors != (1, 1):
        plane = F.avg_pool2d(plane[None], factors, ceil_mode=True, count_include_pad=False)[0]
    # with plain numbers: tensors would have to be sent
    x = 2 * (x - origin[1]) / (plane.shape[2] * factors[1]) - 1
    y = 2 * (y - origin[0]) / (plane.shape[1] * factors[0]) - 1
    return sample_at(plane[None], x, y, border=border)


def paste(
    prob: Tensor, window: Window, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], Tensor]:
    """Bring a window's probabilities back to the slice.

    Parameters
    ----------
    prob : Tensor
        `(n, h, w)`.
    window : Window
        Where they belong.
    shape : (int, int)
        Height and width of the slice.

    Returns
    -------
    box : (slice, slice)
        Rows and columns of the slice that the window covers.
    patch : Tensor
        `(n, rows, columns)`.
    """
    top = max(int(np.floor(window.y - window.height / 2)), 0)
    left = max(int(np.floor(window.x - window.width / 2)), 0)
    bottom = min(int(np.ceil(window.y + window.height / 2)), shape[0])
    right = min(int(np.ceil(window.x + window.width / 2)), shape[1])
    device, size = prob.device, (prob.shape[-2], prob.shape[-1])
    y = torch.arange(top, bottom, dtype=torch.float32, device=device) + 0.5
    x = torch.arange(left, right, dtype=torch.float32, device=device) + 0.5
    factors = _factor(size[0] / window.height), _factor(size[1] / window.width)
    patch = sample_lines(prob, _cells(window, (y, x), size), factors, border=True)
    return (slice(top, bottom), slice(left, right)), patch


def move_features(features: Tensor, old: Window, new: Window) -> Tensor:
    """Resample features `(C, h, w)` of one window to the geometry of another; 0 outside."""
    size = (features.shape[-2], features.shape[-1])
    lines = _cells(old, window_lines(new, size, features.device), size)
    factors = _factor(new.height / old.height), _factor(new.width / old.width)
    return sample_lines(features.float(), lines, factors, border=False).to(features.dtype)


def _cells(
    window: Window, lines: tuple[Tensor, Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Rows and columns of the slice as those of a window's array of `size`."""
    y = (lines[0] - window.y + window.height / 2) * (size[0] / window.height)
    x = (lines[1] - window.x + window.width / 2) * (size[1] / window.width)
    return y, x


@lru_cache(maxsize=16)  # some ten are asked for in every slice, always the same
def _samples(count: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # who asks next may be training
        return (torch.arange(count, dtype=torch.float32, device=device) + 0.5) / count - 0.5


def _scale(spacing: tuple[float, float]) -> tuple[float, float]:
    """Size of a pixel along rows and columns, in that of its finer side."""
    unit = min(spacing)
    return spacing[0] / unit, spacing[1] / unit


def _bounds(mask: npt.NDArray[np.bool_], part: Part | None) -> tuple[int, int, int, int]:
    """First row, last row + 1, first column, last column + 1 of a mask that is not empty."""
    box = box_of(mask)
    assert box is not None
    (rows, cols), (top, left) = box, (0, 0) if part is None else part.origin
    return top + rows.start, top + rows.stop, left + cols.start, left + cols.stop


def _inside(centre: float, side: float, length: int) -> float:
    """Move a window into the slice, or centre it where it is larger than the slice."""
    half = min(side / 2, length / 2)
    return float(np.clip(centre, half, length - half))
