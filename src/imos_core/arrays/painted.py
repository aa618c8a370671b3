"""Painted labels of a volume, looked at slice by slice, so that they may be as large as it is."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from imos_core.arrays.slabs import DEFAULT_BYTES, PlaneReader
from imos_core.errors import PromptError, PromptWarning
from imos_core.label_ids import carries, ids_on
from imos_core.whole_numbers import axis_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

_SOME = 3  # slices that are not painted one by one within one line by chance
_MANY = 6  # slices in a row, one of them in full, of which this is certain
_MOST_LABELS, _MOST_IDS = 64, 2**16  # on one slice: more than a person paints


class Painted:
    """Labels of a volume's shape, or of one of its slices.

    Parameters
    ----------
    array : array-like
        `(Z, Y, X)`, or `(H, W)` of one slice.
    shape : tuple of int
        `(Z, Y, X)` of the image.
    axis : int
        Axis that is walked.
    anchors : sequence of int, optional
        Painted slices that were asked for; for a single slice, its place.
    erased : collection of int
        Anchors from which a person erased something: nothing needs to be left there.
    limit : int
        Bytes that may be held of a chunked array.

    Raises
    ------
    PromptError
        If the shapes do not fit.
    """

    def __init__(
        self,
        array: Any,
        shape: Sequence[int],
        axis: int,
        anchors: Sequence[int] | None = None,
        erased: Collection[int] = (),
        limit: int = DEFAULT_BYTES,
    ) -> None:
        if len(shape) != 3:
            raise PromptError(f"A volume has three axes, but this has shape {tuple(shape)}.")
        self.axis = axis_of(axis)
        self.length = shape[self.axis]
        self.plane_shape = tuple(n for i, n in enumerate(shape) if i != self.axis)
        self.dtype = np.dtype(array.dtype)
        self._anchors, self._erased = anchors, frozenset(erased)
        self._limit = limit
        self._place: int | None = None
        own = tuple(array.shape)
        if own == tuple(shape):
            self._reader = PlaneReader(array, self.axis, np.array)
            self.let_go()
            return
        flat = own[1:] if len(own) == 3 and own[0] == 1 else own
        if flat != self.plane_shape:
            raise PromptError(
                f"The labels have shape {own}, but the image {tuple(shape)}: "
                "paint on a volume of the image's shape."
            )
        if anchors is None or len(anchors) != 1:
            raise PromptError("The labels are one slice: say with one anchor which one it is.")
        self._place = anchors[0]
        self._only = np.asarray(array).reshape(self.plane_shape)

    @property
    def plane_bytes(self) -> int:
        """Bytes of a slice."""
        values = math.prod(self.plane_shape)
        return values * int(self.dtype.itemsize)

    def let_go(self) -> None:
        """Hold nothing that was read any more."""
        if self._place is None:
            self._reader.expect([range(self.length)], self._limit)

    def most_held(self, limit: int) -> int:
        """Bytes that are held at most while slices are read, under a limit."""
        if self._place is not None:
            return 0
        return self._reader.most_held([range(self.length)], limit)

    def plane(self, index: int) -> npt.NDArray[Any]:
        """Return the labels of a slice, `(H, W)`."""
        if self._place is not None:
            here = index == self._place
            return self._only.copy() if here else np.zeros(self.plane_shape, self.dtype)
        return self._reader.plane(index)

    def planes(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Several slices, `(stop - start, H, W)`."""
        found = np.zeros((stop - start, *self.plane_shape), self.dtype)
        for k in range(start, stop):
            if self._place in (None, k):
                found[k - start] = self.plane(k)
        return found

    def prompts(self) -> dict[int, npt.NDArray[Any]]:
        """Painted slices: those that were asked for, else all.

        Raises
        ------
        PromptError
            If nothing is painted there.
        """
        if self._anchors is None:
            found = {}
            for k in range(self.length):
                plane = self.plane(k)
                if plane.any():
                    found[k] = plane
            if not found:
                raise PromptError("No slice of the labels is painted: paint at least one.")
            refuse_across(found, self.axis)
            return found
        chosen = {}
        for k in self._anchors:
            if not 0 <= k < self.length:
                raise PromptError(f"Anchor {k} is outside: slices are 0 to {self.length - 1}.")
            chosen[k] = self.plane(k)
            if not chosen[k].any() and k not in self._erased:
                raise PromptError(
                    f"Nothing is painted on slice {k}: choose painted slices as anchors."
                )
        return chosen


def refuse_across(planes: Mapping[int, npt.NDArray[Any]], axis: int) -> None:
    """Refuse labels that seem to have been painted on one slice of another axis, wholly or in part.

    A painted slice counts as painted in full. Where an object was painted on a slice across as
    well, all others that this one crosses hold a line of it, and would say that it ends there.

    Parameters
    ----------
    planes : mapping of int to ndarray
        Painted slices, `(H, W)` each.
    axis : int
        Axis that they lie along, 0 to 2.

    Raises
    ------
    PromptError
        If there are some, and all that is on them lies in one row or column, or in two or three
        that are apart; or if one holds all but what is on single slices, on which an object is
        suddenly wide between slices where it is a line.

    Warns
    -----
    PromptWarning
        If this is so for one label of several, which may be thin.
    """
    if len(planes) < _SOME:
        return
    for side in (0, 1):
        rows = {k: plane.any(1 - side) for k, plane in planes.items()}
        lines = np.any(list(rows.values()), axis=0)
        other = [a for a in range(3) if a != axis][side]
        single = np.count_nonzero(lines) == 1 and len(lines) > 1
        if single or _are_of_one_object(planes, np.flatnonzero(lines), side):
            across = np.flatnonzero(lines).tolist()
            raise PromptError(
                f"All that is painted lies on slice{'s' * (len(across) > 1)} {_named(across)} of "
                f"axis {other}, but the slices of axis {axis} are walked: give axis {other}, or, "
                "if that is meant, name the painted slices as anchors."
            )
        crossing = {k: int(row.argmax()) for k, row in rows.items() if np.count_nonzero(row) == 1}
        if (where := _crossed(planes, crossing, side)) is not None:
            full = sorted(planes.keys() - crossing.keys())
            named = ", ".join(map(str, full))
            raise PromptError(
                f"All that is painted beside slice{'s' * (len(full) > 1)} {named} lies on slice "
                f"{where} of axis {other}, so that most slices of axis {axis} hold one line of an "
                f"object: erase it there, or name the slices that are painted in full as anchors "
                f"({named})."
            )
    _warn_of_lines(planes, axis)


def warn_if_all(
    planes: Mapping[int, npt.NDArray[Any]], length: int, ids: Collection[int] | None = None
) -> None:
    """Warn where every slice is painted and nobody has named some: there is nothing to propagate.

    Parameters
    ----------
    planes : mapping of int to ndarray
        Painted slices, `(H, W)` each.
    length : int
        Slices of the volume.
    ids : collection of int, optional
        Labels that are propagated; slices that show others only are no anchors of these.

    Warns
    -----
    PromptWarning
        If this is so.
    """
    if len(planes) != length or length < 2:
        return
    if ids is None or all(carries(plane, ids).any() for plane in planes.values()):
        warnings.warn(
            f"All {length} slices are painted, so there was nothing to propagate: name the slices "
            "to start from as anchors; or are image and labels swapped?",
            PromptWarning,
            stacklevel=3,
        )


def _are_of_one_object(
    planes: Mapping[int, npt.NDArray[Any]], where: npt.NDArray[np.intp], side: int
) -> bool:
    """Whether the only lines on slices are few, apart, long, and show one label several times."""
    if not 1 < len(where) <= _SOME or (np.diff(where) == 1).any() or _longest_row(planes) < _MANY:
        return False
    if np.median([np.count_nonzero(plane) for plane in planes.values()]) < _SOME * len(where):
        return False
    lines = [np.unique([plane.take(w, side) for plane in planes.values()]) for w in where]
    shown, often = np.unique(np.concatenate(lines), return_counts=True)
    return bool((often[shown != 0] > 1).any())


def _warn_of_lines(planes: Mapping[int, npt.NDArray[Any]], axis: int) -> None:
    for label, (side, where, slices) in sorted(_labels_in_line(planes).items()):
        other = [a for a in range(3) if a != axis][side]
        warnings.warn(
            f"Label {label} is a line on each of slices {slices[0]} to {slices[-1]} of axis "
            f"{axis}: if it was painted on slice {where} of axis {other}, propagate it along that "
            "axis, or name the slices that are painted in full as anchors.",
            PromptWarning,
            stacklevel=3,
        )


def _labels_in_line(
    planes: Mapping[int, npt.NDArray[Any]],
) -> dict[int, tuple[int, int, list[int]]]:
    """Find labels that are the same row, or column, of many slices: label -> side, place, slices.

    Every slice is looked at once; where there are more labels than anybody paints, not at all.
    """
    places: dict[int, set[tuple[int, int]]] = {}
    seen: dict[int, list[int]] = {}
    lengths: dict[int, list[int]] = {}
    for k, plane in sorted(planes.items()):
        if int(plane.max()) > _MOST_IDS:
            return {}
        boxes = [(i, box) for i, box in enumerate(ndimage.find_objects(plane), 1) if box]
        if len(boxes) > _MOST_LABELS:
            return {}
        for label, box in boxes:
            thin = {(side, s.start) for side, s in enumerate(box) if s.stop - s.start == 1}
            places[label] = thin & places.get(label, thin)
            seen.setdefault(label, []).append(k)
            lengths.setdefault(label, []).append(max(s.stop - s.start for s in box))
    return {
        label: (*next(iter(found)), seen[label])
        for label, found in places.items()
        if found and _longest_row(seen[label]) >= _MANY and np.median(lengths[label]) >= _SOME
    }


def _named(numbers: Collection[int]) -> str:
    return " and ".join(map(str, numbers))


def _crossed(
    planes: Mapping[int, npt.NDArray[Any]], crossing: Mapping[int, int], side: int
) -> int | None:
    """Return the slice across on which lines lie, if it was certainly painted beside others.

    Thin objects are lines, too, on every slice. So lines have to be most of what is painted, in one
    plane and on many slices in a row; the others have to be apart from each other; and one label
    has to be a line here and wide there.
    """
    full = sorted(planes.keys() - crossing.keys())
    if len(set(crossing.values())) != 1 or not full or len(crossing) < _SOME * len(full):
        return None
    if np.median([np.count_nonzero(planes[k]) for k in crossing]) < _SOME:
        return None
    if any(k + 1 in full for k in full) or _longest_row(planes) < _MANY:
        return None
    (where,) = set(crossing.values())
    thin = {i for k in crossing for i in ids_on(planes[k])}
    for k in full:
        for label in thin.intersection(ids_on(planes[k])):
            if np.count_nonzero((planes[k] == label).any(1 - side)) >= _SOME:
                return where
    return None


def _longest_row(numbers: Collection[int]) -> int:
    """Return how many numbers at most follow one another."""
    longest = row = 0
    for k in sorted(numbers):
        row = row + 1 if k - 1 in numbers else 1
        longest = max(longest, row)
    return longest


def fill(plane: npt.NDArray[Any], found: npt.NDArray[Any], ids: Collection[int]) -> None:
    """Put what was found into a plane, in place, where that is empty or holds one of `ids`."""
    ours = (plane == 0) | carries(plane, ids)
    np.copyto(plane, found, where=ours, casting="same_kind")
