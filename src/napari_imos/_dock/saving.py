"""Saving: the button that saves a session, and the look for one beside labels that are opened."""

from __future__ import annotations

import os
import re
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import Container, PushButton
from napari.layers import Image
from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QMessageBox

from imos_core.errors import FileError, ImosError
from imos_core.file_identity import identity
from napari_imos._image_file import file_of, is_among_frames
from napari_imos._saved.session import save_session, taken_over
from napari_imos._saved.taken_for_image import is_taken_for_image, opened_as_labels

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

_FILES = "Labels (*.tif *.tiff *.nii.gz *.zarr *.npy)"
_IN_NO_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f]+')


def file_name(name: str) -> str:
    """Turn the name of a layer into that of a file in any system's folders."""
    return f"{_IN_NO_NAME.sub('_', name).strip('. ') or 'labels'}.tif"


def _mark(path: str) -> tuple[int, int] | None:
    """Tell a file from what others make of it; None of what is none."""
    try:
        told = os.stat(path)
    except (OSError, ValueError):  # the latter if a name holds what none can
        return None
    # of a folder, such as Zarr, it would say nothing of what lies in it
    return (told.st_size, told.st_mtime_ns) if stat.S_ISREG(told.st_mode) else None


class SavePanel(Container):
    """Saves the labels of a layer, and beside them what every slice is.

    Parameters
    ----------
    viewer : Viewer
        Files of its images are not overwritten.
    """

    said = Signal(str)
    """A sentence for the person."""
    failed = Signal(object)
    """An `ImosError`."""
    saved = Signal(object)
    """The layer that is on disk now."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._looked_at: set[Any] = set()
        self._known: dict[Any, tuple[Path, tuple[int, int] | None]] = {}
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
        suggestion = labels.source.path or file_name(labels.name)
        path, _ = QFileDialog.getSaveFileName(self.native, "Save session", suggestion, _FILES)
        if not path:
            return
        if not Path(path).suffix:
            path += ".tif"
            # the dialog has asked for the name without it
            if Path(path).exists() and not self._may_replace(path, "exists already"):
                return
        elif self._was_changed(labels, path) and not self._may_replace(
            path, "was changed since it was opened or saved here"
        ):
            return
        try:
            self._check_no_image(path)
            try:
                session = save_session(labels, path, self._images())
            finally:
                self._note(labels, path)  # only what lies beside it may have failed
        except ImosError as error:
            self.failed.emit(error)
            return
        self.saved.emit(labels)
        self.said.emit(f"Saved {Path(path).name}, and what every slice is in {session.name}.")

    def _note(self, labels: Labels, path: str) -> None:
        """Note what a layer's file is like while it holds the same as the layer."""
        # what is painted into labels on disk is in their file at once
        if type(labels.data) is np.ndarray:
            self._known[labels.unique_id] = (Path(path).resolve(), _mark(path))

    def _was_changed(self, labels: Labels, path: str) -> bool:
        """Whether somebody else has written a layer's file since, as another window does."""
        now = (Path(path).resolve(), _mark(path))
        known = self._known.get(labels.unique_id, now)
        return known[0] == now[0] and known[1] != now[1] is not None

    def _may_replace(self, path: str, why: str) -> bool:
        words = f"{Path(path).name} {why}. Replace it?"
        answer = QMessageBox.question(self.native, "Save session", words)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _images(self) -> list[str]:
        """Files of the images that are open."""
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        return [file for layer in layers if (file := file_of(layer))]

    def _check_no_image(self, path: str) -> None:
        """Refuse the file of an image that is open, and what would be one of its frames.

        Raises
        ------
        FileError
            If it is one.
        """
        file = Path(path)
        for layer in self._viewer.layers:
            theirs = file_of(layer) if isinstance(layer, Image) else ""
            if not theirs:
                continue
            if identity(theirs) == identity(file):
                raise FileError(
                    f"{file.name} is the image {layer.name!r}, which would be overwritten: "
                    "choose another name."
                )
            if is_among_frames(file, layer):
                raise FileError(
                    f"{file.name} would lie among the frames of the image {layer.name!r}: choose "
                    "another folder."
                )

    def look(self) -> None:
        """Open labels that napari took for an image anew: the session beside them says so."""
        for layer in self._viewer.layers:
            if layer.unique_id not in self._looked_at and is_taken_for_image(layer):
                # as soon as napari has done with what it is at
                QTimer.singleShot(0, partial(self._open_as_labels, layer))
            self._looked_at.add(layer.unique_id)

    def _open_as_labels(self, image: Image) -> None:
        if image in self._viewer.layers:
            opened_as_labels(self._viewer, image)

    def take_over(self, labels: Labels) -> None:
        """Take over the session beside a file that labels were opened from."""
        path = labels.source.path
        if path is not None and labels.unique_id not in self._known:
            self._note(labels, path)
        try:
            if said := taken_over(labels):
                self.said.emit(said)
        except ImosError as error:
            self.failed.emit(error)
