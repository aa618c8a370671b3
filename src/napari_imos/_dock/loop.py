"""Loop: the timeline and the buttons that lead a person from slice to slice."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import Container, PushButton
from psygnal import Signal
from qtpy.QtCore import QTimer
from superqt.utils import qthrottled

from napari_imos import _words as words
from napari_imos._dock.keys import written
from napari_imos._dock.parts import row
from napari_imos._record.ledger import Ledger, is_near
from napari_imos._record.lost import lost_on
from napari_imos._record.provenance import Kind, checksum
from napari_imos._record.said import release, toggle_anchor, toggle_checked
from napari_imos._saved.notes import Notes
from napari_imos._timeline import Timeline
from napari_imos._walk import show_slice, shown_slice, shows_across
from napari_imos._weak import weakly
from napari_imos._words import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from napari.layers import Labels
    from napari.viewer import Viewer

    from napari_imos._walk import Walk

_BUDGET = 0.008  # seconds that a look at the slices may take before the person has a turn
_AT_ONCE = 5_000_000  # voxels that are quick enough to look at in one go
_PAUSE = 30  # milliseconds until the next look


class LoopPanel(Container):
    """Timeline, and the way to the next slice that needs a person.

    Parameters
    ----------
    viewer : Viewer
        Viewer whose slider is moved.
    """

    said = Signal(str)
    """A sentence for the person."""
    anchors_changed = Signal()
    """Slices were looked at, or a person said something of one."""
    told = Signal()
    """A person said something of a slice."""
    end_asked = Signal(int)
    """A person says that an object has ended before a slice."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._labels: Labels | None = None
        self._walk: Walk | None = None
        self._scan: Iterator[int] | None = None
        self._scanned: Ledger | None = None  # for which slices are looked at
        self._again = False
        self._stale = False  # whether the shown slices have changed since all were looked at
        self._left: list[tuple[Labels, Walk, Iterator[int]]] = []  # what was left like that
        self._visited: set[int] = set()
        self._goes_on = False  # to slices that are thought to be right
        self._touched: set[int] = set()
        self._before: npt.NDArray[np.uint8] | None = None
        self._held: dict[int, int] = {}  # shown slice -> checksum, before a brush comes
        self.timeline = Timeline()
        self.previous_anchor = PushButton(
            text="< Anchor",
            tooltip=f"Go to the anchor before this slice ({written('previous_anchor')}).",
        )
        self.next_anchor = PushButton(
            text="Anchor >",
            tooltip=f"Go to the anchor after this slice ({written('next_anchor')}).",
        )
        self.next_to_check = PushButton(
            text="Next to check",
            tooltip="Go to the slice whose correction should help most "
            f"({written('next_to_check')}); again: the next one.",
        )
        self.checked = PushButton(
            text="Checked",
            tooltip="This slice is right: lock it and use it as an anchor, or unlock it "
            f"({written('checked')}).",
        )
        self.ends = PushButton(
            text="Ends here",
            tooltip="The selected label is not on this slice, nor beyond it, seen from where it is "
            f"painted: take it away there ({written('end')}); again: let it go on.",
        )
        upper = [self.next_to_check, self.checked]
        lower = [self.previous_anchor, self.ends, self.next_anchor]
        self._buttons = [*upper, *lower]
        super().__init__(widgets=[row(upper), row(lower)], labels=False)
        self.margins = (0, 0, 0, 0)
        self.native.layout().insertWidget(0, self.timeline)
        self._timer = QTimer(self.native)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(weakly(self._look))
        self._notes = Notes(self.native)
        self._show_soon = qthrottled(weakly(self._show), timeout=50, parent=self.native)
        self.timeline.jumped.connect(self.go)
        self.timeline.anchor_toggled.connect(self.toggle_anchor)
        self.timeline.checked_toggled.connect(self.toggle_checked)
        self.timeline.released.connect(self.release)
        self.previous_anchor.changed.connect(self.go_back)
        self.next_anchor.changed.connect(self.go_ahead)
        self.next_to_check.changed.connect(self.go_to_next)
        self.checked.changed.connect(self.toggle_shown)
        self.ends.changed.connect(self.end_shown)
        self.timeline.ended.connect(self.end_asked.emit)
        self.follow(None, None)

    @property
    def looking(self) -> bool:
        """Whether slices are still being looked at."""
        return self._scan is not None

    def has_seen(self, labels: Labels) -> bool:
        """Whether all slices of a layer, shown or not, were looked at since they changed."""
        shown = labels == self._labels
        return not (shown and self.looking) and all(left != labels for left, *_ in self._left)

    # ---- Following ----

    def follow(self, labels: Labels | None, walk: Walk | None) -> None:
        """Show the slices of a walk through a layer; None: of nothing."""
        if labels is None or walk is None:
            labels = walk = None
        if labels is not None and labels is not self._labels:
            Ledger.of(labels).redrawn()  # nobody has seen what was done to it meanwhile
        other = labels is not self._labels or walk != self._walk
        if other:
            self._leave_for(labels, walk)
        self._labels, self._walk = labels, walk
        for button in self._buttons:
            button.enabled = labels is not None
        self.timeline.setEnabled(labels is not None)
        if other:
            self._look_anew()
            self._touched.clear()
            self._scan = self._before = None
            self._held = {}
            self.timeline.choose(range(0))
        self.look_again()
        here = labels is not None and isinstance(labels.data, np.ndarray)
        if other and here and labels.data.size <= _AT_ONCE:
            self._look_for(float("inf"))
        self._show()

    def _leave_for(self, labels: Labels | None, walk: Walk | None) -> None:
        """Note what has changed and was not looked at: nobody would when it is not shown."""
        before = self._labels
        if before is not None and self._stale and isinstance(before.data, np.ndarray):
            scan = self._ledger.look(before, self._walk)
            self._left.append((before, self._walk, scan))
        left = [one for one in self._left if one[0] in self._viewer.layers]
        self._left = [one for one in left if one[:2] != (labels, walk)]
        self._stale = len(self._left) < len(left)

    def follows(self, labels: Labels | None, walk: Walk | None) -> bool:
        """Whether the slices of this walk are shown."""
        return walk is None or (labels is self._labels and walk == self._walk)

    def moved(self) -> None:
        """Follow the viewer's slider."""
        if self._labels is not None and self._walk is not None:
            self.timeline.show_current(shown_slice(self._labels, self._walk, self._viewer))

    def painted(self) -> None:
        """Note that a brush was on the shown slice."""
        labels, walk = self._labels, self._walk
        if labels is None or walk is None:
            return
        ledger = Ledger.of(labels)
        if not ledger.committing:
            ledger.brushed()
            record = ledger.record(labels, walk)
            across = shows_across(labels, walk, self._viewer)
            ball = labels.n_edit_dimensions > 2
            if (across or ball) and self._before is None:
                # nobody says which slices that was on: those that are found to be another kind
                self._before = record.kind.copy()
            # a bucket that fills a volume gives an object another label: that is no prompt
            if not across and not (ball and labels.mode == "fill"):
                here = shown_slice(labels, walk, self._viewer)
                record.brush(here, self._held.get(here))
                # napari says so before it writes: the slice is looked at when somebody asks
                self._touched.add(here)
            self._held = {}
        self.labels_changed()

    def note_shown(self) -> None:
        """Note what the shown slice holds, so that a stroke that is undone there is known."""
        labels, walk = self._labels, self._walk
        if labels is None or walk is None or not is_near(labels.data):
            return
        here, record = shown_slice(labels, walk, self._viewer), self._ledger.record(labels, walk)
        if not (here in self._held or record.written[here] or record.painted[here]):
            self._held = {here: checksum(np.asarray(labels.data[walk.at(here)]))}

    def labels_changed(self) -> None:
        """Look again, as labels have changed, which may be on any walk."""
        if self._labels is not None:
            self._ledger.unseen = self._stale = True
            self._ledger.forget_seen()
            self._notes.changed(self._labels)
        self.look_again()

    def arrived(self) -> None:
        """Show that the record has changed, as soon as there is time."""
        self._look_anew()
        self._show_soon()

    def redrawn(self) -> None:
        """Note that the layer was redrawn by Ctrl+Z, or by whoever changed it; see `Ledger`."""
        if self._labels is not None:
            self._ledger.redrawn()
        self.labels_changed()

    def look_again(self) -> None:
        """Look again, bit by bit: whoever changed the layer may not have told us."""
        if self._labels is None:
            self._rest()
            return
        ledger = self._ledger
        self._again = self._scan is not None and self._scanned is ledger
        if not self._again:
            ledger.record(self._labels, self._walk)  # which it stays the one of
            self._scan, self._scanned = ledger.look(self._labels, self._walk), ledger
        self._timer.start()

    def note(self) -> None:
        """Put the record into the layer's metadata, as plain values."""
        if self._labels is not None:
            self._notes.write(self._labels)

    def stop(self) -> None:
        """Look no more: the window closes."""
        self._timer.stop()
        self._notes.stop()
        self._labels = self._walk = self._scan = None
        self._left = []

    # ---- Where to go ----

    def go(self, index: int) -> None:
        """Show a slice."""
        if self._labels is not None and self._walk is not None:
            show_slice(self._labels, self._walk, self._viewer, index)

    def go_back(self) -> None:
        """Show the anchor before this slice."""
        self._go_to_anchor(-1)

    def go_ahead(self) -> None:
        """Show the anchor after this slice."""
        self._go_to_anchor(1)

    def _go_to_anchor(self, side: int) -> None:
        if self._labels is None:
            return
        here = shown_slice(self._labels, self._walk, self._viewer)
        ahead = [k for k in self._anchors() if (k - here) * side > 0]
        if ahead:
            self.go(min(ahead, key=lambda k: abs(k - here)))
        else:
            self.said.emit(f"There is no anchor {'after' if side > 0 else 'before'} slice {here}.")

    def go_to_next(self) -> None:
        """Show the slice whose correction should help most; again: the next best.

        After those that are unsure, and those on which an object is found no more, come all others.
        """
        if self._labels is None or self._walk is None:
            return
        from imos_core.review import next_to_check

        record, anchors = self._ledger.record(self._labels, self._walk), self._anchors()
        open_ = (record.kind == Kind.PREDICTED) & np.isfinite(record.confidence)
        open_[anchors] = False
        confidence = {int(k): float(record.confidence[k]) for k in np.flatnonzero(open_)}
        if not confidence:
            done = not np.isin(record.kind, (Kind.PREDICTED, Kind.EMPTY)).any()
            self.said.emit(words.ALL_CHECKED if done else words.NOTHING_TO_CHECK)
            return
        again = ""
        if confidence.keys() <= self._visited:
            self._look_anew()
            again = "All were looked at, so this begins again. "
        lost = lost_on(self._ledger, self._labels, self._walk, anchors)
        known = [*anchors, *self._visited]
        index = next_to_check(confidence, known, ends=lost)
        if index is None and not self._goes_on:
            self._goes_on = True
            self.said.emit(again + words.thought_right(sorted(confidence.keys() - self._visited)))
            return
        if index is None:
            index = next_to_check(confidence, known, sure=math.inf)
        assert index is not None  # nothing is too sure
        self._visited.add(index)
        self.go(index)
        gone = words.not_found(lost.get(index, ()))
        self.said.emit(
            f"{again}{self.timeline.describe(index)}{gone}: correct it, or press Checked."
        )

    def _look_anew(self) -> None:
        """Begin again with the slices that are to be checked."""
        self._visited.clear()
        self._goes_on = False

    # ---- What a person says of a slice ----

    def toggle_shown(self) -> None:
        """Lock or unlock the slice that is shown."""
        self.toggle_checked()

    def end_shown(self) -> None:
        """Ask for the end of the selected object before the slice that is shown."""
        k = self._slice(None)
        if k is not None:
            self.end_asked.emit(k)

    def toggle_anchor(self, index: int | None = None) -> None:
        """Set or drop the anchor on a slice, by default the one that is shown."""
        k = self._slice(index)
        if k is None:
            return
        now = toggle_anchor(self._ledger, self._labels, self._walk, k)
        empty = now and not np.asarray(self._labels.data[self._walk.at(k)]).any()
        words = " without labels: they end there" if empty else ""
        if now and self._ledger.record(self._labels, self._walk).checked[k]:
            words += ", checked and locked" if not empty else ", and is locked"
        self.said.emit(f"Slice {k} is {'now' if now else 'no longer'} an anchor{words}.")
        self.tell()

    def toggle_checked(self, slices: Sequence[int] | None = None) -> None:
        """Lock slices, by default the one that is shown, or unlock them if all are locked."""
        shown = self._slice(None)
        if shown is None:
            return
        slices = [shown] if slices is None else slices
        checked = self._ledger.record(self._labels, self._walk).checked
        right = not all(checked[k] for k in slices)
        for k in slices:
            if checked[k] != right:
                toggle_checked(self._ledger, self._labels, self._walk, k)
        which = f"Slices {numbers(slices)} are" if len(slices) > 1 else f"Slice {slices[0]} is"
        self.said.emit(f"{which} {'checked and locked' if right else 'no longer locked'}.")
        self.tell()

    def release(self, slices: Sequence[int]) -> None:
        """Give slices back: the next run may redo them."""
        if self._labels is None or self._walk is None:
            return
        if self._ledger.busy:
            self.said.emit("Stop the propagation first.")
            return
        for k in slices:
            release(self._ledger, self._labels, self._walk, k)
        which = f"slice{'s' if len(slices) > 1 else ''} {numbers(slices)}"
        self.said.emit(f"The next propagation redoes {which}.")
        self.tell()

    # ---- Within ----

    @property
    def _ledger(self) -> Ledger:
        return Ledger.of(self._labels)

    def anchors(self) -> list[int]:
        """Slices that serve as anchors; what was not looked at yet is looked at now."""
        if self.looking:
            self._look_for(float("inf"))
        return self._anchors()

    def _anchors(self) -> list[int]:
        while self._touched:
            self._ledger.examine(self._labels, self._walk, self._touched.pop())
        return self._ledger.known_anchors(self._labels, self._walk)

    def _slice(self, index: int | None) -> int | None:
        if self._labels is None or self._walk is None:
            return None
        return shown_slice(self._labels, self._walk, self._viewer) if index is None else index

    def tell(self) -> None:
        """Take over what a person has said of a slice."""
        self.note()
        self._show()
        self.anchors_changed.emit()
        self.told.emit()

    def _look(self) -> None:
        if self._scan is not None:
            self._look_for(_BUDGET)
        else:
            self._look_at_left()
            self._rest()

    def _look_at_left(self) -> None:
        """Look at slices that are not shown any more, until the time is up."""
        end = time.perf_counter() + _BUDGET
        try:
            while self._left and time.perf_counter() < end:
                next(self._left[0][-1])
        except (StopIteration, IndexError, ValueError):
            del self._left[0]

    def _rest(self) -> None:
        """Wait until something changes, unless something is left to be looked at."""
        if self._left:
            self._timer.start()
        else:
            self._timer.stop()

    def _look_for(self, budget: float) -> None:
        """Look at slices until the time is up."""
        if self._scan is None:
            return
        if self._labels is not None and self._scanned is not self._ledger:
            self.look_again()  # somebody has forgotten its runs
        end = time.perf_counter() + budget
        try:
            while time.perf_counter() < end:
                next(self._scan)
        except (StopIteration, IndexError, ValueError):
            # the latter if the array was replaced by one of another shape meanwhile
            self._scan = None
            self._rest()
            if self._labels is not None:
                self._ledger.forget_seen()
            if not self._again:
                self._stale = False
                self._note_ball()
            self._show()
            self.anchors_changed.emit()
            if self._again:
                self.look_again()
            elif self._labels is None or isinstance(self._labels.data, np.ndarray):
                self._notes.looked()  # of labels on disk, a note costs too much

    def _note_ball(self) -> None:
        """Note the slices that a brush was on which paints several of them at once."""
        before, self._before = self._before, None
        if before is None or self._labels is None:
            return
        record = self._ledger.record(self._labels, self._walk)
        made = (Kind.DRAWN, Kind.CORRECTED)
        if before.shape == record.kind.shape:
            record.painted |= np.isin(record.kind, made) & ~np.isin(before, made)

    def _show(self, event: Any = None) -> None:
        if self._labels is None or self._walk is None:
            from napari_imos._record.provenance import Provenance

            self.timeline.show_record(Provenance(0), [])
            return
        record = self._ledger.record(self._labels, self._walk)
        self.timeline.show_record(record, self._anchors())
        self.moved()
