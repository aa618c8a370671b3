"""Recovery panel: keeps what layers hold from being lost, and offers what a crash has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from magicgui.widgets import Container, PushButton
from psygnal import Signal
from qtpy.QtCore import QTimer

from imos_core.errors import ImosError
from napari_imos._dock.parts import line, row
from napari_imos._record.ledger import Ledger
from napari_imos._saved.autosave import Autosave, Kept
from napari_imos._saved.recovery import Unsaved, autosave_folder, bring_back, find_unsaved
from napari_imos._walk import shape_of
from napari_imos._weak import weakly

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_imos._job import Job
    from napari_imos._run import ShownRun
    from napari_imos._series.job import SeriesJob


_PAUSE = 10_000
"""Milliseconds between a change and its way to the disk, at least."""
_SHARE = 20_000
"""Milliseconds for every second that the last time took: large labels must not keep a core busy."""
_BUSY = 500
"""Milliseconds until it is tried again, where there was no time."""


class RecoveryPanel(Container):
    """A line with two buttons, hidden unless labels were lost that fit an image of the viewer.

    Parameters
    ----------
    viewer : Viewer
        Viewer.
    has_seen : callable
        Whether all slices of a layer were looked at, so that what is known of them is up to date.
    """

    said = Signal(str)
    """A sentence for the person."""
    failed = Signal(object)
    """An `ImosError`."""
    warned = Signal(str)
    """A sentence beside what was said before."""

    def __init__(self, viewer: Viewer, has_seen: Callable[[Labels], bool]) -> None:
        self._viewer, self._has_seen = viewer, has_seen
        self._kept: list[tuple[Labels, Kept]] = []
        self._changed: list[tuple[Labels, Image]] = []
        self._warned = ""
        self._found = find_unsaved()
        self._words = line("Labels that were not saved when napari ended the last time.")
        self.restore = PushButton(
            text="Restore", tooltip="Add them as a new Labels layer, with their anchors."
        )
        self.discard = PushButton(text="Discard", tooltip="Delete them; this cannot be undone.")
        super().__init__(widgets=[self._words, row([self.restore, self.discard])], labels=False)
        self.margins = (0, 0, 0, 0)
        self.visible = False
        self._timer = QTimer(self.native)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(weakly(self.keep_changes))
        self._watch = QTimer(self.native)
        self._watch.timeout.connect(weakly(self.look_for_failures))
        self.restore.changed.connect(self._restore)
        self.discard.changed.connect(self._discard)

    @property
    def offered(self) -> Unsaved | None:
        """What is offered: the newest that fits an image."""
        shapes = {shape_of(layer) for layer in self._viewer.layers if _is_image(layer)}
        fitting = (
            one
            for one in self._found
            if any(one.shape[-3:] == shape[-3:] and len(shape) >= 3 for shape in shapes)
        )
        return next(fitting, None)

    def look(self) -> None:
        """Follow the viewer's layers: offer what fits, forget what was removed."""
        for labels in [labels for labels, _ in self._kept if labels not in self._viewer.layers]:
            self.forget(labels)
        one = self.offered
        self.visible = one is not None
        if one is not None:
            self._words.value = f"Labels of {one.name!r} were not saved ({one.when})."

    def keep(self, run: ShownRun, image: Image) -> Autosave | None:
        """Begin to keep what a run writes; None for labels that are on disk anyway."""
        return self._keep(run.stream.labels, image, run.stream.job)

    def _keep(self, labels: Labels, image: Image, job: Job | SeriesJob | None) -> Autosave | None:
        data = labels.data
        if not isinstance(data, np.ndarray) or (isinstance(data, np.memmap) and data.mode != "c"):
            return None
        made = Autosave(labels, image, job, autosave_folder(), self._kept_of(labels))
        self._kept = [pair for pair in self._kept if pair[0] is not labels]
        self._kept.append((labels, made))
        self._watch.start(_BUSY)
        return made

    def _kept_of(self, labels: Labels) -> Kept | None:
        return next((kept for layer, kept in self._kept if layer is labels), None)

    def note_change(self, labels: Labels, image: Image, *, begins: bool) -> None:
        """Keep, before long, what a person has painted, said or undone.

        Parameters
        ----------
        labels : Labels
            What has changed.
        image : Image
            Its image.
        begins : bool
            Whether to begin with a layer that nothing is kept of so far.
        """
        kept = self._kept_of(labels)
        if not begins and kept is None:
            return
        self._changed = [*self._changed_but(labels), (labels, image)]
        took = kept.took if isinstance(kept, Autosave) else 0.0
        pause = max(_PAUSE, round(_SHARE * took))
        if not self._timer.isActive() or self._timer.remainingTime() > pause:
            self._timer.start(pause)

    def _changed_but(self, labels: Labels) -> list[tuple[Labels, Image]]:
        return [pair for pair in self._changed if pair[0] != labels]

    def keep_changes(self) -> None:
        """Keep what a person has changed; what there is no time for is tried again before long."""
        self._changed = [pair for pair in self._changed if pair[0] in self._viewer.layers]
        self._changed = [pair for pair in self._changed if not self._keep_change(*pair)]
        if self._changed:
            self._timer.start(_BUSY)

    def _keep_change(self, labels: Labels, image: Image) -> bool:
        """Keep what has changed in a layer; whether that has begun."""
        kept = self._kept_of(labels)
        if Ledger.of(labels).busy and not isinstance(kept, Autosave):
            return False  # a run that nobody keeps
        if not self._has_seen(labels):
            return False
        if not isinstance(kept, Autosave) or not kept.fits(labels):
            self._keep(labels, image, None)
            return True
        if not kept.refresh():
            return False
        self._watch.start(_BUSY)
        return True

    def look_for_failures(self) -> None:
        """Warn, once and not during a run, if something cannot be kept."""
        kept = [(labels, one) for labels, one in self._kept if isinstance(one, Autosave)]
        if all(one.ended for _, one in kept):
            self._watch.stop()
            if not any(one.failure for _, one in kept):
                self._warned = ""
        for labels, one in kept:
            if not one.failure or one.failure == self._warned:
                continue
            if Ledger.of(labels).busy:
                self._watch.start(_BUSY)
            else:
                self._warned = one.failure
                self.warned.emit(one.failure)

    def forget(self, labels: Labels) -> None:
        """Let go of what was kept of a layer: it is saved now, or was removed."""
        for kept in [kept for layer, kept in self._kept if layer is labels]:
            kept.discard()
        self._kept = [pair for pair in self._kept if pair[0] is not labels]
        self._changed = self._changed_but(labels)

    def _restore(self) -> None:
        one = self.offered
        if one is None:
            return
        try:
            labels = bring_back(one, self._viewer)
        except ImosError as error:
            self.failed.emit(error)
            return
        one.take_over()
        self._found.remove(one)
        self._kept.append((labels, one))
        self.look()
        self.said.emit(f"Added {labels.name!r}: check it and save it.")

    def _discard(self) -> None:
        one = self.offered
        if one is not None:
            one.discard()
            self._found.remove(one)
            self.look()


def _is_image(layer: object) -> bool:
    from napari.layers import Image

    return isinstance(layer, Image)
