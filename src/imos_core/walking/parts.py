"""Parts: what of a painted label lies too far apart, or is too long, for one window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from imos_core.windows import side_around

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.boxes import Box

MOST_PARTS = 64
"""Windows of one label on a painted slice, at most."""
_TOGETHER = 1.4  # side of a window around two parts, over that of the larger one, that still does
_WIDER = 1.5  # how much that is raised while there are too many parts
_SPECKS = 500  # connected parts that are no longer looked at one by one
_STRETCH = 24  # pixels of the finer spacing: length of a stretch


@dataclass(frozen=True, eq=False)
class PaintedPart:
    """A part of a label on the slice where it is painted."""

    box: Box
    """Rows and columns that hold it, and nothing else."""
    mask: npt.NDArray[np.bool_]
    """`(h, w)` its pixels there."""
    stretch: bool
    """Whether it is a stretch of a longer object, which goes on beyond it."""


def apart(
    mask: npt.NDArray[np.bool_],
    shape: tuple[int, int],
    spacing: tuple[float, float] = (1.0, 1.0),
) -> npt.NDArray[np.uint8]:
    """Divide an object into connected parts that have windows of their own.

    In one window around all of them, parts that lie far apart would be small. A connected part
    stays with a larger one if a window around both is hardly larger than that one's own; where
    there would be too many, neighbours that lie farther from each other stay together.

    Parameters
    ----------
    mask : ndarray of bool
        `(h, w)`, a slice or a part of it.
    shape : (int, int)
        Height and width of the slice.
    spacing : (float, float)
        Size of a pixel along rows and columns.

    Returns
    -------
    ndarray of uint8
        `(h, w)` number of the part of every pixel, from 1; 0 outside.
    """
    connected, count = ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return mask.astype(np.uint8)
    found = ndimage.find_objects(connected)
    boxes = np.array([(r.start, r.stop, c.start, c.stop) for r, c in found])
    numbers: npt.NDArray[np.uint8] = np.zeros(count + 1, np.uint8)
    if count > _SPECKS:
        numbers[1:] = _by_cell((boxes[:, ::2] + boxes[:, 1::2]) // 2, mask.shape, spacing)
    else:
        together, joined = _TOGETHER, None
        while joined is None:
            joined = _joined(boxes, shape, spacing, together)
            together *= _WIDER
        numbers[1:] = joined
    parts: npt.NDArray[np.uint8] = numbers[connected]
    return parts


def _joined(
    boxes: npt.NDArray[np.integer],
    shape: tuple[int, int],
    spacing: tuple[float, float],
    together: float,
) -> npt.NDArray[np.uint8] | None:
    """Numbers of the parts that boxes `(n, 4)` belong to, from 1; None if these are too many."""
    own = side_around(boxes, shape, spacing)
    held, room = np.zeros((0, 4), boxes.dtype), np.zeros(0)
    numbers = np.zeros(len(boxes), np.uint8)
    for i in np.argsort(-own, kind="stable"):
        around = np.where(
            [True, False, True, False], np.minimum(held, boxes[i]), np.maximum(held, boxes[i])
        )
        filled = side_around(around, shape, spacing) / room
        if len(held) and filled.min() <= 1:
            chosen = int(filled.argmin())
            held[chosen] = around[chosen]
        elif len(held) == MOST_PARTS:
            return None
        else:
            chosen = len(held)
            held = np.concatenate([held, boxes[i : i + 1]])
            room = np.append(room, together * own[i])
        numbers[i] = chosen + 1
    return numbers


def stretches(
    mask: npt.NDArray[np.bool_], spacing: tuple[float, float] = (1.0, 1.0), most: int = MOST_PARTS
) -> npt.NDArray[np.uint8]:
    """Cut a long object into stretches, by a grid.

    Parameters
    ----------
    mask : ndarray of bool
        `(h, w)` object, and little around it.
    spacing : (float, float)
        Size of a pixel along rows and columns.
    most : int
        Stretches, at most; where there would be more, they are longer.

    Returns
    -------
    ndarray of uint8
        `(h, w)` number of the stretch of every pixel, from 1; 0 outside.
    """
    numbers = np.zeros(mask.shape, np.uint8)
    numbers[mask] = _by_cell(np.argwhere(mask), mask.shape, spacing, most)
    return numbers


def _by_cell(
    points: npt.NDArray[np.integer],
    shape: tuple[int, ...],
    spacing: tuple[float, float],
    most: int = MOST_PARTS,
) -> npt.NDArray[np.integer]:
    """Number the cells of a grid that hold points `(n, 2)` of `shape`, for each of them, from 1."""
    length = float(_STRETCH)
    while True:
        # more cells than pixels are nothing but memory, where pixels are much longer than wide
        cells = [
            max(round(min(n * size / (length * min(spacing)), n)), 1)
            for n, size in zip(shape, spacing, strict=True)
        ]
        rows, cols = (points[:, i] * cells[i] // shape[i] for i in (0, 1))
        which = rows * cells[1] + cols
        held = np.bincount(which, minlength=cells[0] * cells[1]) > 0
        numbered = np.cumsum(held, dtype=np.intp)
        if numbered[-1] <= most:
            return numbered[which]
        length *= _WIDER
