"""Recovery panel: keeps what runs write from being lost, and offers what a crash has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from magicgui.widgets import Container, PushButton
from psygnal import Signal

from imos_core.errors import ImosError
from napari_imos._autosave import Autosave, Kept
from napari_imos._parts import line, row
from napari_imos._picture import shape_of
from napari_imos._recovery import Unsaved, autosave_folder, bring_back, find_unsaved

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_imos._run import Run


class RecoveryPanel(Container):
    """A line with two buttons, hidden unless labels were lost that fit an image of the viewer.

    Parameters
    ----------
    viewer : Viewer
        Viewer.
    """

    said = Signal(str)
    """A sentence for the person."""
    failed = Signal(object)
    """An `ImosError`."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._kept: list[tuple[Labels, Kept]] = []
        self._found = find_unsaved()
        self._words = line("Labels that were not saved when napari ended the last time.")
        self.restore = PushButton(
            text="Restore", tooltip="Add them as a new Labels layer, with their anchors."
        )
        self.discard = PushButton(text="Discard", tooltip="Delete them; this cannot be undone.")
        super().__init__(widgets=[self._words, row([self.restore, self.discard])], labels=False)
        self.margins = (0, 0, 0, 0)
        self.visible = False
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

    def keep(self, run: Run, image: Image) -> Autosave | None:
        """Begin to keep what a run writes; None for labels that are on disk anyway."""
        labels = run.stream.labels
        if not isinstance(labels.data, np.ndarray):
            return None
        before = next((kept for layer, kept in self._kept if layer is labels), None)
        made = Autosave(labels, image, run.stream.job, autosave_folder(), before)
        self._kept = [pair for pair in self._kept if pair[0] is not labels]
        self._kept.append((labels, made))
        return made

    def forget(self, labels: Labels) -> None:
        """Let go of what was kept of a layer: it is saved now, or was removed."""
        for kept in [kept for layer, kept in self._kept if layer is labels]:
            kept.discard()
        self._kept = [pair for pair in self._kept if pair[0] is not labels]

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
