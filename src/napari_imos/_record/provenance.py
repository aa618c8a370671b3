"""Provenance: what every slice of a walk is, where it came from and how sure the model was."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imos_core.label_ids import carries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt


class Kind(IntEnum):
    """What a slice is."""

    EMPTY = 0
    """Nothing is on it and no run has reached it."""
    PREDICTED = 1
    """As a run left it."""
    DRAWN = 2
    """Painted by a person."""
    CORRECTED = 3
    """Predicted, then changed by a person."""
    CHECKED = 4
    """A person has said that it is right: it is locked."""


SOURCES = ("", "anchor", "forward", "backward", "blend")
"""Where a predicted slice came from; the position is what is stored."""


class Foreign(NamedTuple):
    """What a run has met on a slice that is not ours."""

    held: int
    """Checksum of what the slice held then."""
    runs: int = 0
    """How many runs there were."""
    mask: int | None = None
    """Checksum of where their labels are not ours; None: not known."""


@dataclass(eq=False)
class Provenance:
    """Record of the slices of one walk through one Labels layer.

    Parameters
    ----------
    length : int
        Slices.
    """

    length: int
    kind: npt.NDArray[np.uint8] = field(init=False)
    """`(length,)` `Kind` of each slice, as last seen."""
    confidence: npt.NDArray[np.float32] = field(init=False)
    """`(length,)` 0..1; NaN where no run has been."""
    source: npt.NDArray[np.uint8] = field(init=False)
    """`(length,)` index into `SOURCES`."""
    written: npt.NDArray[np.bool_] = field(init=False)
    """`(length,)` whether a run has delivered the slice."""
    checked: npt.NDArray[np.bool_] = field(init=False)
    """`(length,)` whether a person locked it."""
    painted: npt.NDArray[np.bool_] = field(init=False)
    """`(length,)` whether a brush was seen on it."""
    touched: npt.NDArray[np.bool_] = field(init=False)
    """`(length,)` whether one was seen whose stroke was undone."""
    strokes: dict[int, list[int]] = field(default_factory=dict)
    """Slices that a brush was on -> checksums: before it, then whenever looked at while painted."""
    dropped: dict[int, int] = field(default_factory=dict)
    """Slices that a person wants not to be anchors -> checksum of what they held then."""
    foreign: dict[int, Foreign] = field(default_factory=dict)
    """Slices on which a run has met what is not ours."""
    given: dict[int, frozenset[int]] = field(default_factory=dict)
    """Results that were given back -> checksums of all that they held: Ctrl+Z leads there again."""
    erased: dict[int, list[int]] = field(default_factory=dict)
    """Corrected slices, of which that is seen no more -> labels that were erased from them."""
    prompts: set[int] = field(default_factory=set)
    """Slices that were prompts of runs that stand."""
    ended: dict[int, list[int]] = field(default_factory=dict)
    """Slices, whatever they are -> labels that a person said have ended before them."""
    basis: dict[int, npt.NDArray[np.uint32]] = field(default_factory=dict)
    """Label -> `(length,)` checksum of the anchors and model that its slices were made from."""
    runs: list[dict[str, Any]] = field(default_factory=list)
    """Facts of the runs: model, checksum, adapter, range, anchors, labels."""

    def __post_init__(self) -> None:
        self.kind = np.zeros(self.length, np.uint8)
        self.confidence = np.full(self.length, np.nan, np.float32)
        self.source = np.zeros(self.length, np.uint8)
        self.written = np.zeros(self.length, bool)
        self.checked = np.zeros(self.length, bool)
        self.painted = np.zeros(self.length, bool)
        self.touched = np.zeros(self.length, bool)

    @property
    def ids(self) -> tuple[int, ...]:
        """Labels of all runs."""
        return tuple(sorted({i for run in self.runs for i in run["labels"]}))

    def deliver(self, index: int, confidence: float, source: str, basis: Mapping[int, int]) -> None:
        """Note a slice that a run has finished.

        Parameters
        ----------
        index : int
            Slice.
        confidence : float
            0..1; NaN for what is known already.
        source : str
            One of `SOURCES`.
        basis : mapping of int to int
            Label -> what it was made from.
        """
        self.written[index] = True
        self.kind[index] = Kind.PREDICTED
        if not math.isnan(confidence):
            self.confidence[index] = confidence
        self.source[index] = SOURCES.index(source) if source in SOURCES else 0
        self.given.pop(index, None)
        self.made_from(index, basis)

    def made_from(self, index: int, basis: Mapping[int, int]) -> None:
        """Note what labels of a slice, all or some, were made from; see `deliver`."""
        for label, value in basis.items():
            self.basis.setdefault(label, np.zeros(self.length, np.uint32))[index] = value

    def look(
        self,
        index: int,
        plane: npt.NDArray[Any],
        left: npt.NDArray[Any] | None,
        painted: Callable[[], bool],
    ) -> None:
        """Note what a slice is now that nobody has locked.

        Parameters
        ----------
        index : int
            Slice.
        plane : ndarray
            `(H, W)` labels that the layer holds there.
        left : ndarray or None
            `(H, W)` what runs have left there; None: nothing.
        painted : callable
            Whether a label that no run knows was painted on it, where no brush was seen there.
        """
        differs = None if left is None else plane != left
        if not self.written[index]:
            self._follow_undo(index, plane)
        if self.written[index]:
            corrected = self._is_corrected(index, plane, left, differs, painted)
            if corrected:
                self.painted[index] |= self.touched[index]
            elif self.painted[index]:
                # what was painted is undone; who does it again is not seen
                self.painted[index], self.touched[index] = False, True
            kind = Kind.CORRECTED if corrected else Kind.PREDICTED
        elif left is None or differs is None:
            kind = Kind.DRAWN if plane.any() else Kind.EMPTY
        elif differs.any() and plane[differs].any():
            kind = Kind.DRAWN
        else:
            kind = Kind.PREDICTED if left.any() else Kind.EMPTY
        self.kind[index] = kind
        ours, held = kind in (Kind.PREDICTED, Kind.EMPTY), self.dropped.get(index)
        if ours and held is not None and held != checksum(plane):
            # what a person had painted there is gone
            self.forget(index)

    def _follow_undo(self, index: int, plane: npt.NDArray[Any]) -> None:
        """Note whether strokes on a slice that no run has written are undone, or done again."""
        known = self.strokes.get(index)
        if known is None:
            return
        now = checksum(plane)
        if now == known[0]:
            self.touched[index] |= self.painted[index]
            self.painted[index] = False
        elif self.painted[index]:
            known += [] if now in known else [now]
        elif now in known:
            self.painted[index] = True

    def _is_corrected(
        self,
        index: int,
        plane: npt.NDArray[Any],
        left: npt.NDArray[Any] | None,
        differs: npt.NDArray[np.bool_] | None,
        painted: Callable[[], bool],
    ) -> bool:
        """Whether a person has changed a slice since a run delivered it."""
        if index in self.erased:
            return True
        if not (plane.any() if differs is None else differs.any()):
            return False
        foreign = self.foreign.get(index)
        if foreign is not None and foreign.held == checksum(plane):
            return False  # what was painted is undone
        theirs = plane[plane != 0] if differs is None else plane[differs]
        lost = theirs[:0] if left is None else left[differs]
        if foreign is not None and foreign.mask is not None:
            own = self.where_ours_are_not(plane, left, foreign.runs)[1] != foreign.mask
        elif any(made[index] for made in self.basis.values()):
            own = bool(carries(theirs, self.ids).any() or carries(lost, self.ids).any())
        else:
            # who gave it back since has said that all of it is ours
            own = bool(carries(theirs, self.ids).any() or lost.any())
        # another label that lay there before is no correction; one that was painted is
        more = theirs.any() or lost.any()
        return own or bool(more and (self.painted[index] or self.touched[index] or painted()))

    def where_ours_are_not(
        self, plane: npt.NDArray[Any], left: npt.NDArray[Any] | None, count: int | None = None
    ) -> tuple[int, int]:
        """Sum up where labels of runs are, or are not, in spite of what these have left there.

        Which labels these are, and what else lies there, has no part in it: it stays the same where
        a person gives objects other labels throughout.

        Parameters
        ----------
        plane : ndarray
            `(H, W)` labels that the layer holds.
        left : ndarray or None
            `(H, W)` what runs have left there; None: nothing.
        count : int, optional
            Only labels of so many runs, the first ones; by default of all.

        Returns
        -------
        int, int
            How many runs, and the checksum.
        """
        runs = self.runs[:count]
        ids = {i for run in runs for i in run["labels"]}
        mine = carries(plane, ids)
        if left is not None:
            mine = (plane != left) & (mine | carries(left, ids))
        return len(runs), zlib.crc32(np.packbits(mine))

    def copy(self) -> Provenance:
        """Return a copy, to come back to."""
        other = Provenance(self.length)
        other.take(self, range(self.length))
        other.checked, other.painted = self.checked.copy(), self.painted.copy()
        other.touched = self.touched.copy()
        other.dropped, other.runs = dict(self.dropped), list(self.runs)
        other.foreign, other.given = dict(self.foreign), dict(self.given)
        other.erased, other.prompts = dict(self.erased), set(self.prompts)
        other.ended = {k: list(labels) for k, labels in self.ended.items()}
        return other

    def take(self, other: Provenance, slices: Iterable[int]) -> None:
        """Take what another record says of some slices, what a person said left out."""
        which = np.fromiter(slices, np.intp)
        for name in ("kind", "confidence", "source", "written"):
            getattr(self, name)[which] = getattr(other, name)[which]
        for name in ("foreign", "given"):
            known, theirs = getattr(self, name), getattr(other, name)
            for k in which.tolist():
                known.pop(k, None)
                if k in theirs:
                    known[k] = theirs[k]
        self.take_basis(other, which)

    def take_basis(self, other: Provenance, slices: Iterable[int]) -> None:
        """Take what another record says that some slices were made from."""
        which = np.fromiter(slices, np.intp)
        for label in {*self.basis, *other.basis}:
            mine = self.basis.setdefault(label, np.zeros(self.length, np.uint32))
            mine[which] = other.basis[label][which] if label in other.basis else 0

    def end(self, index: int, label: int, *, on: bool = True) -> None:
        """Note that a label has ended before a slice, or that it may go on there."""
        others = {i for i in self.ended.pop(index, ()) if i != label}
        labels = others | {label} if on else others
        if labels:
            self.ended[index] = sorted(labels)

    def ends(self, label: int, shown: Sequence[int]) -> list[int]:
        """Slices before which a label has ended.

        Parameters
        ----------
        label : int
            Label.
        shown : sequence of int
            Anchors that show it: what lies between them is no end any more.
        """
        said = (k for k, labels in self.ended.items() if label in labels)
        return sorted(k for k in said if not shown or not min(shown) <= k <= max(shown))

    def forget(self, index: int) -> None:
        """Have a slice redone, whatever it was made from."""
        for made in self.basis.values():
            made[index] = 0

    def brush(self, index: int, before: int | None) -> None:
        """Note that a brush was on a slice.

        Parameters
        ----------
        index : int
            Slice.
        before : int or None
            Checksum of what it held before; None: not known.
        """
        if before is not None and not self.painted[index]:
            known = self.strokes.get(index, [])
            self.strokes[index] = known if before in known else [before]
        self.painted[index] = True

    def disturb(self, index: int) -> dict[str, Any]:
        """Note that a slice holds something else by now; return what is not true any more."""
        before = {
            "confidence": self.confidence[index],
            "source": self.source[index],
            "basis": {label: made[index] for label, made in self.basis.items()},
        }
        self.forget(index)
        self.confidence[index] = np.nan
        self.source[index] = 0
        return before

    def calm(self, index: int, before: Mapping[str, Any]) -> None:
        """Take back `disturb`: it holds again what it did."""
        self.confidence[index], self.source[index] = before["confidence"], before["source"]
        self.made_from(index, before["basis"])

    def still_dropped(self, other: Provenance) -> None:
        """Take over what slices held that are dropped in both records."""
        for k in self.dropped.keys() & other.dropped.keys():
            self.dropped[k] = other.dropped[k]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON would hold it."""
        known = np.isfinite(self.confidence)
        return {
            "kind": [Kind(k).name.lower() for k in self.kind],
            "confidence": [
                round(float(c), 4) if ok else None
                for c, ok in zip(self.confidence, known, strict=True)
            ],
            "source": [SOURCES[s] for s in self.source],
            "written": np.flatnonzero(self.written).tolist(),
            "checked": np.flatnonzero(self.checked).tolist(),
            "painted": np.flatnonzero(self.painted).tolist(),
            "prompts": sorted(self.prompts),
            "dropped": {str(k): v for k, v in self.dropped.items()},
            "foreign": {str(k): list(v) for k, v in self.foreign.items()},
            "ended": {str(k): list(v) for k, v in self.ended.items()},
            "basis": {str(label): values.tolist() for label, values in self.basis.items()},
            "runs": [dict(facts) for facts in self.runs],
        }

    @classmethod
    def from_plain(cls, given: Mapping[str, Any]) -> Provenance:
        """Read what `plain` wrote.

        Raises
        ------
        KeyError, ValueError, TypeError
            If it is something else.
        """
        record = cls(len(given["kind"]))
        record.kind[:] = [Kind[name.upper()] for name in given["kind"]]
        record.confidence[:] = [np.nan if c is None else float(c) for c in given["confidence"]]
        record.source[:] = [SOURCES.index(s) for s in given["source"]]
        for name in ("written", "checked", "painted"):
            getattr(record, name)[np.asarray(given[name], np.intp)] = True
        record.prompts = {int(k) for k in given["prompts"]}
        record.dropped = {int(k): int(v) for k, v in given["dropped"].items()}
        for k, (held, runs, mask) in given["foreign"].items():
            known = None if mask is None else int(mask)
            record.foreign[int(k)] = Foreign(int(held), int(runs), known)
        for k, labels in given["ended"].items():
            record.ended[int(k)] = [int(i) for i in labels]
        for label, values in given["basis"].items():
            record.basis[int(label)] = np.asarray(values, np.uint32)
            if len(values) != record.length:
                raise ValueError(f"label {label} has {len(values)} slices, not {record.length}")
        record.runs = [dict(run) for run in given["runs"]]
        return record


def checksum(plane: npt.NDArray[Any]) -> int:
    """Return a checksum of a slice's labels, the same for every dtype that holds them."""
    values = np.ascontiguousarray(plane)
    total = zlib.crc32(values.astype(np.uint32))
    if values.dtype.itemsize > 4 and not _is_narrow(values):
        # the same as where four bytes hold them, if they do
        total = zlib.crc32(values.astype(np.uint64), total)
    return total


def _is_narrow(values: npt.NDArray[Any]) -> bool:
    """Whether four bytes hold labels, as most of those do that have eight."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return high < 2**31 if low < 0 else high < 2**32


def beside(slices: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which slices, `(length,)`, lie beside one of some."""
    found = np.zeros_like(slices)
    found[1:] |= slices[:-1]
    found[:-1] |= slices[1:]
    return found
