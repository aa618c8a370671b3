"""PropagateWidget: choices in, start and stop, words out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QFileDialog, QSizePolicy
from superqt import QCollapsible
from superqt.utils import qthrottled

from imos_core.errors import ImosError
from napari_imos import _words as words
from napari_imos._choices import AdvancedOptions, LayerChoices
from napari_imos._confidence import ConfidenceLayer
from napari_imos._keys import Keys, written
from napari_imos._layers import choose_anchors
from napari_imos._ledger import Ledger
from napari_imos._loop import LoopPanel
from napari_imos._run import Finisher, Run
from napari_imos._session import restore, save_session, sidecar_of
from napari_imos._stream import open_stream
from napari_imos._walk import find_walk, ids_on, show_slice, shown_slice
from napari_imos._weak import weakly
from napari_imos._worker import make_worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

    from imos_core import SegmentedSlice
    from napari_imos._walk import Walk

_FILES = "Labels (*.tif *.tiff *.nii.gz *.zarr *.npy)"


class PropagateWidget(Container):
    """Dock widget that propagates painted slices.

    Parameters
    ----------
    napari_viewer : Viewer
        Given by napari, which looks for this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        self._viewer = napari_viewer
        self._run: Run | None = None
        self._finisher: Finisher | None = None
        self._confidence: ConfidenceLayer | None = None
        self._watched: Labels | None = None
        self._covered: tuple[Labels | None, int] = (None, 0)
        self._closed = self._moving = False
        self.choices = LayerChoices(napari_viewer)
        self.prompt = _line("Which slices are propagated.")
        self.propagate = PushButton(
            text="Propagate",
            tooltip="Carry the painted labels through the other slices; after a correction, redo "
            f"only what it can improve ({written('propagate')}).",
        )
        self.stop = PushButton(
            text="Stop",
            tooltip=f"Stop after the slice in hand; what is done stays ({written('stop')}).",
        )
        self.save = PushButton(
            text="Save session ...",
            tooltip="Save the labels, and beside them what every slice is, to go on another day.",
        )
        buttons = _row([self.propagate, self.stop])
        self.progress = ProgressBar(min=0, max=1, value=0, tooltip="Slices that are done.")
        self.status = _line("What is going on.")
        self.loop = LoopPanel(napari_viewer)
        self.advanced = AdvancedOptions()
        super().__init__(
            widgets=[
                self.choices,
                self.prompt,
                buttons,
                self.loop,
                self.progress,
                self.status,
                _row([self.save]),
            ],
            labels=False,
        )
        self.progress.visible = False
        self._fold = QCollapsible("Advanced", self.native)
        self._fold.setDuration(0)
        self._fold.setToolTip("Objects, range, what may be written, model, adapter, device.")
        self._fold.addWidget(self.advanced.native)
        layout = self.native.layout()
        layout.addWidget(self._fold)
        layout.addStretch()
        self._connect()
        self._on_layers()

    def _connect(self) -> None:
        # while a person scrubs, ten times a second is enough
        self._tell_soon = qthrottled(weakly(self._tell_prompt), timeout=100, parent=self.native)
        viewer = self._viewer
        for event in ("inserted", "removed", "reordered"):
            getattr(viewer.layers.events, event).connect(self._on_layers)
        viewer.layers.selection.events.active.connect(self._on_layers)
        viewer.dims.events.point.connect(self._on_moved)
        viewer.dims.events.order.connect(self._on_order)
        self.choices.changed.connect(self._on_choice)
        self.propagate.changed.connect(self._start)
        self.stop.changed.connect(self._stop)
        self.save.changed.connect(self._save)
        self.loop.said.connect(self._say)
        self.loop.anchors_changed.connect(self._tell_prompt_soon)
        self.native.destroyed.connect(self._on_closed)
        self._keys = Keys(
            viewer,
            {
                "propagate": self._start,
                "stop": self._stop,
                "next_to_check": self.loop.go_to_next,
                "checked": self.loop.toggle_checked,
                "anchor": self.loop.toggle_anchor,
                "previous_anchor": self.loop.go_back,
                "next_anchor": self.loop.go_ahead,
            },
        )

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
        self.loop.moved()
        self._tell_soon()

    def _on_painted(self, event: Any = None) -> None:
        if not self._closed:
            self.loop.painted()
            self._tell_soon()

    def _on_choice(self) -> None:
        """Take over other layers or another axis."""
        labels = self.choices.labels_layer
        if labels is not self._watched:
            if self._watched is not None:
                self._watched.events.paint.disconnect(self._on_painted)
            if labels is not None:
                labels.events.paint.connect(self._on_painted)
                self._restore(labels)
            self._watched = labels
        walked = (labels, self.choices.walked_axis)
        if labels is not None and not labels.multiscale and walked != self._covered:
            self._covered = walked
            self.advanced.cover(labels.data.shape[walked[1]])
        self.loop.follow(labels, self._walk())
        self._tell_prompt()

    def _walk(self) -> Walk | None:
        """What is walked, if the layers allow it."""
        labels = self.choices.labels_layer
        if labels is None or labels.multiscale:
            return None
        try:
            return find_walk(labels, self.choices.walked_axis, self._viewer)
        except ImosError:
            return None

    def _tell_prompt_soon(self) -> None:
        self._tell_soon()

    def _tell_prompt(self) -> None:
        """Say what Propagate would do, and enable what can be pressed."""
        if self._closed:
            return
        ready = self.choices.image_layer is not None and self.choices.labels_layer is not None
        self.propagate.enabled = ready and self._run is None
        self.stop.enabled = self._run is not None
        self.save.enabled = self.choices.labels_layer is not None and self._run is None
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
            ledger = Ledger.of(labels)
            shown = shown_slice(labels, walk, self._viewer)
            if self.loop.looking or not ledger.known_anchors(labels, walk):
                # not all slices were looked at yet, or they live on disk
                ids = ids_on(labels.data[walk.at(shown)])
                if ids or self.loop.looking:
                    return words.prompt(shown, [], ids) if ids else self.prompt.value
            choice = choose_anchors(labels, walk, self._viewer, ledger, look=False)
        except ImosError as error:
            return str(error)
        return words.prompt(choice.main, choice.others, choice.ids)

    # ---- Running ----

    def _start(self) -> None:
        if self._run is not None or not self.propagate.enabled:
            return
        image, labels = self.choices.image_layer, self.choices.labels_layer
        keywords = {**self.advanced.keywords(labels), "direction": self.choices.way}
        walked = self.choices.walked_axis
        try:
            rules = self.advanced.rules
            stream, options = open_stream(
                image, labels, walked, None, keywords, self._viewer, rules
            )
        except ImosError as error:
            self._say_error(error)
            return
        self._run = run = Run(stream, image, options)
        finish = weakly(self._commit, otherwise=stream.commit)
        run.worker = worker = make_worker(stream, options, finish)
        worker.yielded.connect(self._on_slice)
        self._tell_prompt()
        first, *others = stream.job.prompts
        self.prompt.value = words.prompt(first, others, stream.job.ids)
        self.progress.max = run.total
        self.progress.visible = True
        self.status.value = "Loading the model ..."
        # Ctrl+Z goes to the active layer
        self._viewer.layers.selection.active = labels
        self._confidence = None
        if self.advanced.shows_confidence:
            self._confidence = ConfidenceLayer(
                self._viewer, labels, stream.job.walk, stream.is_visible
            )
        # whoever holds a brush must not find another slice under it
        run.following = self.advanced.follows and str(labels.mode) == "pan_zoom"
        if run.following:
            self._show(run, first)
        worker.start()

    def _stop(self) -> None:
        if self._run is not None and self._run.worker is not None:
            self.stop.enabled = False
            self.status.value = "Stopping ..."
            self._run.worker.quit()

    def _on_slice(self, item: SegmentedSlice) -> None:
        run = self._run
        if self._closed or run is None:
            return
        done = run.stream.slices
        self.progress.value = min(done, run.total)
        if not run.stopping:
            self.status.value = run.progress()
        if self._confidence is not None and item.index not in run.stream.job.prompts:
            self._confidence.write(item.index, item.confidence)
        self.loop.arrived()
        if run.wants(item.index):
            self._show(run, item.index)

    def _commit(self) -> None:
        """Make the run one step of undo, bit by bit."""
        if self._run is None:
            return
        if self._closed:
            self._run.stream.commit()
            return
        self.stop.enabled = False
        self.status.value = "Finishing ..."
        finisher = Finisher(self._run.stream, self._on_finished)
        self._finisher = None if finisher.ended else finisher

    def _on_finished(self) -> None:
        run, self._run, self._finisher = self._run, None, None
        if self._closed or run is None:
            return
        self.progress.visible, self.progress.value = False, 0
        if self._confidence is not None:
            self._confidence.finish()
        if run.following and run.layers_in(self._viewer):
            self._show(run, run.main)
        self._on_layers()
        self.loop.note()
        if run.worker is not None and run.worker.error is not None:
            self._say_error(run.worker.error)
        else:
            self.status.value = run.last_words()

    # ---- Sessions ----

    def _save(self) -> None:
        labels = self.choices.labels_layer
        if labels is None:
            return
        suggestion = labels.source.path or f"{labels.name}.tif"
        path, _ = QFileDialog.getSaveFileName(self.native, "Save session", suggestion, _FILES)
        if not path:
            return
        if not Path(path).suffix:
            path += ".tif"
        try:
            session = save_session(labels, path)
        except ImosError as error:
            self._say_error(error)
            return
        self._say(f"Saved {Path(path).name}, and what every slice is in {session.name}.")

    def _restore(self, labels: Labels) -> None:
        """Take over the session beside a file that labels were opened from."""
        path = labels.source.path
        if path is None or Ledger.of(labels).records or not sidecar_of(path).is_file():
            return
        try:
            changed = restore(labels, path)
        except ImosError as error:
            self._say_error(error)
            return
        since = f"; {changed} slices have been changed since" if changed else ""
        self._say(f"Took over {sidecar_of(path).name}{since}.")

    # ---- Words ----

    def _say(self, sentence: str) -> None:
        self.status.value = sentence

    def _say_error(self, error: Exception) -> None:
        self.status.value = str(error)
        show_error(str(error))

    def _show(self, run: Run, index: int) -> None:
        """Move the viewer's slider to a slice of a run."""
        self._moving = True
        try:
            show_slice(run.stream.labels, run.stream.job.walk, self._viewer, index)
        finally:
            self._moving = False

    def _on_closed(self) -> None:
        self._closed = True
        self._keys.release()
        self.loop.stop()
        if self._run is not None and self._run.worker is not None:
            self._run.worker.quit()
        if self._finisher is not None:
            self._finisher.finish()


def _row(widgets: list[Any]) -> Container:
    row = Container(widgets=widgets, layout="horizontal", labels=False)
    row.margins = (0, 0, 0, 0)
    return row


def _line(tooltip: str) -> Label:
    """Return a line of words that wraps."""
    label = Label(value="", tooltip=tooltip)
    label.native.setWordWrap(True)
    # as wide as the dock, so that it wraps no earlier than it must
    label.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label
