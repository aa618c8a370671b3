"""Boxes: rows and columns of a slice between which something lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from imos_core.label_ids import as_type, ids_on

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import numpy.typing as npt

Box = tuple[slice, slice]
"""Rows and columns of a slice."""
_FEW = 24  # labels that are found more quickly one by one


def box_of(plane: npt.NDArray[Any]) -> Box | None:
    """Rows and columns of a slice, `(H, W)`, between which lies all that is not 0; None if nothing.

    A slice may be labels, or a mask.
    """
    rows, columns = (np.flatnonzero(plane.any(axis)) for axis in (1, 0))
    if not rows.size:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def is_empty(box: Box) -> bool:
    """Whether nothing lies in a box."""
    return any(side.start >= side.stop for side in box)


def around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that holds all boxes of a slice."""
    rows = slice(min(b[0].start for b in boxes), max(b[0].stop for b in boxes))
    cols = slice(min(b[1].start for b in boxes), max(b[1].stop for b in boxes))
    return rows, cols


def within(box: Box, outer: Box) -> Box:
    """Rows and columns of `box`, counted from where `outer` begins."""
    top, left = outer[0].start, outer[1].start
    return (
        slice(box[0].start - top, box[0].stop - top),
        slice(box[1].start - left, box[1].stop - left),
    )


def beyond(box: Box, outer: Box) -> Box:
    """Rows and columns of `box`, which counts from where `outer` begins, in the slice."""
    rows, cols = (
        slice(o.start + b.start, o.start + b.stop) for b, o in zip(box, outer, strict=True)
    )
    return rows, cols


def widened(box: Box, margin: int) -> Box:
    """Rows and columns of `box` and so many more on each side, none before the first."""
    rows, cols = (slice(max(s.start - margin, 0), s.stop + margin) for s in box)
    return rows, cols


def objects_of(
    plane: npt.NDArray[Any], wanted: Collection[int] | None = None
) -> Iterator[tuple[int, int, Box]]:
    """Labels of a slice, how many pixels they have, and where they are: in one go for all.

    Parameters
    ----------
    plane : ndarray
        `(H, W)` labels.
    wanted : collection of int, optional
        Only these.

    Yields
    ------
    label : int
        Ascending, without the background.
    area : int
        Pixels.
    box : (slice, slice)
        Rows and columns.
    """
    ids = [i for i in ids_on(plane) if wanted is None or i in wanted]
    if not ids:
        return
    if len(ids) <= _FEW:
        for label in ids:
            mask = plane == label
            box = box_of(mask)
            assert box is not None
            yield label, int(np.count_nonzero(mask[box])), box
        return
    # ids may be as large as they like, numbers of them are small
    sorted_ids = as_type(ids, plane.dtype)
    numbers = np.searchsorted(sorted_ids, plane).astype(np.int32)
    numbers[numbers == len(ids)] = 0
    numbers += 1
    numbers[sorted_ids[numbers - 1] != plane] = 0
    areas = np.bincount(numbers.ravel(), minlength=len(ids) + 1)[1:].tolist()
    for label, area, found in zip(ids, areas, ndimage.find_objects(numbers), strict=True):
        yield label, area, found
