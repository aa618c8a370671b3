"""Ending: where a label has ended, by the person's word or because it was gone for a while."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

_ALL = sys.maxsize  # more slices than any volume has
_PATIENCE = 3  # empty slices in a row after which an object has ended


class Ending:
    """Keep labels out of slices behind their end.

    A label has ended behind an anchor from which a person erased it, unless another anchor beyond
    shows it again. If `when_gone`, it has also ended beyond its outermost anchors after three
    slices in a row without it.

    Parameters
    ----------
    painted : mapping of int to sequence of int
        Label -> anchors that show it.
    absent : mapping of int to sequence of int
        Label -> anchors from which it was erased.
    when_gone : bool
        Whether to watch for labels that are gone.
    """

    def __init__(
        self,
        painted: Mapping[int, Sequence[int]],
        absent: Mapping[int, Sequence[int]],
        *,
        when_gone: bool,
    ) -> None:
        self._painted = {label: sorted(anchors) for label, anchors in painted.items()}
        self._unreached = {
            label: unreached(anchors, sorted(absent.get(label, ())))
            for label, anchors in self._painted.items()
        }
        self._when_gone = when_gone
        # label, side -> empty slices in a row; when they are enough, the slice they began at
        self._empty: dict[tuple[int, int], int] = {}
        self._gone: dict[tuple[int, int], int] = {}

    def ended(self, label: int, index: int) -> bool:
        """Whether a label has ended before a slice, seen from its anchors."""
        if any(index in beyond for beyond in self._unreached[label]):
            return True
        anchors = self._painted[label]
        left = max((a for a in anchors if a < index), default=None)
        right = min((a for a in anchors if a > index), default=None)
        if right is None:
            return index > self._gone.get((label, 1), index)
        return left is None and index < self._gone.get((label, -1), index)

    def cut(self, index: int, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take the labels that have ended out of a slice.

        Parameters
        ----------
        index : int
            Slice; they come outward from the anchors.
        plane : ndarray
            `(H, W)` labels.

        Returns
        -------
        ndarray
            The plane itself if there is nothing to take out.
        """
        if self._when_gone:
            self._watch(index, plane)
        over = [label for label in self._painted if self.ended(label, index)]
        if not over:
            return plane
        return np.where(np.isin(plane, over), plane.dtype.type(0), plane)

    def all_ended(self, slices: Iterable[int]) -> bool:
        """Whether no label can come to any of these slices."""
        return bool(self._gone) and all(
            self.ended(label, k) for k in slices for label in self._painted
        )

    def _watch(self, index: int, plane: npt.NDArray[Any]) -> None:
        for label, anchors in self._painted.items():
            side = 1 if index > anchors[-1] else -1 if index < anchors[0] else 0
            if not side or (label, side) in self._gone:
                continue
            if (plane == label).any():
                self._empty[label, side] = 0
                continue
            self._empty[label, side] = self._empty.get((label, side), 0) + 1
            if self._empty[label, side] >= _PATIENCE:
                self._gone[label, side] = index


def unreached(painted: Sequence[int], erased: Sequence[int]) -> tuple[range, ...]:
    """Slices before which a label has ended by a person's word.

    Parameters
    ----------
    painted : sequence of int
        Anchors that show the label, ascending.
    erased : sequence of int
        Anchors from which it was erased, ascending.

    Returns
    -------
    tuple of range
        Slices; the last range goes on beyond every volume.
    """
    beyond = []
    for left, right in pairwise((None, *painted, None)):
        low, high = -1 if left is None else left, _ALL if right is None else right
        lacks = [k for k in erased if low < k < high]
        # how far the label comes from the left, and from where on from the right
        start = 0 if left is None else min(lacks, default=high - 1) + 1
        stop = _ALL if right is None else max(lacks, default=low)
        if start < stop:
            beyond.append(range(start, stop))
    return tuple(beyond)
