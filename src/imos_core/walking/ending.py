"""Ending: where a label has ended by the person's word."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import carries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from imos_core.anchors import Leg

_ALL = sys.maxsize  # more slices than any volume has


class Ending:
    """Keep labels out of slices behind their end.

    A label has ended where a person said that it is not, and behind that slice, unless an anchor
    beyond shows it again.

    Parameters
    ----------
    painted : mapping of int to sequence of int
        Label -> anchors that show it.
    absent : mapping of int to sequence of int
        Label -> slices where it is not: anchors from which it was erased, and ends.
    """

    def __init__(
        self, painted: Mapping[int, Sequence[int]], absent: Mapping[int, Sequence[int]]
    ) -> None:
        self._unreached = {
            label: beyond
            for label, anchors in painted.items()
            if (beyond := unreached(sorted(anchors), sorted(absent.get(label, ()))))
        }

    @property
    def ranges(self) -> list[tuple[int, tuple[range, ...]]]:
        """Labels that end anywhere, ascending, with the slices where they have ended."""
        return sorted(self._unreached.items())

    def ended(self, label: int, index: int) -> bool:
        """Whether a label has ended before a slice, seen from its anchors."""
        return any(index in beyond for beyond in self._unreached.get(label, ()))

    def stops(self, leg: Leg, index: int) -> bool:
        """Whether a walk need not go on behind a slice, as nothing is left to be found there."""
        return self.ended(leg.label, index) and not leg.enclosed

    def cut(self, index: int, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take the labels that have ended out of a slice.

        Parameters
        ----------
        index : int
            Slice.
        plane : ndarray
            `(H, W)` labels.

        Returns
        -------
        ndarray
            The plane itself if there is nothing to take out.
        """
        over = [label for label in self._unreached if self.ended(label, index)]
        if not over:
            return plane
        return np.where(carries(plane, over), plane.dtype.type(0), plane)


def unreached(painted: Sequence[int], erased: Sequence[int]) -> tuple[range, ...]:
    """Slices where a label has ended by a person's word.

    Parameters
    ----------
    painted : sequence of int
        Anchors that show the label, ascending.
    erased : sequence of int
        Slices where a person said that it is not, ascending.

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
        start = 0 if left is None else min(lacks, default=high)
        stop = _ALL if right is None else max(lacks, default=low) + 1
        if start < stop:
            beyond.append(range(start, stop))
    return tuple(beyond)
