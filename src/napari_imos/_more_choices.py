"""Choices that appear only where layers have more: a series of time steps, channels of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from magicgui.widgets import CheckBox, ComboBox, Container
from napari.layers import Image

from imos_core.channels import MOST_CHANNELS
from imos_core.errors import ImosError
from napari_imos._confidence import is_confidence
from napari_imos._names import shorten
from napari_imos._picture import CHANNEL_NAMES, channel_axis
from napari_imos._walk import axis_names, find_walk, shape_of, slider_names

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

_MOST_LISTED = 12  # channels that are offered; more would fill the screen


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


class ChannelChoice(Container):
    """Up to three channels to tick: positions on a channel axis, or other Image layers.

    Parameters
    ----------
    viewer : Viewer
        Viewer whose images are offered.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._offered: list[tuple[str, Any]] = []
        self._tooltip = (
            f"Up to {MOST_CHANNELS} channels that the model sees at once; none ticked: the image "
            "as it is shown."
        )
        super().__init__(label="Channels", labels=False, tooltip=self._tooltip)
        self.margins = (0, 0, 0, 0)

    @property
    def chosen(self) -> list[Any] | None:
        """Positions or Image layers; None if none is ticked."""
        pairs = zip(self._offered, self._boxes(), strict=True)
        ticked = [value for (_, value), box in pairs if box.value]
        return ticked or None

    def follow(self, image: Image | None, labels: Labels | None) -> None:
        """Offer what an image has, or the viewer beside it."""
        offered = [] if image is None or labels is None else self._channels(image, labels)
        if offered != self._offered:
            ticked = self.chosen or []
            self.clear()
            self._offered = offered
            for text, value in offered:
                box = CheckBox(text=text, value=value in ticked, tooltip=self._tooltip)
                box.changed.connect(self._limit)
                self.append(shorten(box, text))
            self._limit()
        self.visible = bool(offered)

    def _boxes(self) -> list[Any]:
        return list(self)

    def _limit(self) -> None:
        """Leave no more to tick than there is room for."""
        full = sum(bool(box.value) for box in self._boxes()) >= MOST_CHANNELS
        for box in self._boxes():
            box.enabled = bool(box.value) or not full

    def _channels(self, image: Image, labels: Labels) -> list[tuple[str, Any]]:
        if image.rgb or labels.multiscale:
            return []
        axis = channel_axis(image, labels)
        if axis is not None:
            name = axis_names(image)[axis]
            word = "channel" if name.startswith("axis ") else name
            return [(f"{word} {k}", k) for k in range(shape_of(image)[axis])][:_MOST_LISTED]
        beside = [one for one in self._viewer.layers if self._goes_with(one, image)]
        if len(beside) < 2 or shape_of(image)[-3:] != tuple(labels.data.shape)[-3:]:
            return []
        return [(one.name, one) for one in beside][:_MOST_LISTED]

    @staticmethod
    def _goes_with(layer: Any, image: Image) -> bool:
        return (
            isinstance(layer, Image)
            and not layer.rgb
            and not is_confidence(layer)
            and shape_of(layer) == shape_of(image)
        )
