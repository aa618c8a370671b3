"""Series choice: whether one time step is done or all of them, where labels have several."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from magicgui.widgets import ComboBox

from imos_core.errors import ImosError
from napari_imos._picture import CHANNEL_NAMES
from napari_imos._walk import find_walk, slider_names

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer


class SeriesChoice(ComboBox):
    """Whether one time step is done, or all of them; hidden where there is only one.

    Parameters
    ----------
    viewer : Viewer
        Viewer, which says which axis is held.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._axis: tuple[str, int] | None = None
        self._labels: Labels | None = None
        # who looks at a layer from another side and comes back finds what they had chosen
        self._asked: WeakKeyDictionary[Labels, int] = WeakKeyDictionary()
        self._following = False
        super().__init__(
            label="Series",
            choices=lambda _: self._offered(),
            tooltip="Only the time step that is shown, or all: along the chosen axis first, then "
            "one step after another, each prompted by the one before.",
        )
        self.changed.connect(self._on_choice)

    @property
    def series_axis(self) -> int | None:
        """Axis of the time steps if all are to be done."""
        value: int | None = self.value
        return None if value is None or value < 0 else value

    def follow(self, labels: Labels | None, image: Image | None, axis: int) -> None:
        """Offer what labels, and their image, have when one of their axes is walked."""
        before = self._labels, self._axis
        self._labels, self._axis = labels, self._held(labels, image, axis)
        if before != (self._labels, self._axis):
            self._following = True
            self.reset_choices()
            # of other layers and axes nobody has asked for all
            asked = None if labels is None else self._asked.get(labels)
            held = None if self._axis is None else self._axis[1]
            self.value = -1 if asked is None or asked != held else asked
            self._following = False
        self.visible = self._axis is not None

    def _on_choice(self) -> None:
        if self._following or self._labels is None:
            return
        if self.series_axis is None:
            self._asked.pop(self._labels, None)
        else:
            self._asked[self._labels] = self.series_axis

    def _held(
        self, labels: Labels | None, image: Image | None, axis: int
    ) -> tuple[str, int] | None:
        if labels is None or labels.multiscale or labels.ndim != 4:
            return None
        if image is not None and image.ndim < 4:  # the same for all of them
            return None
        try:
            ((held, _),) = find_walk(labels, axis, self._viewer).fixed
        except (ImosError, ValueError):
            return None
        name = slider_names(labels, self._viewer)[held]
        alone = labels.data.shape[held] < 2 or name.lower() in CHANNEL_NAMES
        return None if alone else (name, held)

    def _offered(self) -> list[tuple[str, int]]:
        offered = [("this one only", -1)]
        if self._axis is not None:
            offered.append((f"all of {self._axis[0]}", self._axis[1]))
        return offered
