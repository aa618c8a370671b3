"""Run panel: how far a run is, and everything from its first slice to its last word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from magicgui.widgets import Container, ProgressBar
from napari.utils.notifications import show_error, show_info
from psygnal import Signal

from napari_imos import _words as words
from napari_imos._confidence import ConfidenceLayer
from napari_imos._dock.parts import line
from napari_imos._dock.undo_key import UndoKey
from napari_imos._run import Finisher
from napari_imos._walk import has_slider, show_slice
from napari_imos._weak import weakly
from napari_imos._worker import make_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels
    from napari.viewer import Viewer

    from imos_core import SegmentedSlice
    from imos_core.errors import ImosError
    from napari_imos._run import ShownRun
    from napari_imos._saved.autosave import Autosave


@dataclass
class _Said:
    """What was said of the last run, and whether it still holds."""

    labels: Labels
    sentence: str
    undoable: bool
    """Whether Ctrl+Z takes it back where the layer is the active one."""
    stands: Callable[[], bool]
    """What says whether it has not been taken back, as far as the layer was looked at."""
    stood: bool = True
    """Whether it had not when somebody asked last."""


class RunPanel(Container):
    """A progress bar and a line of words; one run at a time.

    Parameters
    ----------
    viewer : Viewer
        Viewer that shows what arrives.
    """

    began = Signal()
    """A run is about to start."""
    arrived = Signal()
    """A slice has been written."""
    stopping = Signal()
    """The run was asked to stop, or is being finished."""
    ended = Signal()
    """The run is over and is one step of undo."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.run: ShownRun | None = None
        """The present run."""
        self.moving = False
        """Whether the viewer's slider is being moved by the run."""
        self._finisher: Finisher | None = None
        self._confidence: ConfidenceLayer | None = None
        self._said: _Said | None = None
        self._closed = False
        self.progress = ProgressBar(min=0, max=1, value=0, tooltip="Slices that are done.")
        self.status = line("What is going on.")
        super().__init__(widgets=[self.progress, self.status], labels=False)
        self.margins = (0, 0, 0, 0)
        self.progress.visible = False

    def launch(
        self, run: ShownRun, keeper: Autosave | None, *, following: bool, confidence: bool
    ) -> None:
        """Start a run that was opened.

        Parameters
        ----------
        run : ShownRun
            Its options are those of `imos_core.propagate` that its job does not hold.
        keeper : Autosave, optional
            What keeps it safe from crashes.
        following : bool
            Whether the viewer goes along.
        confidence : bool
            Whether a layer shows where it is unsure.
        """
        finish = weakly(self._commit, otherwise=run.stream.commit)
        self.run, run.keeper = run, keeper
        run.worker = worker = make_worker(run.stream, run.options, finish)
        worker.yielded.connect(self._on_slice)
        try:
            self._show_beginning(run, following=following, confidence=confidence)
        except Exception:
            worker.abandon()  # it would never begin, nor end
            raise
        worker.start()

    def _show_beginning(self, run: ShownRun, *, following: bool, confidence: bool) -> None:
        """Show that a run begins, before it does."""
        stream, labels = run.stream, run.stream.labels
        self._said = None
        run.undo_key = UndoKey(labels, weakly(self.stop))
        self.began.emit()
        self.progress.max = run.total
        self.progress.visible = True
        # Ctrl+Z goes to the active layer
        self._viewer.layers.selection.active = labels
        self._confidence = None
        if confidence:
            self._confidence = ConfidenceLayer(self._viewer, labels, stream.job, stream.is_visible)
        run.following = following
        if following:
            self._show(run, run.main)

    def stop(self) -> None:
        """Stop the run after the slice in hand."""
        if self.run is not None and self.run.worker is not None:
            self.status.value = "Stopping ..."
            self.stopping.emit()
            self.run.worker.quit()

    def end_now(self) -> None:
        """End the run with what is done: its dock closes, and another one may go on at once."""
        worker = None if self.run is None else self.run.worker
        if worker is None:
            return
        worker.abandon()
        if self._finisher is not None:
            self._finisher.finish()
        if worker.error is None:
            show_info(self.status.value)

    def close_down(self) -> None:
        """End what is running: the window closes."""
        self._closed = True
        if self.run is not None and self.run.worker is not None:
            self.run.worker.quit()
        if self._finisher is not None:
            self._finisher.finish()

    # ---- Words ----

    def say(self, sentence: str) -> None:
        """Say something."""
        self.status.value = sentence

    def say_also(self, sentence: str) -> None:
        """Say something beside what was said before."""
        before = self.status.value.removesuffix(words.TAKE_BACK)
        together = f"{before} {sentence}".lstrip()
        if self._said is not None and self._said.sentence == before:
            self._said.sentence = together
        self.status.value = together
        self.offer_undo()

    def say_error(self, error: Exception) -> None:
        """Say what went wrong, so that nobody overlooks it."""
        self.status.value = str(error)
        show_error(str(error))

    def forget(self) -> None:
        """Say nothing any more: it was about another layer."""
        self._said = None
        self.status.value = ""

    def forget_undo(self) -> None:
        """Say no more that Ctrl+Z takes the run back: now it would take something else."""
        if self._said is not None:
            self._said.undoable = False
        self.offer_undo()

    def offer_undo(self) -> None:
        """Say that Ctrl+Z takes the run back while it does: it goes to the active layer."""
        said, sentence = self._said, self.status.value.removesuffix(words.TAKE_BACK)
        # plugins get stand-ins of layers, which are equal, not the same
        if (
            said is not None
            and said.undoable
            and sentence == said.sentence
            and self._viewer.layers.selection.active == said.labels
        ):
            sentence += words.TAKE_BACK
        if sentence != self.status.value:
            self.status.value = sentence

    def look_back(self) -> None:
        """Say no more what a run has done once it was taken back, and again once it was redone."""
        said = self._said
        if said is not None and said.stood != said.stands():
            said.stood = not said.stood
            self.status.value = said.sentence if said.stood else "Taken back."

    # ---- From slice to slice ----

    def _on_slice(self, item: SegmentedSlice) -> None:
        run = self.run
        if run is not None and run.worker is not None and run.worker.broken:
            return
        if run is not None and run.keeper is not None:
            run.keeper.add(item.index, item.source)
        if self._closed or run is None:
            return
        if run.speaks():
            self.progress.value = min(run.stream.slices, run.total)
            if not run.stopping:
                self.status.value = run.progress()
        if self._confidence is not None and item.index not in run.stream.job.prompts:
            self._confidence.write(item.index, item.confidence)
        self.arrived.emit()
        if run.wants(item.index):
            self._show(run, item.index)

    def _commit(self) -> None:
        """Make the run one step of undo, bit by bit."""
        if self.run is None:
            return
        if self._closed:
            self.run.stream.commit()
            return
        self.status.value = "Finishing ..."
        self.stopping.emit()
        finisher = Finisher(self.run.stream, self._on_finished)
        self._finisher = None if finisher.ended else finisher

    def _on_finished(self, error: ImosError | None = None) -> None:
        run, self.run, self._finisher = self.run, None, None
        if run is not None and run.keeper is not None:
            run.keeper.close()
        if run is not None and run.undo_key is not None:
            run.undo_key.release()
        if self._closed or run is None:
            return
        self.progress.visible, self.progress.value = False, 0
        if self._confidence is not None:
            self._confidence.finish()
        if run.following and run.layers_in(self._viewer):
            self._show(run, run.main)
        run.take_back()
        self.ended.emit()
        if run.worker is not None and run.worker.error is not None:
            error = run.worker.error  # it came first
        if error is not None:
            self.say_error(error)
        else:
            self.status.value = run.last_words(self._viewer)
        labels = run.stream.labels
        undoable = error is None and run.undoable and labels in self._viewer.layers
        self._said = _Said(labels, self.status.value, undoable, run.stream.witness())
        self.offer_undo()

    def _show(self, run: ShownRun, index: int) -> None:
        """Move the viewer's slider to a slice of a run."""
        labels, walk = run.stream.labels, run.stream.job.walk
        if not has_slider(labels, walk, self._viewer):
            return  # nothing would move, but all be drawn anew
        self.moving = True
        try:
            show_slice(labels, walk, self._viewer, index)
        finally:
            self.moving = False
