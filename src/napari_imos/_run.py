"""ShownRun: one propagation as the widget sees it, from the click to the last word."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from imos_core.errors import PropagationError
from napari_imos import _words as words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.viewer import Viewer

    from napari_imos._dock.undo_key import UndoKey
    from napari_imos._saved.autosave import Autosave
    from napari_imos._series.stream import SeriesStream
    from napari_imos._stream import LabelsStream
    from napari_imos._worker import PropagationWorker

_FOLLOW_EVERY = 0.1  # seconds
_SPEAK_EVERY = 0.15  # seconds
_FIRST_SLICES = 3  # that are told one by one
_BUDGET = 0.012  # seconds of the main thread at a time


class ShownRun:
    """One run: whether its layers are there, what is to be shown, and words.

    Parameters
    ----------
    stream : LabelsStream or SeriesStream
        Where slices go.
    image : Image
        Layer.
    options : dict
        Keywords of `imos_core.propagate` that the job does not hold.
    sentence : str
        What a person has said, where the run only takes away what goes with it.
    remark : str
        What to add then.
    """

    def __init__(
        self,
        stream: LabelsStream | SeriesStream,
        image: Any,
        options: dict[str, Any],
        sentence: str = "",
        remark: str = "",
    ) -> None:
        self.stream, self._image = stream, image
        self._sentence, self._remark = sentence, remark
        self.options = options
        self.worker: PropagationWorker | None = None
        self.keeper: Autosave | None = None
        self.undo_key: UndoKey | None = None
        self.total = stream.job.expected(options)
        self.following = False
        self.main = stream.job.main_slice
        self._last = max((stop for _, stop in stream.job.ranges(options)), default=0) - 1
        # both sides grow at once: the forward one is shown first, then the other
        self._ahead = options["direction"] != "backward" and self.main < self._last
        self._began = self._shown = time.monotonic()
        self._spoke = 0.0
        self._first: tuple[float, int] | None = None
        self._taken_back = False

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.worker is not None and self.worker.stopping

    def layers_in(self, viewer: Viewer) -> bool:
        """Whether the layers are still there."""
        return self.stream.labels in viewer.layers and self._image in viewer.layers

    def wants(self, index: int) -> bool:
        """Whether the viewer should go to a slice that has just arrived."""
        ours = self.stream.job.leads(index, self.main, ahead=self._ahead)
        if index == self._last:
            self._ahead = False
        now = time.monotonic()
        if not (self.following and ours) or index in self.stream.job.prompts:
            return False
        if now - self._shown < _FOLLOW_EVERY:
            return False
        self._shown = now
        return True

    def speaks(self) -> bool:
        """Whether it is time to say how far it is: a progress bar redraws at once, which costs."""
        now = time.monotonic()
        if self.stream.slices > _FIRST_SLICES and now - self._spoke < _SPEAK_EVERY:
            return False
        self._spoke = now
        return True

    def opening(self) -> str:
        """What goes on before the first slice: the way to a range elsewhere may be long."""
        prompts, ranges = self.stream.job.prompts, self.stream.job.ranges(self.options)
        ends = [k for start, stop in ranges if start < stop for k in (start, stop - 1)]
        near = [(abs(k - n), k) for k in ends for n in prompts]
        inside = any(start <= k < stop for k in prompts for start, stop in ranges)
        if inside or not near or min(near)[0] < 2:
            return "Loading the model ..."
        return f"Loading the model, and on the way to slice {min(near)[1]} ..."

    def progress(self) -> str:
        """Progress, and the time left."""
        done, now = self.stream.slices, time.monotonic()
        said = f"{done} of {self.total} slices"
        if self._first is None and done:
            self._first = now, done
        # a model is loaded before the first slice, which says nothing of the others
        began, before = self._first or (now, done)
        if done == before:
            return said
        left = (now - began) / (done - before) * (self.total - done)
        return f"{said}, {words.seconds(left)} left"

    def take_back(self) -> None:
        """Undo it, if Ctrl+Z was pressed while it ran and something is there to be undone."""
        pressed = self.undo_key is not None and self.undo_key.pressed
        if pressed and self.stream.changes and self.stream.undoable:
            self.stream.labels.undo()
            self._taken_back = True

    @property
    def undoable(self) -> bool:
        """Whether something came out that Ctrl+Z takes back."""
        return bool(self.stream.changes) and self.stream.undoable and not self._taken_back

    def last_words(self, viewer: Viewer) -> str:
        """What came out, seen from a viewer."""
        if self._taken_back:
            return "Stopped and taken back. Ctrl+Shift+Z brings back what was done."
        done, took = self.stream.slices, words.seconds(time.monotonic() - self._began)
        there = self.stream.labels in viewer.layers
        if self.stopping and done < self.total and not there:
            return "Stopped: the labels were removed."
        if self.stopping and done < self.total:
            return f"Stopped: {done} of {self.total} slices are done and stay."
        if self._sentence and not self.stream.changes:
            return self._sentence + self._remark
        if self._sentence:
            slices = words.counted(len(self.stream.changes), "slice")
            return f"{self._sentence} It was taken away from {slices}.{self._remark}"
        return f"Done: {words.counted(done, 'slice')} in {took}.{self._why_little(there)}"

    def _why_little(self, there: bool) -> str:
        """Why nothing has changed, or less than what could not; nothing if more has."""
        written = sum(change.voxels.size for change in self.stream.changes)
        slices, voxels = self.stream.hindered
        if voxels and voxels >= written:
            return f" On {words.counted(slices, 'slice')} other labels are in the way, which stay."
        return "" if written or not there else " Nothing had to be changed."


class Finisher:
    """Commits a stream bit by bit, so that the window stays alive.

    Whoever presses the mouse in the layer gets the rest at once: what they paint is theirs alone.

    Parameters
    ----------
    stream : LabelsStream or SeriesStream
        What is committed.
    done : callable
        Called at the end, with what went wrong, if anything did.
    """

    def __init__(
        self,
        stream: LabelsStream | SeriesStream,
        done: Callable[[PropagationError | None], None],
    ) -> None:
        self._stream, self._done = stream, done
        self._steps: Iterator[None] = stream.commit_slowly()
        self.ended = False
        """Whether all is done."""
        # no parent: a window that closes must not take it along half-way
        self._timer = QTimer()
        self._timer.timeout.connect(self.step)
        stream.labels.mouse_drag_callbacks.insert(0, self._at_once)
        self.step()
        if not self.ended:
            self._timer.start(0)

    def step(self) -> None:
        """Do a bit."""
        self._step(_BUDGET)

    def _step(self, budget: float) -> None:
        end = time.perf_counter() + budget
        while time.perf_counter() < end:
            try:
                over = next(self._steps, self) is self
            except PropagationError as error:
                self._end(error)
                return
            if over:
                self._end()
                return

    def finish(self) -> None:
        """Do the rest at once."""
        self._step(float("inf"))

    def _end(self, error: PropagationError | None = None) -> None:
        if self.ended:
            return
        self.ended = True
        self._timer.stop()
        self._stream.labels.mouse_drag_callbacks.remove(self._at_once)
        self._done(error)

    def _at_once(self, layer: Any, event: Any) -> None:
        self.finish()
