"""Adapt panel: tune an adapter to the anchors, with a live loss curve, and store it by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, Label, LineEdit, PushButton, SpinBox
from psygnal import Signal
from qtpy.QtCore import QTimer

from imos_core.errors import ImosError
from napari_imos import _words as words
from napari_imos._activity import ActivityBar
from napari_imos._adapting import Tuning, make_tuner
from napari_imos._dock.curve import LossCurve
from napari_imos._dock.parts import row
from napari_imos._settings import remember, remembered
from napari_imos._weak import weakly

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_imos._adapters import AdapterStore
    from napari_imos._job import Job

_LOOK_EVERY = 150  # milliseconds


class AdaptPanel(Container):
    """Name, minutes, a button that starts and stops, and the curve.

    Parameters
    ----------
    store : AdapterStore
        Where adapters are kept.
    read : callable
        Returns the job and the keywords `model` and `device`, or raises an `ImosError`.
    """

    said = Signal(str)
    """A sentence for the person."""
    failed = Signal(object)
    """An `ImosError`."""
    stored = Signal(str)
    """An adapter of this name is there now."""
    switched = Signal(bool)
    """Learning has begun, or ended."""

    def __init__(self, store: AdapterStore, read: Callable[[], tuple[Job, dict[str, Any]]]) -> None:
        self._store, self._read = store, read
        self._tuning: Tuning | None = None
        self._bar: ActivityBar | None = None
        self._name = ""
        self.name_box = LineEdit(
            tooltip="Name under which the adapter is kept; one of the same name is replaced."
        )
        self.name_box.native.setPlaceholderText("name")
        self.minutes_box = SpinBox(
            name="adapt_minutes",
            min=1,
            max=60,
            value=2,
            tooltip="Minutes that learning may take.",
        )
        self.button = PushButton(
            text="Adapt to my anchors",
            tooltip="Tune an adapter to this image, on the slices that you painted or corrected. "
            "Some are held back to see whether it helps; if not, nothing changes.",
        )
        top = row([self.name_box, self.minutes_box, Label(value="min")])
        super().__init__(widgets=[top, self.button], labels=False)
        self.margins = (0, 0, 0, 0)
        self.curve = LossCurve()
        self.native.layout().addWidget(self.curve)
        self.curve.setVisible(False)
        self._timer = QTimer(self.native)
        self._timer.setInterval(_LOOK_EVERY)
        self._timer.timeout.connect(weakly(self._look))
        self.button.changed.connect(self._on_button)
        self.minutes_box.value = remembered("adapt_minutes", 2)
        self.minutes_box.changed.connect(lambda value: remember("adapt_minutes", value))

    @property
    def running(self) -> bool:
        """Whether an adapter is learning."""
        return self._tuning is not None

    def stop(self) -> None:
        """Stop at the next step; nothing is stored."""
        if self._tuning is not None:
            self._tuning.cancel.set()

    def close_down(self) -> None:
        """Stop, and look no more: the window closes."""
        self.stop()
        self._tuning = None
        self._timer.stop()
        self._end_bar()

    def _on_button(self) -> None:
        if self._tuning is None:
            self.start()
            return
        self.stop()
        self.button.enabled = False
        self.said.emit("Stopping ...")

    def start(self) -> None:
        """Begin to learn, if there is anything to learn from."""
        try:
            named = self.name_box.value.strip()
            # to name one is to learn it anew; another spelling may be the same file
            known = named in self._store.names()
            self._name = named if known else self._store.free_name(named or "my adapter")
            path = self._store.new_path(self._name)
            job, options = self._read()
        except ImosError as error:
            self.failed.emit(error)
            return
        seconds = 60.0 * self.minutes_box.value
        self._tuning = tuning = Tuning()
        worker = make_tuner(job, {**options, "seconds": seconds}, path, tuning)
        worker.finished.connect(weakly(self._on_finished))
        self._bar = ActivityBar(round(seconds), "iMOS: adapting")
        self.button.text = "Stop adapting"
        self.curve.show_losses([], [], seconds)
        self.curve.setVisible(True)
        self._timer.start()
        self.switched.emit(True)
        self.said.emit("Adapting: looking at what is held back ...")
        worker.start()

    def _look(self) -> None:
        """Show what the learning thread has reported."""
        tuning = self._tuning
        if tuning is None or not tuning.steps:
            return
        steps = tuning.steps[:]
        last = steps[-1]
        learned = [s for s in steps if s.stage == "tune" and math.isfinite(s.loss)]
        self.curve.show_losses(
            [s.elapsed for s in learned], [s.loss for s in learned], last.seconds
        )
        if self._bar is not None:
            self._bar.reach(round(min(last.elapsed, last.seconds)))
        if not tuning.cancel.is_set():
            doing = "learning" if last.stage == "tune" else "checking on what is held back"
            left = words.seconds(max(last.seconds - last.elapsed, 0.0))
            self.said.emit(f"Adapting: {doing}, step {last.step}, {left} left")

    def _on_finished(self) -> None:
        if self._tuning is None:
            return  # the window is gone
        self._look()
        tuning, self._tuning = self._tuning, None
        self._timer.stop()
        self._end_bar()
        self.button.text, self.button.enabled = "Adapt to my anchors", True
        self.switched.emit(False)
        if tuning.error is not None:
            self.failed.emit(tuning.error)
        elif tuning.stored:
            self.stored.emit(self._name)
            self.said.emit(f"The adapter {self._name!r} is chosen: {self._scores(tuning)}.")
        elif tuning.cancel.is_set():
            self.said.emit("Adapting was stopped: nothing has changed.")
        else:
            self.said.emit(f"Adapting did not help, nothing has changed: {self._scores(tuning)}.")

    @staticmethod
    def _scores(tuning: Tuning) -> str:
        made = tuning.outcome
        if made is None or math.isnan(made.before) or math.isnan(made.after):
            return "it could not be checked"
        kind = "slices" if made.held_back == "slices" else "self-made sequences"
        return f"J&F {made.before:.3f} -> {made.after:.3f} on {kind} held back"

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
