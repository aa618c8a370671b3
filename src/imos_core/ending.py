"""Ending: where a label has ended, by the person's word or because it was gone for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

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
        self._absent = {label: sorted(anchors) for label, anchors in absent.items()}
        self._when_gone = when_gone
        # label, side -> empty slices in a row; when they are enough, the slice they began at
        self._empty: dict[tuple[int, int], int] = {}
        self._gone: dict[tuple[int, int], int] = {}

    def ended(self, label: int, index: int) -> bool:
        """Whether a label has ended before a slice, seen from its anchors."""
        anchors, erased = self._painted[label], self._absent.get(label, ())
        left = max((a for a in anchors if a < index), default=None)
        right = min((a for a in anchors if a > index), default=None)
        reached = (left is not None and not any(left < e < index for e in erased)) or (
            right is not None and not any(index < e < right for e in erased)
        )
        if not reached:
            return True
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


def unreached(painted: Sequence[int], erased: Sequence[int], length: int) -> npt.NDArray[np.bool_]:
    """Slices before which a label has ended by a person's word; see `Ending.ended`.

    Parameters
    ----------
    painted : sequence of int
        Anchors that show the label, ascending.
    erased : sequence of int
        Anchors from which it was erased, ascending.
    length : int
        Slices.

    Returns
    -------
    ndarray
        `(length,)` bool.
    """
    slices = np.arange(length)
    shows, lacks = np.asarray(painted, np.intp), np.asarray(erased, np.intp)
    before = [np.r_[-1, marks][np.searchsorted(marks, slices)] for marks in (shows, lacks)]
    behind = [
        np.r_[marks, length][np.searchsorted(marks, slices, "right")] for marks in (shows, lacks)
    ]
    # on either side an erased anchor comes first, or none shows it
    return np.asarray((before[0] <= before[1]) & (behind[0] >= behind[1]))
