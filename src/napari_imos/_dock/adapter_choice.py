"""Adapter choice: the stored adapters by name, with import, export and deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, Container, PushButton
from psygnal import Signal
from qtpy.QtWidgets import QFileDialog, QMessageBox, QSizePolicy

from imos_core.errors import ImosError
from napari_imos._adapters import SUFFIX, AdapterStore
from napari_imos._dock.names import let_names_be_long
from napari_imos._dock.parts import row

if TYPE_CHECKING:
    from pathlib import Path

_FILES = f"Adapter (*{SUFFIX})"


class AdapterChoice(Container):
    """Box with the stored adapters, and buttons to bring one in, give one away and delete one.

    Parameters
    ----------
    store : AdapterStore
        Where they are kept.
    """

    said = Signal(str)
    """A sentence for the person."""
    failed = Signal(object)
    """An `ImosError`."""

    def __init__(self, store: AdapterStore) -> None:
        self._store = store
        self.box = ComboBox(
            choices=lambda _: [("none", None), *((name, name) for name in store.names())],
            tooltip="Adapter tuned to a kind of image: your own, or one from a file.",
        )
        let_names_be_long(self.box)
        self.bring = PushButton(text="Import", tooltip="Take in an adapter file.")
        self.give = PushButton(text="Export", tooltip="Write the chosen adapter to a file.")
        self.remove = PushButton(text="x", tooltip="Delete the chosen adapter.")
        super().__init__(
            # beside each other, all of them are too wide where letters are large
            widgets=[row([self.box, self.remove]), row([self.bring, self.give])],
            labels=False,
            label="Adapter",
            name="adapter",
        )
        self.margins = (0, 0, 0, 0)
        native = self.remove.native
        native.setSizePolicy(QSizePolicy.Policy.Maximum, native.sizePolicy().verticalPolicy())
        self.bring.changed.connect(self._on_bring)
        self.give.changed.connect(self._on_give)
        self.remove.changed.connect(self._on_remove)
        self.box.changed.connect(self._on_choice)
        self._on_choice()

    @property
    def chosen(self) -> Path | None:
        """File of the chosen adapter."""
        return None if self.box.value is None else self._store.path(self.box.value)

    def choose(self, name: str | None) -> None:
        """Choose an adapter by name, also one that has just been stored."""
        self.box.reset_choices()
        self.box.value = name
        # the box does not say so when its choice has gone
        self._on_choice()

    def take_in(self, file: str | Path) -> None:
        """Store a copy of a file and choose it."""
        try:
            name = self._store.take_in(file)
        except ImosError as error:
            self.failed.emit(error)
            return
        self.choose(name)
        self.said.emit(f"The adapter {name!r} is stored and chosen.")

    def _on_choice(self) -> None:
        self.give.enabled = self.remove.enabled = self.box.value is not None

    def _on_bring(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self.native, "Import adapter", "", _FILES)
        if path:
            self.take_in(path)

    def _on_give(self) -> None:
        name = self.box.value
        if name is None:
            return
        suggestion = f"{name}{SUFFIX}"
        path, _ = QFileDialog.getSaveFileName(self.native, "Export adapter", suggestion, _FILES)
        if not path:
            return
        try:
            target = self._store.give_out(name, path)
        except ImosError as error:
            self.failed.emit(error)
            return
        self.said.emit(f"Wrote {target.name}: imos propagate --adapter takes it too.")

    def _on_remove(self) -> None:
        name = self.box.value
        if name is None:
            return
        question = f"Delete the adapter {name!r}? It cannot be brought back."
        yes = QMessageBox.StandardButton.Yes
        if QMessageBox.question(self.native, "Delete adapter", question) != yes:
            return
        try:
            self._store.remove(name)
        except ImosError as error:
            self.failed.emit(error)
            return
        self.choose(None)
        self.said.emit(f"The adapter {name!r} is deleted.")
