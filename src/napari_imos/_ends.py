"""Ends: objects of which a person says that they have ended on a slice, and what goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imos_core.boxes import box_of
from imos_core.errors import PromptError
from imos_core.label_ids import ids_on
from napari_imos._job import Job, Rules
from napari_imos._layers import check_writable
from napari_imos._opening import visible_in
from napari_imos._record.ends_across import shown_most
from napari_imos._record.ledger import Ledger, is_near
from napari_imos._record.left import within
from napari_imos._record.plan import bases
from napari_imos._record.settled import Settled
from napari_imos._stream import LabelsStream
from napari_imos._words import counted, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_imos._record.provenance import Provenance
    from napari_imos._walk import Walk


class _Fate(NamedTuple):
    """What becomes of an object on a slice behind its end, where it lies in several ways."""

    goes: bool = False
    """Something of it may be taken away."""
    theirs: bool = False
    """Something is of somebody else than a run."""
    settled: bool = False
    """Something of a run is settled along another axis."""


def _stays(slices: Sequence[int], how: str) -> str:
    """Say on which slices something stays, and what to do about that; nothing if on none."""
    if not slices:
        return ""
    where = f"{counted(len(slices), 'slice')} from there on ({numbers(slices)})"
    return f" On {where} it {how}, and press Ends here again."


@dataclass(frozen=True)
class End:
    """An object that has ended before a slice, seen from where it is painted."""

    labels: Labels
    walk: Walk
    index: int
    """First slice, on its way from the anchors, that does not show it."""
    label: int
    anchors: tuple[int, ...]
    """Anchors that show it, ascending."""
    beyond: tuple[int, ...]
    """Slices from there on where a run has left it."""
    side: int
    """1 if it is walked forward from where it is painted, else -1."""

    @property
    def sentence(self) -> str:
        """What a person has said, in words."""
        if self.anchors and self.index < self.anchors[0]:
            return f"Label {self.label} begins after slice {self.index}."
        return f"Label {self.label} ends before slice {self.index}."

    @property
    def takes(self) -> bool:
        """Whether something of a run is left of it there that may be taken away."""
        return any(self._fate(k).goes for k in self.beyond)

    @property
    def remark(self) -> str:
        """What stays of it, and what to do about that, in words; labels far away are not read."""
        data: Any = self.labels.data
        if not is_near(data):
            return ""
        length = data.shape[self.walk.axis]
        ahead = range(self.index, length) if self.side > 0 else range(self.index + 1)
        fates = {k: self._fate(k) for k in ahead}
        theirs = [k for k in ahead if fates[k].theirs]
        across = [k for k in ahead if fates[k].settled and not fates[k].theirs]
        back = "back to iMOS on the timeline"
        return _stays(theirs, f"is not of iMOS and stays: give them {back}") + _stays(
            across,
            "stays where slices along another axis are painted or checked: turn the view, give "
            f"these {back}",
        )

    @cached_property
    def _settled(self) -> Settled:
        return Settled(Ledger.of(self.labels), self.labels, self.walk, {})

    def _fate(self, k: int) -> _Fate:
        """What becomes of what lies on a slice."""
        data: Any = self.labels.data
        plane = np.asarray(data[self.walk.at(k)])
        there = plane == self.label
        box = box_of(there)
        if box is None:
            return _Fate()
        held, there = plane[box], there[box]
        mine = there & Ledger.of(self.labels).ours(within(self.walk.at(k), box), held)
        made = self._settled.keep(k, plane, box, np.where(mine, plane.dtype.type(0), held))
        stays = made == self.label
        return _Fate(
            bool((mine & ~stays).any()), bool((there & ~mine).any()), bool((mine & stays).any())
        )

    def note(self) -> None:
        """Put it into the record."""
        self._record.end(self.index, self.label)

    def open_stream(self, viewer: ViewerModel | None) -> LabelsStream:
        """Open the run that takes away what lies beyond; what a person painted stays.

        Parameters
        ----------
        viewer : ViewerModel, optional
            Viewer that shows it.
        """
        data: Any = self.labels.data
        prompts = {k: np.array(data[self.walk.at(k)]) for k in self.anchors}
        length = data.shape[self.walk.axis]
        absent = {self.label: self._record.ends(self.label, self.anchors)}
        job = Job(
            image=None,
            prompts=prompts,
            ids=(self.label,),
            walk=self.walk,
            length=length,
            keywords={"labels": (self.label,)},
            rules=Rules(),
            spans=(),
            ended=dict.fromkeys(self.beyond, (self.label,)),
            layer=self.labels,
            absent=absent,
            basis=bases(prompts, (self.label,), length, "", absent),
        )
        said = ((self.walk, self.index, self.label),)
        visible = visible_in(viewer, self.labels, self.walk)
        return LabelsStream(
            self.labels, job, visible, facts_of_end(self._record, self.label), ends=said
        )

    @property
    def _record(self) -> Provenance:
        return Ledger.of(self.labels).record(self.labels, self.walk)


def facts_of_end(record: Provenance, label: int) -> dict[str, Any]:
    """Return what is recorded of a run that only takes a label away: as of the last one with it.

    Parameters
    ----------
    record : Provenance
        Of the walk on which somebody has said that it has ended.
    label : int
        Label.
    """
    found = [run for run in record.runs if label in run["labels"]] or record.runs
    return {**(found[-1] if found else {}), "ranges": []}


def meant_label(labels: Labels, walk: Walk, index: int, known: Sequence[int]) -> int:
    """Label that a person means who says that an object has ended before a slice.

    The selected one, if it is there, or anywhere beyond, or nothing else is, or runs know it or an
    anchor shows it; or else the only one that a run has left there, which is selected then.

    Parameters
    ----------
    labels, walk, index, known
        See `end_before`.

    Raises
    ------
    PromptError
        If that is none, or any of several.
    """
    selected, ledger, data = int(labels.selected_label), Ledger.of(labels), labels.data
    if not selected:
        raise PromptError("No label is selected: select that of the object that has ended.")
    if selected in ledger.record(labels, walk).ended.get(index, ()):
        return selected
    plane = np.asarray(data[walk.at(index)])
    here = ids_on(np.where(ledger.ours(walk.at(index), plane), plane, 0))
    if not here or (plane == selected).any() or _is_beyond(labels, walk, index, selected, known):
        return selected
    if selected in ledger.record(labels, walk).ids or any(
        selected in ledger.ids_seen(labels, walk, k) for k in known
    ):
        return selected  # it ended by itself, which somebody wants to make sure of
    if len(here) > 1:
        raise PromptError(
            f"Slice {index} shows the labels {numbers(here)}, but {selected} is selected: select "
            "that of the object that has ended."
        )
    labels.selected_label = here[0]
    return here[0]


def _is_beyond(labels: Labels, walk: Walk, index: int, label: int, known: Sequence[int]) -> bool:
    try:
        return bool(end_before(labels, walk, index, label, known).beyond)
    except PromptError:
        return False


def goes_on(labels: Labels, walk: Walk, index: int, label: int) -> bool:
    """Take back that a label has ended before a slice; whether somebody had said so."""
    record = Ledger.of(labels).record(labels, walk)
    said = label in record.ended.get(index, ())
    if said:
        record.end(index, label, on=False)
    return said


def comes_back(
    labels: Labels, walk: Walk, index: int, label: int, known: Sequence[int]
) -> End | None:
    """Return the end of an object of which something is there again behind it, or None.

    See `end_before`.
    """
    try:
        end = end_before(labels, walk, index, label, known)
    except PromptError:
        return None
    return end if end.takes else None


def end_before(labels: Labels, walk: Walk, index: int, label: int, known: Sequence[int]) -> End:
    """Check that an object may have ended before a slice; nothing is changed.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Slices.
    index : int
        Slice that does not show the object.
    label : int
        Its label.
    known : sequence of int
        Anchors, ascending.

    Raises
    ------
    PromptError
        If nobody can tell on which side of the slice the object is, or it is painted there.
    """
    check_writable(labels)
    ledger = Ledger.of(labels)
    shown = tuple(k for k in known if label in ledger.ids_seen(labels, walk, k))
    if index in shown:
        raise PromptError(
            f"Slice {index} is an anchor that shows label {label}: erase it there if it is not "
            "on it."
        )
    side = _side(labels, walk, index, label, shown)
    left = ledger.left_on(walk, label)
    beyond = [k for k in left if k >= index] if side > 0 else [k for k in left[::-1] if k <= index]
    return End(labels, walk, index, label, shown, tuple(beyond), side)


def _side(labels: Labels, walk: Walk, index: int, label: int, shown: Sequence[int]) -> int:
    """Say whether an object lies before a slice, 1, or after it, -1."""
    if shown:
        if shown[0] < index < shown[-1]:
            raise PromptError(
                f"Label {label} is painted on both sides of slice {index}: erase it there if it "
                "is not on it."
            )
        return 1 if index > shown[-1] else -1
    # a step of a series, into which it was carried: it lies where most of it is
    largest = shown_most(Ledger.of(labels), labels, walk, label)
    if largest is None or largest == index:
        raise PromptError(
            f"Label {label} is painted on no slice that says on which side of slice {index} it is: "
            "paint it, or select another label."
        )
    return 1 if index > largest else -1
