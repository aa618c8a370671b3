"""Parts: what of a painted label lies too far apart for one window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from imos_core.windows import side_around

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_PARTS = 64
"""Windows of one label on a painted slice, at most."""
MUCH = 1.4
"""How much larger the side of one window has to be than those of several, to be worth these."""


def parts_of(
    mask: npt.NDArray[np.bool_],
    shape: tuple[int, int],
    spacing: tuple[float, float] = (1.0, 1.0),
) -> npt.NDArray[np.uint8]:
    """Divide an object into parts that have windows of their own.

    In one window around all of them, parts that lie far apart would be small. A connected part
    stays with a larger one if a window around both is hardly larger than that one's own.

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
    own = side_around(boxes, shape, spacing)
    numbers: npt.NDArray[np.uint8] = np.zeros(count + 1, np.uint8)
    held = np.zeros((0, 4), boxes.dtype)
    room = np.zeros(0)
    for i in np.argsort(-own, kind="stable"):
        first, last = np.minimum(held, boxes[i]), np.maximum(held, boxes[i])
        around = np.where([True, False, True, False], first, last)
        excess = side_around(around, shape, spacing) / room
        if len(held) and (excess.min() <= 1 or len(held) == MOST_PARTS):
            chosen = int(excess.argmin())
            held[chosen] = around[chosen]
        else:
            chosen = len(held)
            held = np.concatenate([held, boxes[i : i + 1]])
            room = np.append(room, MUCH * own[i])
        numbers[i + 1] = chosen + 1
    parts: npt.NDArray[np.uint8] = numbers[connected]
    return parts
