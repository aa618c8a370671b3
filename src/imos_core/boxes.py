"""Boxes: rows and columns of a slice between which something lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

Box = tuple[slice, slice]
"""Rows and columns of a slice."""


def box_of(plane: npt.NDArray[Any]) -> Box | None:
    """Rows and columns of a slice, `(H, W)`, between which lies all that is not 0; None if nothing.

    A slice may be labels, or a mask.
    """
    rows, columns = (np.flatnonzero(plane.any(axis)) for axis in (1, 0))
    if not rows.size:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


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


def widened(box: Box, margin: int) -> Box:
    """Rows and columns of `box` and so many more on each side, none before the first."""
    rows, cols = (slice(max(s.start - margin, 0), s.stop + margin) for s in box)
    return rows, cols


def objects_of(plane: npt.NDArray[Any]) -> Iterator[tuple[int, int, Box]]:
    """Labels of a slice, how many pixels they have, and where they are: in one go for all.

    Parameters
    ----------
    plane : ndarray
        `(H, W)` labels.

    Yields
    ------
    label : int
        Ascending, without the background.
    area : int
        Pixels.
    box : (slice, slice)
        Rows and columns.
    """
    rows, columns = np.nonzero(plane)
    labels = plane[rows, columns]
    order = np.argsort(labels, kind="stable")
    rows, columns, labels = rows[order], columns[order], labels[order]
    ids, first = np.unique(labels, return_index=True)
    if not len(ids):
        return
    tops, bottoms = np.minimum.reduceat(rows, first), np.maximum.reduceat(rows, first) + 1
    lefts, rights = np.minimum.reduceat(columns, first), np.maximum.reduceat(columns, first) + 1
    areas = np.diff(np.append(first, len(labels)))
    for i, label in enumerate(ids.tolist()):
        box = slice(int(tops[i]), int(bottoms[i])), slice(int(lefts[i]), int(rights[i]))
        yield int(label), int(areas[i]), box
