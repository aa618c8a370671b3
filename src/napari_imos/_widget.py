"""PropagateWidget: choices in, start and stop, words out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, PushButton
from qtpy.QtCore import QTimer
from superqt.utils import qthrottled

from imos_core.errors import ImosError, PromptError
from napari_imos import _words as words
from napari_imos._adapters import AdapterStore
from napari_imos._confidence import follow_record
from napari_imos._dock.adapt_panel import AdaptPanel
from napari_imos._dock.choices import AdvancedOptions, LayerChoices
from napari_imos._dock.keys import Keys, let_keys_through, switch, written
from napari_imos._dock.loop import LoopPanel
from napari_imos._dock.parts import fold, line, row
from napari_imos._dock.prompt_line import Asked, prompt_line
from napari_imos._dock.recovery_panel import RecoveryPanel
from napari_imos._dock.run_panel import RunPanel
from napari_imos._dock.saving import SavePanel
from napari_imos._dock.scroll import let_scroll
from napari_imos._dock.taken_out import TakenOut
from napari_imos._layers import read_job
from napari_imos._new_labels import add_labels_for, inner_channels, needs_new, take_brush, why_flat
from napari_imos._picture import channels_between
from napari_imos._record.ledger import Ledger
from napari_imos._record.other_axes import name_if_several
from napari_imos._run import ShownRun
from napari_imos._series.ends import say_end
from napari_imos._series.stream import open_any
from napari_imos._walk import find_walk, position, shown_slice
from napari_imos._warm_up import warm_up
from napari_imos._weak import weakly

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from napari_imos._job import Job
    from napari_imos._walk import Walk


class PropagateWidget(Container):
    """Dock widget that propagates painted slices.

    Parameters
    ----------
    napari_viewer : Viewer
        Given by napari, which looks for this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        self._viewer = napari_viewer
        self._watched: Labels | None = None
        self._ledger = Ledger()
        self._view: tuple[Any, ...] = ()
        self._covered: tuple[Labels | None, int, int] = (None, 0, 0)
        self._closed = False
        self._obstacle = ""
        self.choices = LayerChoices(napari_viewer)
        self.prompt = line("Which slices are propagated.")
        self.propagate = PushButton(
            text="Propagate",
            tooltip="Carry the painted labels through the other slices; after a correction, redo "
            f"only what it can improve ({written('propagate')}).",
        )
        self.stop = PushButton(
            text="Stop",
            tooltip=f"Stop after the slice in hand; what is done stays ({written('stop')}).",
        )
        self.renew = PushButton(
            text="New Labels layer",
            tooltip="Add a Labels layer that lies on the image, to paint on.",
        )
        buttons = row([self.propagate, self.stop])
        self.running = RunPanel(napari_viewer)
        self.progress, self.status = self.running.progress, self.running.status
        self.loop = LoopPanel(napari_viewer)
        self.saving = SavePanel(napari_viewer)
        self.recovery = RecoveryPanel(napari_viewer, self.loop.has_seen)
        self._store = AdapterStore()
        self.advanced = AdvancedOptions(self._store)
        self.adapting = AdaptPanel(self._store, self._read_for_adapting)
        super().__init__(
            widgets=[
                self.recovery,
                self.choices,
                self.prompt,
                self.renew,
                buttons,
                self.loop,
                self.running,
                self.saving,
            ],
            labels=False,
        )
        self.recovery.visible = False
        self._fold = fold(
            "Advanced",
            "Objects, range, what may be written, model, adapter, device.",
            self.advanced,
            self.native,
        )
        fold(
            "Adapt",
            "Tune the model to this image, on what you painted.",
            self.adapting,
            self.native,
        )
        self.native.layout().addStretch()
        let_scroll(self)
        let_keys_through(self.native)
        self._connect()
        self._on_layers()
        # after the widget is on screen
        QTimer.singleShot(0, warm_up)

    def _connect(self) -> None:
        # while a person scrubs, ten times a second is enough
        self._tell_soon = qthrottled(weakly(self._tell_prompt), timeout=100, parent=self.native)
        viewer = self._viewer
        for event in ("inserted", "removed", "reordered"):
            getattr(viewer.layers.events, event).connect(self._on_layers)
        viewer.layers.events.inserted.connect(self._on_inserted)
        for layer in viewer.layers:
            self._watch_names(layer)
        viewer.layers.selection.events.active.connect(self._on_layers)
        viewer.dims.events.point.connect(self._on_moved)
        viewer.dims.events.order.connect(self._on_order)
        viewer.dims.events.axis_labels.connect(self._on_layers)
        self.choices.changed.connect(self._on_choice)
        self.advanced.changed.connect(self._tell_prompt_soon)
        self.renew.changed.connect(self._add_labels)
        self.propagate.changed.connect(self._start)
        self.stop.changed.connect(self.running.stop)
        self.running.began.connect(self._tell_prompt)
        self.running.stopping.connect(self._on_stopping)
        self.running.arrived.connect(self.loop.arrived)
        self.running.ended.connect(self._on_ended)
        self.saving.saved.connect(self.recovery.forget)
        for panel in (self.saving, self.recovery, self.adapting, self.advanced.adapter):
            panel.said.connect(self.running.say)
            panel.failed.connect(self.running.say_error)
        self.recovery.warned.connect(self.running.say_also)
        self.adapting.stored.connect(self.advanced.adapter.choose)
        self.adapting.switched.connect(self._tell_prompt)
        self.loop.said.connect(self.running.say)
        self.loop.anchors_changed.connect(self._on_looked)
        self.loop.told.connect(self._keep_soon)
        self.loop.end_asked.connect(self._end)
        self.native.destroyed.connect(self._on_closed)
        TakenOut(self.native, self._on_taken_out)
        self._keys = Keys(
            viewer,
            {
                "propagate": self._start,
                "stop": self.running.stop,
                "next_to_check": self.loop.go_to_next,
                "checked": self.loop.toggle_checked,
                "anchor": self.loop.toggle_anchor,
                "end": self._end,
                "previous_anchor": self.loop.go_back,
                "next_anchor": self.loop.go_ahead,
            },
        )

    @property
    def _run(self) -> ShownRun | None:
        return self.running.run

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
            for layer in self._viewer.layers:
                Ledger.of(layer)  # a duplicate takes over what is known now, not when all is done
            if not self._run.layers_in(self._viewer):
                self.running.stop()
            return
        self.choices.refresh()
        self.recovery.look()
        self.saving.look()
        self._on_choice()
        self.running.offer_undo()

    def _on_inserted(self, event: Any) -> None:
        self._watch_names(event.value)

    def _watch_names(self, layer: Layer) -> None:
        """Follow what a layer and its axes are called."""
        layer.events.axis_labels.connect(self._on_layers)
        if not hasattr(self._viewer.layers.events, "renamed"):  # napari tells boxes since 0.7
            layer.events.name.connect(self._on_renamed)

    def _on_renamed(self, event: Any = None) -> None:
        """Call a layer in the boxes by its new name."""
        if not self._closed:
            self.reset_choices()

    def _on_order(self, event: Any = None) -> None:
        if not self._closed and self._run is None:
            self.choices.follow_order()

    def _on_moved(self, event: Any = None) -> None:
        if self._closed:
            return
        if self._run is not None and not self.running.moving:
            self._run.following = False
        if not self.loop.follows(self.choices.labels_layer, walk := self._walk()):
            # a slider moved that is not the one along the walk: another time point
            self.loop.follow(self.choices.labels_layer, walk)
        self.loop.moved()
        self._tell_soon()

    def _on_painted(self, event: Any = None) -> None:
        if not self._closed:
            self.loop.painted()
            self.running.forget_undo()
            if self._watched is not None and not Ledger.of(self._watched).committing:
                self._keep_soon()
            self._tell_soon()

    def _on_drawn(self, event: Any = None) -> None:
        """Look again after Ctrl+Z and after scripts, which say nothing but redraw the layer."""
        labels = self._watched
        if self._closed or self._run is not None or labels is None or labels.multiscale:
            return
        before, self._view = self._view, self._view_of(labels)
        if before == self._view:
            self._on_changed()

    def _on_stepped(self) -> None:
        """Say what Ctrl+Z took back; look again if the layer is hidden, as napari draws nothing."""
        if self._closed or self._run is not None or self._watched is None:
            return
        self.running.look_back()
        if not self._watched.visible:
            self._on_changed()

    def _on_changed(self, event: Any = None) -> None:
        """Look again after whatever has changed the layer, or given it another array."""
        if not self._closed and self._run is None:
            self._cover()
            self.loop.redrawn()
            self.running.forget_undo()
            self._keep_soon(begins=False)
            self._tell_soon()

    def _keep_soon(self, *, begins: bool = True) -> None:
        """Keep what a person does safe from crashes."""
        image, labels = self.choices.image_layer, self._watched
        if None not in (image, labels) and self.advanced.autosaves:
            self.recovery.note_change(labels, image, begins=begins)

    def _view_of(self, labels: Labels | None) -> tuple[Any, ...]:
        """Return what a redraw would show: if it is the same as before, the data have changed."""
        if labels is None or labels.multiscale:
            return ()
        dims = self._viewer.dims
        return (position(labels, self._viewer), dims.order, dims.ndisplay)

    def _on_choice(self) -> None:
        """Take over other layers or another axis."""
        labels = self.choices.labels_layer
        if labels is not self._watched:
            self.running.forget()
            if self._watched is not None:
                self._watched.events.paint.disconnect(self._on_painted)
                self._watched.events.set_data.disconnect(self._on_drawn)
                self._watched.events.data.disconnect(self._on_changed)
                self._ledger.stepped.disconnect(self._on_stepped)
                self._watched.events.selected_label.disconnect(self._tell_prompt_soon)
            if labels is not None:
                labels.events.paint.connect(self._on_painted)
                labels.events.set_data.connect(self._on_drawn)
                labels.events.data.connect(self._on_changed)
                labels.events.selected_label.connect(self._tell_prompt_soon)
                self.saving.take_over(labels)  # which may give it another ledger
                self._ledger = Ledger.of(labels)
                self._ledger.keep(labels)
                self._ledger.stepped.connect(self._on_stepped)
            self._watched = labels
            self.choices.follow_used()  # which a session says that was taken over
        self._view = self._view_of(labels)
        self._cover()
        self.loop.follow(labels, self._walk())
        self._tell_prompt()

    def _cover(self) -> None:
        """Let the range be all slices, if others are walked than before or their number changed."""
        labels, walk = self.choices.labels_layer, self._walk()
        if labels is None or walk is None:
            return
        covered = (labels, walk.axis, labels.data.shape[walk.axis])
        if covered != self._covered:
            self._covered = covered
            self.advanced.cover(covered[-1])

    def _walk(self) -> Walk | None:
        """What is walked, if the layers allow it."""
        labels = self.choices.labels_layer
        if labels is None or labels.multiscale:
            return None
        try:
            return find_walk(labels, self.choices.walked_axis, self._viewer)
        except ImosError:
            return None

    def _add_labels(self) -> None:
        image, before = self.choices.image_layer, self.choices.labels_layer
        if image is None:
            return
        labels = add_labels_for(self._viewer, image, before)
        if labels == before:
            return  # only its image was split
        if sentence := take_brush(labels, self._walk(), self._viewer):
            self.running.say(sentence)

    def _on_looked(self) -> None:
        """Follow what slices were found to be."""
        if self._run is None:
            self.running.look_back()
        labels, walk = self.choices.labels_layer, self._walk()
        if labels is not None and walk is not None:
            follow_record(self._viewer, labels, walk)
        self._tell_soon()

    def _tell_prompt_soon(self, event: Any = None) -> None:
        if not self._closed:
            self._tell_soon()

    def _tell_prompt(self) -> None:
        """Say what Propagate would do, and enable what can be pressed."""
        if self._closed:
            return
        ready = self.choices.image_layer is not None and self.choices.labels_layer is not None
        switch(self.propagate, ready and self._run is None and not self.adapting.running)
        # whoever learns must be able to stop, whatever layers are left
        self.adapting.enabled = self.adapting.running or (ready and self._run is None)
        switch(self.stop, self._run is not None)
        self.saving.layer = self.choices.labels_layer
        self.saving.enabled = self.choices.labels_layer is not None and self._run is None
        self.choices.enabled = self.advanced.enabled = self._run is None
        if self._run is None:
            image, labels = self.choices.image_layer, self.choices.labels_layer
            self._obstacle = (
                needs_new(image, labels, self._walk(), self._viewer, self.choices.channels)
                if image is not None and labels is not None
                else ""
            )
            flat = image is not None and bool(why_flat(image))
            self.renew.visible = (
                image is not None and not flat and (labels is None or bool(self._obstacle))
            )
            splits = image is not None and inner_channels(image, labels) is not None
            self.renew.text = "Split channels" if splits else "New Labels layer"
            asked = Asked(
                image,
                labels,
                self.choices.walked_axis,
                self.choices.channels,
                self.choices.series_axis,
                self.choices.way,
                None if labels is None else self.advanced.wanted(labels),
            )
            text = prompt_line(asked, self._viewer, self._obstacle, looking=self.loop.looking)
            if text is not None:
                self.prompt.value = text
            self.loop.note_shown()

    # ---- Running ----

    def _read_for_adapting(self) -> tuple[Job, dict[str, Any]]:
        image, labels = self.choices.image_layer, self.choices.labels_layer
        walked, ledger = self.choices.walked_axis, Ledger.of(labels)
        channels = self.choices.channels
        job = read_job(image, labels, walked, None, None, self._viewer, ledger, channels=channels)
        keywords = self.advanced.keywords(labels)
        return job, {name: keywords[name] for name in ("model", "device")}

    def _start(self) -> None:
        if self._run is not None or not self.propagate.enabled:
            return
        image, labels = self.choices.image_layer, self.choices.labels_layer
        walked = self.choices.walked_axis
        try:
            if between := channels_between(image, labels):
                raise PromptError(between)
            keywords = {**self.advanced.keywords(labels), "direction": self.choices.way}
            rules, channels = self.advanced.rules, self.choices.channels
            series = self.choices.series_axis
            stream, options = open_any(
                image, labels, walked, series, None, keywords, self._viewer, rules, channels
            )
        except ImosError as error:
            self.running.say_error(error)
            return
        self.choices.note_used()
        if series is None:
            first, *others = stream.job.prompts
            shown = [i for i in stream.job.ids if i in stream.job.painted]
            walk = stream.job.walk
            along = name_if_several(labels, walk, self._viewer, Ledger.of(labels))
            self.prompt.value = words.prompt(first, others, shown, along)
        run = ShownRun(stream, image, options)
        self.status.value = run.opening()
        # whoever holds a brush must not find another slice under it
        following = self.advanced.follows and str(labels.mode) == "pan_zoom"
        self._launch(run, image, following=following)

    def _end(self, index: int | None = None) -> None:
        """Let the selected object have ended before a slice, or let it go on there."""
        image, labels, walk = self.choices.image_layer, self.choices.labels_layer, self._walk()
        if image is None or labels is None or walk is None:
            return
        if self._run is not None or self.adapting.running or Ledger.of(labels).busy:
            self.running.say("Stop what is running first.")
            return
        k = shown_slice(labels, walk, self._viewer) if index is None else index
        series = self.choices.series_axis is not None
        try:
            end = say_end(labels, walk, k, self.loop.anchors(), in_series=series)
        except ImosError as error:
            self.running.say(str(error))
            return
        if isinstance(end, str):
            self.running.say(end)
            self.loop.tell()
            return
        end.note()
        self.loop.tell()
        remark = end.remark
        if not end.beyond:
            self.running.say(end.sentence + remark)
            return
        options = {"direction": "both"}
        stream = end.open_stream(self._viewer)
        self.status.value = end.sentence
        run = ShownRun(stream, image, options, end.sentence, remark)
        self._launch(run, image, following=False)

    def _launch(self, run: ShownRun, image: Image, *, following: bool) -> None:
        """Start a run that was opened."""
        keeper = self.recovery.keep(run, image) if self.advanced.autosaves else None
        confidence = self.advanced.shows_confidence
        self.running.launch(run, keeper, following=following, confidence=confidence)

    def _on_stopping(self) -> None:
        switch(self.stop, False)

    def _on_ended(self) -> None:
        self._on_layers()
        self.loop.note()

    def _on_taken_out(self) -> None:
        """Stop what nobody could stop any more."""
        self.adapting.stop()
        self.running.end_now()

    def _on_closed(self) -> None:
        self._closed = True
        self._keys.release()
        self.loop.stop()
        self.adapting.close_down()
        self.running.close_down()
