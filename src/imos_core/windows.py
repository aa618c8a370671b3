"""Object-centred windows: where they are, how large, and which one suits the next slice.

Pixel coordinates run from 0 to H (or W) at the outer edges of the image; the centre of pixel i is
at i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imos_core.boxes import box_of, is_empty

if TYPE_CHECKING:
    import numpy.typing as npt

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
    # a window is square in space: its sides say how long a pixel is for its width
    side = max(window.height, window.width)
    rows, columns = side / window.height, side / window.width
    contour = (
        np.count_nonzero(part[1:] != part[:-1]) * columns
        + np.count_nonzero(part[:, 1:] != part[:, :-1]) * rows
    )
    # a long strip has two sides; steps of pixels make contours longer than they are
    thickness = 2 * np.count_nonzero(part) * rows * columns / (np.pi / 4 * contour)
    return float(thickness * size / side)


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
    rows, columns = _scale(spacing)
    least = _LEAST_ZOOM * min(first.height * rows, first.width * columns)
    target = window_around(mask, spacing, max(_LEAST_SIDE, least), part)
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
