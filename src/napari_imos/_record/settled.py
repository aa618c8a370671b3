"""What a person has settled along other axes stays as it is while one is walked."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import carries
from napari_imos._record.crossing import crossed, meeting
from napari_imos._record.ends_across import ends_across
from napari_imos._record.left import within
from napari_imos._record.provenance import Kind
from napari_imos._walk import ids_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt
    from napari.layers import Labels

    from napari_imos._record.ends_across import EndAcross
    from napari_imos._record.ledger import Ledger
    from napari_imos._record.provenance import Provenance
    from napari_imos._walk import Index, Walk


class Settled:
    """What results of a walk may not change.

    Checked slices along other axes, what was erased of results there, and on prompts there all
    objects that were painted on them: a slice that a person painted is complete for these. What has
    ended along another axis does not come back behind its end.

    Parameters
    ----------
    ledger : Ledger
        What is known of the layer.
    labels : Labels
        The layer.
    walk : Walk
        What is walked.
    prompts : mapping of int to ndarray
        Its prompts: slice -> `(H, W)` labels.
    """

    def __init__(
        self,
        ledger: Ledger,
        labels: Labels,
        walk: Walk,
        prompts: Mapping[int, npt.NDArray[Any]],
    ) -> None:
        self._ledger, self._labels, self._walk, self._prompts = ledger, labels, walk, prompts

    def keep(
        self,
        index: int,
        plane: npt.NDArray[Any],
        box: tuple[slice, slice],
        made: npt.NDArray[Any],
    ) -> npt.NDArray[Any]:
        """Return a result with what has to stay put back.

        Parameters
        ----------
        index : int
            Slice.
        plane : ndarray
            `(H, W)` labels that the layer holds there.
        box : (slice, slice)
            Rows and columns of the result.
        made : ndarray
            The result there.
        """
        held = np.asarray(plane[box])
        said = self._said(index, plane.shape, box, held)
        if said is not None:
            made = np.where(said[box], held, made)
        for other, k, shown in self._drawn:
            part = meeting(self._walk, index, other, k)
            if part is not None:
                on = np.zeros(plane.shape, bool)
                on[part] = True
                made = np.where(on[box] & (carries(held, shown) | carries(made, shown)), held, made)
        for end in self._ended:
            back = (made == end.label) & (held != end.label)
            beyond = end.beyond[box[end.side]]
            made = np.where(back & (beyond if end.side else beyond[:, None]), held, made)
        return made

    def _said(
        self,
        index: int,
        shape: tuple[int, ...],
        box: tuple[slice, slice],
        held: npt.NDArray[Any],
    ) -> npt.NDArray[np.bool_] | None:
        """Voxels of checked slices, and what was erased of what runs along them left; or None."""
        records = self._ledger.records
        # a walk that was only looked at says nothing
        crossing = [
            other
            for other in self._ledger.crossing(self._walk)
            if records[other].ids or records[other].checked.any()
        ]
        if not crossing:
            return None
        settled = np.zeros(shape, bool)
        left = self._ledger.noted(within(self._walk.at(index), box), held)
        erased = np.where(held == 0, left, 0)
        anything = erased.any()
        for other in crossing:
            record = records[other]
            for part in self._parts(index, other, np.flatnonzero(record.checked).tolist()):
                settled[part] = True
            if anything:
                # whether or not anybody has looked at these slices since
                lost = np.zeros(shape, bool)
                lost[box] = carries(erased, record.ids)
                voxels = np.flatnonzero(lost).astype(np.int32)
                met = crossed(self._walk, index, voxels, self._labels.data.shape, other)
                for part in self._parts(index, other, met):
                    settled[part] |= lost[part]
        return settled

    def _parts(self, index: int, other: Walk, slices: Iterable[int]) -> Iterator[Index]:
        """Yield where a slice meets slices of another walk, without those that are dropped."""
        for k in slices:
            part = meeting(self._walk, index, other, k)
            if part is not None and k not in self._ledger.records[other].dropped:
                yield part

    @cached_property
    def _ended(self) -> list[EndAcross]:
        return list(ends_across(self._ledger, self._labels, self._walk, self._prompts))

    @cached_property
    def _drawn(self) -> list[tuple[Walk, int, tuple[int, ...]]]:
        """Prompts of runs along other axes, and the labels that a person painted on them."""
        found: list[tuple[Walk, int, tuple[int, ...]]] = []
        for other in self._ledger.crossing(self._walk):
            record = self._ledger.records[other]
            for k in self._ledger.prompts(self._labels, other):
                # one that was corrected is a person's in part only
                if record.written[k] or record.kind[k] != Kind.DRAWN or k in record.dropped:
                    continue
                if painted := ids_on(self._painted(other, k)):
                    found.append((other, k, painted))
        return found

    def _painted(self, walk: Walk, k: int) -> npt.NDArray[Any]:
        """Labels of a slice, `(H, W)`, where they were painted there.

        Not where runs along other axes have left them, nor on lines of slices along these that
        were painted: of the objects there, the slice shows what was found.
        """
        plane = self._ledger.meant(self._labels, walk, k)
        plane[self._ledger.ours(walk.at(k), plane)] = 0
        for other in self._ledger.crossing(walk):
            for m in _painted_along(self._ledger.records[other]):
                if (part := meeting(walk, k, other, m)) is not None:
                    plane[part] = 0
        return plane


def _painted_along(record: Provenance) -> set[int]:
    """Slices of a walk that were painted along it, as last seen: brushed, or prompts of runs.

    What seems to be corrected without a brush may have been painted along another axis.
    """
    anchors = {k for run in record.runs for k in run["anchors"] if record.kind[k] != Kind.CORRECTED}
    return anchors.union(np.flatnonzero(record.painted).tolist())
