"""PropagateWidget: choices in, start and stop, words out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QSizePolicy
from superqt import QCollapsible
from superqt.utils import qthrottled

from imos_core.errors import ImosError
from napari_imos import _words as words
from napari_imos._choices import AdvancedOptions, LayerChoices
from napari_imos._layers import main_anchor
from napari_imos._ledger import Ledger
from napari_imos._stream import LabelsStream, open_stream
from napari_imos._walk import find_walk, ids_on, position, shown_slice
from napari_imos._worker import make_worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

    from imos_core import SegmentedSlice
    from napari_imos._worker import PropagationWorker

_SCAN_LIMIT = 50_000_000  # voxels that are searched for paint while a person scrubs
_FOLLOW_EVERY = 0.1  # seconds


class PropagateWidget(Container):
    """Dock widget that propagates painted slices.

    Parameters
    ----------
    napari_viewer : Viewer
        Given by napari, which looks for this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        self._viewer = napari_viewer
        self._run: _Run | None = None
        self._watched: Labels | None = None
        self._covered: tuple[Labels | None, int] = (None, 0)
        self._closed = self._moving = False
        self.choices = LayerChoices(napari_viewer)
        self.prompt = _line("Which slice is propagated.")
        self.propagate = PushButton(
            text="Propagate", tooltip="Carry the painted labels through the other slices."
        )
        self.stop = PushButton(
            text="Stop", tooltip="Stop after the slice in hand; what is done stays."
        )
        buttons = Container(widgets=[self.propagate, self.stop], layout="horizontal", labels=False)
        buttons.margins = (0, 0, 0, 0)
        self.progress = ProgressBar(min=0, max=1, value=0)
        self.status = _line("What is going on.")
        self.advanced = AdvancedOptions()
        super().__init__(
            widgets=[self.choices, self.prompt, buttons, self.progress, self.status], labels=False
        )
        self.progress.visible = False
        self._fold = QCollapsible("Advanced", self.native)
        self._fold.setDuration(0)
        self._fold.setToolTip("Objects, range, model, adapter, device.")
        self._fold.addWidget(self.advanced.native)
        layout = self.native.layout()
        layout.addWidget(self._fold)
        layout.addStretch()
        self._connect()
        self._on_layers()

    def _connect(self) -> None:
        # while a person scrubs, ten times a second is enough
        self._tell_soon = qthrottled(self._tell_prompt, timeout=100, parent=self.native)
        viewer = self._viewer
        for event in ("inserted", "removed", "reordered"):
            getattr(viewer.layers.events, event).connect(self._on_layers)
        viewer.layers.selection.events.active.connect(self._on_layers)
        viewer.dims.events.point.connect(self._on_moved)
        viewer.dims.events.order.connect(self._on_order)
        self.choices.changed.connect(self._on_choice)
        self.propagate.changed.connect(self._start)
        self.stop.changed.connect(self._stop)
        self.native.destroyed.connect(self._on_closed)

    @property
    def slices_done(self) -> int:
        """Slices that have arrived in the present run; 0 if none is running."""
        return 0 if self._run is None else self._run.stream.slices

    def unfold(self) -> None:
        """Show the advanced options."""
        self._fold.expand(animate=False)

    # ---- Following the viewer ----

    def _on_layers(self, event: Any = None) -> None:
        if self._closed:
            return
        if self._run is not None:
            if not self._run.layers_in(self._viewer):
                self._stop()
            return
        self.choices.refresh()
        self._on_choice()

    def _on_order(self, event: Any = None) -> None:
        if not self._closed and self._run is None:
            self.choices.follow_order()

    def _on_moved(self, event: Any = None) -> None:
        if self._closed:
            return
        if self._run is not None and not self._moving:
            self._run.following = False
        self._tell_soon()

    def _on_painted(self, event: Any = None) -> None:
        if not self._closed:
            self._tell_soon()

    def _on_choice(self) -> None:
        """Take over other layers or another axis."""
        labels = self.choices.labels_layer
        if labels is not self._watched:
            if self._watched is not None:
                self._watched.events.paint.disconnect(self._on_painted)
            if labels is not None:
                labels.events.paint.connect(self._on_painted)
            self._watched = labels
        walked = (labels, self.choices.walked_axis)
        if labels is not None and not labels.multiscale and walked != self._covered:
            self._covered = walked
            self.advanced.cover(labels.data.shape[walked[1]])
        self._tell_prompt()

    def _tell_prompt(self) -> None:
        """Say what Propagate would do, and enable what can be pressed."""
        if self._closed:
            return
        ready = self.choices.image_layer is not None and self.choices.labels_layer is not None
        self.propagate.enabled = ready and self._run is None
        self.stop.enabled = self._run is not None
        self.choices.enabled = self.advanced.enabled = self._run is None
        if self._run is None:
            self.prompt.value = self._prompt_text()

    def _prompt_text(self) -> str:
        labels = self.choices.labels_layer
        if self.choices.image_layer is None:
            return "Open an image: a volume or a video."
        if labels is None:
            return "Add a Labels layer and paint an object on one slice."
        try:
            walk = find_walk(labels, self.choices.walked_axis, self._viewer)
            if labels.multiscale:
                return ""
            if labels.data.size > _SCAN_LIMIT:
                index = shown_slice(labels, walk, self._viewer)
                ids = ids_on(labels.data[walk.at(index)])
            else:
                index, ids = main_anchor(labels, walk, self._viewer)
        except ImosError as error:
            return str(error)
        others = [k for k in Ledger.of(labels).prompts(labels, walk) if k != index]
        return words.prompt(index, others, ids)

    # ---- Running ----

    def _start(self) -> None:
        if self._run is not None:
            return
        image, labels = self.choices.image_layer, self.choices.labels_layer
        keywords = {**self.advanced.keywords(labels), "direction": self.choices.way}
        try:
            stream, options = open_stream(
                image, labels, self.choices.walked_axis, None, keywords, self._viewer
            )
        except ImosError as error:
            self._say_error(error)
            return
        worker = make_worker(stream, options)
        self._run = run = _Run(stream, worker, image, options)
        worker.yielded.connect(self._on_slice)
        worker.finished.connect(self._on_finished)
        self._tell_prompt()
        first, *others = run.stream.job.prompts
        self.prompt.value = words.prompt(first, others, run.stream.job.ids)
        self.progress.max = run.total
        self.progress.visible = True
        self.status.value = "Loading the model ..."
        # Ctrl+Z goes to the active layer
        self._viewer.layers.selection.active = labels
        # whoever holds a brush must not find another slice under it
        run.following = self.advanced.follows and str(labels.mode) == "pan_zoom"
        if run.following:
            self._show(run, first)
        worker.start()

    def _stop(self) -> None:
        if self._run is not None:
            self.stop.enabled = False
            self.status.value = "Stopping ..."
            self._run.worker.quit()

    def _on_slice(self, item: SegmentedSlice) -> None:
        run = self._run
        if self._closed or run is None:
            return
        done = run.stream.slices
        self.progress.value = min(done, run.total)
        if not run.worker.stopping:
            self.status.value = run.progress()
        if run.wants(item.index):
            self._show(run, item.index)

    def _on_finished(self) -> None:
        run, self._run = self._run, None
        if self._closed or run is None:
            return
        self.progress.visible, self.progress.value = False, 0
        if run.following and run.layers_in(self._viewer):
            self._show(run, run.main)
        self._on_layers()
        if run.worker.error is not None:
            self._say_error(run.worker.error)
        else:
            self.status.value = run.last_words()

    def _say_error(self, error: Exception) -> None:
        self.status.value = str(error)
        show_error(str(error))

    def _show(self, run: _Run, index: int) -> None:
        """Move the viewer's slider to a slice of a run."""
        labels, walk = run.stream.labels, run.stream.job.walk
        here = list(position(labels, self._viewer))
        here[walk.axis] = index
        dims = self._viewer.dims
        self._moving = True
        try:
            axis = walk.axis + dims.ndim - labels.ndim
            dims.set_point(axis, labels.data_to_world(here)[walk.axis])
        finally:
            self._moving = False

    def _on_closed(self) -> None:
        self._closed = True
        if self._run is not None:
            self._run.worker.quit()


class _Run:
    """One run as the widget sees it."""

    def __init__(
        self, stream: LabelsStream, worker: PropagationWorker, image: Any, options: dict[str, Any]
    ) -> None:
        self.stream, self.worker, self._image = stream, worker, image
        self.total = stream.job.expected(options)
        self.following = False
        self.main = next(iter(stream.job.prompts))
        self._last = options["stop"] - 1
        # both sides grow at once: the forward one is shown first, then the other
        self._ahead = options["direction"] != "backward" and self.main < self._last
        self._began = self._shown = time.monotonic()

    def layers_in(self, viewer: Viewer) -> bool:
        """Whether the layers are still there."""
        return self.stream.labels in viewer.layers and self._image in viewer.layers

    def wants(self, index: int) -> bool:
        """Whether the viewer should go to a slice that has just arrived."""
        ours = (index > self.main) == self._ahead
        if index == self._last:
            self._ahead = False
        now = time.monotonic()
        if not (self.following and ours) or index in self.stream.job.prompts:
            return False
        if now - self._shown < _FOLLOW_EVERY:
            return False
        self._shown = now
        return True

    def progress(self) -> str:
        """Progress, and the time left."""
        done = self.stream.slices
        left = (time.monotonic() - self._began) / max(done, 1) * (self.total - done)
        return f"{done} of {self.total} slices, {words.seconds(left)} left"

    def last_words(self) -> str:
        """What came out."""
        done, took = self.stream.slices, words.seconds(time.monotonic() - self._began)
        undo = " Ctrl+Z takes it back." if self.stream.changes and self.stream.undoable else ""
        if self.worker.stopping and done < self.total:
            return f"Stopped: {done} of {self.total} slices are done and stay.{undo}"
        return f"Done: {done} slices in {took}.{undo}"


def _line(tooltip: str) -> Label:
    """Return a line of words that wraps."""
    label = Label(value="", tooltip=tooltip)
    label.native.setWordWrap(True)
    # as wide as the dock, so that it wraps no earlier than it must
    label.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label
