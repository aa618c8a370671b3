"""Saving: the button that saves a session, and the look for one beside labels that are opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import Container, PushButton
from psygnal import Signal
from qtpy.QtWidgets import QFileDialog

from imos_core.errors import ImosError
from imos_core.sidecar import sidecar_of
from napari_imos._ledger import Ledger
from napari_imos._session import restore, save_session

if TYPE_CHECKING:
    from napari.layers import Labels

_FILES = "Labels (*.tif *.tiff *.nii.gz *.zarr *.npy)"


class SavePanel(Container):
    """Saves the labels of a layer, and beside them what every slice is."""

    said = Signal(str)
    """A sentence for the person."""
    failed = Signal(object)
    """An `ImosError`."""
    saved = Signal(object)
    """The layer that is on disk now."""

    def __init__(self) -> None:
        self.layer: Labels | None = None
        """Layer that is saved."""
        self.save = PushButton(
            text="Save session ...",
            tooltip="Save the labels, and beside them what every slice is, to go on another day.",
        )
        super().__init__(widgets=[self.save], layout="horizontal", labels=False)
        self.margins = (0, 0, 0, 0)
        self.save.changed.connect(self.ask)

    def ask(self) -> None:
        """Ask where to, and save."""
        labels = self.layer
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
            self.failed.emit(error)
            return
        self.saved.emit(labels)
        self.said.emit(f"Saved {Path(path).name}, and what every slice is in {session.name}.")

    def take_over(self, labels: Labels) -> None:
        """Take over the session beside a file that labels were opened from."""
        path = labels.source.path
        if path is None or Ledger.of(labels).records or not sidecar_of(path).is_file():
            return
        try:
            changed = restore(labels, path)
        except ImosError as error:
            self.failed.emit(error)
            return
        since = f"; {changed} slices have been changed since" if changed else ""
        self.said.emit(f"Took over {sidecar_of(path).name}{since}.")
