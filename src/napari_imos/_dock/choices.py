"""Choices of the widget: layers and axis, which follow the viewer, and the advanced options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit, Label, LineEdit, SpinBox
from napari.layers import Image, Labels

from imos_core.byte_sizes import parse_size
from imos_core.errors import PromptError
from napari_imos._dock.adapter_choice import AdapterChoice
from napari_imos._dock.channel_choice import ChannelChoice, ChannelRow
from napari_imos._dock.names import let_names_be_long
from napari_imos._dock.parts import align
from napari_imos._dock.series_choice import SeriesChoice
from napari_imos._dock.used_images import UsedImages
from napari_imos._file_axes import name_axes
from napari_imos._job import Rules
from napari_imos._layers import fitting_image, images_of
from napari_imos._picture import channel_axis
from napari_imos._settings import remember, remembered
from napari_imos._walk import shown_axis, slider_names
from napari_imos._words import read_locked

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_imos._adapters import AdapterStore

_DIRECTIONS = [("both ways", "both"), ("forward only", "forward"), ("backward only", "backward")]


class LayerChoices(Container):
    """Image, labels, axis and direction.

    Parameters
    ----------
    viewer : Viewer
        Viewer that is followed.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._followed: Labels | None = None
        self._order: tuple[int, ...] = ()
        self._proposed: int | None = None
        self._names: dict[Any, list[str]] = {}
        self._seen: set[Any] = set()
        self._used = UsedImages()
        self._image_box = ComboBox(
            label="Image",
            choices=lambda _: self._images(),
            tooltip="Volume or video that the labels are carried through.",
        )
        self._labels_box = ComboBox(
            label="Labels",
            choices=lambda _: self._all_labels(),
            tooltip="Labels layer with a painted slice; the results go into it.",
        )
        self._axis_box = ComboBox(
            label="Axis",
            choices=lambda _: self._axes(),
            tooltip="Axis that is walked; follows the viewer's slider.",
        )
        self._direction_box = ComboBox(
            label="Direction",
            choices=_DIRECTIONS,
            tooltip="Where to go from the painted slice.",
        )
        self._looked_at: Hashable = None  # id of an image that is active, or was till lately
        self._series_box = SeriesChoice(viewer)
        for box in (self._image_box, self._labels_box, self._axis_box, self._series_box):
            let_names_be_long(box)
        self._channels_box = ChannelChoice(viewer)
        self._channels_row = ChannelRow(self._channels_box)
        super().__init__()
        self.extend(
            [
                self._image_box,
                self._channels_row,
                self._labels_box,
                self._axis_box,
                self._series_box,
                self._direction_box,
            ]
        )
        align(self)
        self.margins = (0, 0, 0, 0)
        self._labels_box.changed.connect(self.follow_labels)
        self._image_box.changed.connect(self._follow_more)
        self._axis_box.changed.connect(self._follow_more)
        self.refresh()

    @property
    def image_layer(self) -> Image | None:
        """The chosen image."""
        return self._image_box.value

    @property
    def labels_layer(self) -> Labels | None:
        """The chosen labels."""
        return self._labels_box.value

    @property
    def walked_axis(self) -> int:
        """The chosen axis of the labels."""
        return self._axis_box.value or 0

    @property
    def way(self) -> str:
        """The chosen direction, as the engine calls it."""
        return self._direction_box.value

    @property
    def series_axis(self) -> int | None:
        """The axis of a series that is to be done as a whole."""
        return self._series_box.series_axis

    @property
    def channels(self) -> list[Any] | None:
        """The chosen channels; None: the image as it is shown."""
        return self._channels_box.chosen

    def refresh(self) -> None:
        """Follow the viewer's layers and its active layer."""
        for image in self._images():
            if image.unique_id not in self._seen:  # once: a person may take the names away
                self._seen.add(image.unique_id)
                name_axes(image)
        self._image_box.reset_choices()
        self._labels_box.reset_choices()
        active = self._viewer.layers.selection.active
        if isinstance(active, Labels):
            self._labels_box.value = active
        self.follow_labels()
        self._look_at(active)
        renamed, chosen = self._are_axes_renamed(), self._axis_box.value
        if renamed:
            self._axis_box.reset_choices()
            if chosen in self._axis_box.choices:  # it is lost with the names
                self._axis_box.value = chosen
        # names say where channels are; the view may have been turned while a run was on
        proposed = renamed and chosen == self._proposed
        if proposed or self._order != self._viewer.dims.order:
            self.follow_order()

    def note_used(self) -> None:
        """Note that labels are made from an image: the loop goes on with it."""
        labels, image = self.labels_layer, self.image_layer
        if labels is not None and image is not None:
            self._used.note(labels, image)

    def follow_used(self) -> None:
        """Choose the image that the labels were made from, if it is there."""
        if (image := self._made_from(self.labels_layer)) is not None:
            self._image_box.value = image

    def _made_from(self, labels: Labels | None) -> Image | None:
        """Image that labels were made from, if it is still there."""
        return None if labels is None else self._used.of(labels, self._viewer.layers)

    def _look_at(self, active: Layer | None) -> None:
        """Choose an image that is active, unless the labels were made from another one.

        One that is opened becomes the active layer, and so do those that are looked at: the loop
        goes on as before, but labels that are added then are of that one.
        """
        if isinstance(active, Labels):
            self._looked_at = None
        elif active in self._images():
            self._looked_at = active.unique_id
            if self._made_from(self.labels_layer) is None:
                self._image_box.value = active

    def follow_labels(self) -> None:
        """Choose an image that fits other labels, and offer their axes."""
        labels, image = self.labels_layer, self.image_layer
        if labels is not None and image is not None:
            made_from, other = self._made_from(labels), labels is not self._followed
            if made_from is None:
                # the chosen image stays if it fits
                seen = [i for i in self._images() if other and i.unique_id == self._looked_at]
                self._image_box.value = fitting_image([*seen, image, *self._images()], labels)
            elif other:
                self._image_box.value = made_from
        if labels is not self._followed:
            self._followed = labels
            self._axis_box.reset_choices()
            self.follow_order()
        self._follow_more()

    def follow_order(self) -> None:
        """Choose the axis that the viewer's slider walks."""
        labels, image = self.labels_layer, self.image_layer
        self._order = self._viewer.dims.order
        if labels is not None:
            # nobody wants to walk through channels
            same = image is not None and image.ndim == labels.ndim
            channels = channel_axis(image, labels) if same else None
            self._proposed = shown_axis(labels, self._viewer, but=channels)
            self._axis_box.value = self._proposed
            self._follow_more()

    def _are_axes_renamed(self) -> bool:
        """Whether axes of a chosen layer have got other names since somebody asked."""
        chosen = (self.image_layer, self.labels_layer)
        layers = [one for one in chosen if one is not None]
        names = {one.unique_id: slider_names(one, self._viewer) for one in layers}
        before, self._names = self._names, names
        return any(before.get(key, now) != now for key, now in names.items())

    def _follow_more(self) -> None:
        """Offer series and channels where there are any."""
        self._series_box.follow(self.labels_layer, self.image_layer, self.walked_axis)
        self._channels_row.follow(self.image_layer, self.labels_layer)

    def _images(self) -> list[Image]:
        return images_of(self._viewer.layers)

    def _all_labels(self) -> list[Labels]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Labels)]

    def _axes(self) -> list[tuple[str, int]]:
        labels = self.labels_layer
        names = [] if labels is None else slider_names(labels, self._viewer)
        return [(name, a) for a, name in enumerate(names)]


class AdvancedOptions(Container):
    """Range, objects, what may be written, model, adapter and device.

    Those that suit a person rather than an image are remembered.

    Parameters
    ----------
    store : AdapterStore
        Where adapters are kept.
    """

    def __init__(self, store: AdapterStore) -> None:
        self._objects_box = ComboBox(
            name="objects",
            label="Objects",
            choices=[("all painted", False), ("selected label only", True)],
            tooltip="Propagate all labels of the slice, or only the layer's selected label.",
        )
        self._first_box = SpinBox(
            name="first", tooltip="First slice that is written.", min=0, max=0
        )
        self._last_box = SpinBox(name="last", tooltip="Last slice that is written.", min=0, max=0)
        span = Container(
            widgets=[self._first_box, Label(value="to"), self._last_box],
            layout="horizontal",
            labels=False,
            label="Slices",
        )
        span.margins = (0, 0, 0, 0)
        self._locked_box = LineEdit(
            name="locked",
            label="Locked",
            tooltip="Labels that are never changed, such as 2, 5-7; they still compete, so that "
            "other labels do not flow into them.",
        )
        self._locked_box.native.setPlaceholderText("no label")
        self._empty_box = CheckBox(
            name="only_empty",
            text="Fill only empty voxels",
            tooltip="Keep all that is there, earlier results too, and fill what is empty.",
        )
        self._gone_box = CheckBox(
            name="stop_when_gone",
            text="Stop where the object has ended",
            tooltip="A label that was gone for three slices stays gone beyond them; this is also "
            "faster.",
        )
        self._confidence_box = CheckBox(
            name="confidence_layer",
            text="Confidence layer",
            tooltip="Show how sure the model is of every pixel, as an Image layer.",
        )
        self._model_box = FileEdit(
            name="model",
            label="Model",
            nullable=True,
            filter="Weights (*.safetensors *.pth *.pt)",
            tooltip="Weights file; empty: the embedded model.",
        )
        self.adapter = AdapterChoice(store)
        self._model_box.choose_btn.text = "..."
        for part in (self._model_box.line_edit, self._model_box.choose_btn):
            part.tooltip = self._model_box.tooltip
        self._model_box.line_edit.native.setPlaceholderText("embedded")
        self._device_box = ComboBox(
            name="device",
            label="Device",
            choices=["auto", "cpu", "cuda", "mps"],
            tooltip="Where the model runs; auto takes an NVIDIA card if there is one.",
        )
        self._memory_box = LineEdit(
            name="memory",
            label="Memory",
            tooltip="Memory to stay under, such as 4GB: of the graphics card where the model runs "
            "on one, else of napari as a whole. Less is slower with many objects.",
        )
        self._memory_box.native.setPlaceholderText("no limit")
        self._follow_box = CheckBox(
            name="follow",
            text="Show slices as they arrive",
            value=True,
            tooltip="Moves the slider along, until you move it yourself; never while you paint.",
        )
        self._autosave_box = CheckBox(
            name="autosave",
            text="Keep labels safe from crashes",
            value=True,
            tooltip="Write what you paint and what arrives to disk as well; after a crash, the "
            "next start offers it.",
        )
        super().__init__()
        self.extend(
            [
                self._objects_box,
                span,
                self._locked_box,
                self._model_box,
                self.adapter,
                self._device_box,
                self._memory_box,
                self._empty_box,
                self._gone_box,
                self._confidence_box,
                self._follow_box,
                self._autosave_box,
            ]
        )
        align(self)
        self.margins = (0, 0, 0, 0)
        for box in (
            self._device_box,
            self._memory_box,
            self._empty_box,
            self._gone_box,
            self._confidence_box,
            self._follow_box,
            self._autosave_box,
        ):
            box.value = remembered(box.name, box.value)
            box.changed.connect(lambda value, name=box.name: remember(name, value))

    @property
    def autosaves(self) -> bool:
        """Whether results are kept safe from crashes."""
        return bool(self._autosave_box.value)

    @property
    def shows_confidence(self) -> bool:
        """Whether a confidence layer is wanted."""
        return bool(self._confidence_box.value)

    @property
    def rules(self) -> Rules:
        """What may be written.

        Raises
        ------
        PromptError
            If the locked labels are no numbers.
        """
        return Rules(
            locked=read_locked(self._locked_box.value),
            only_empty=bool(self._empty_box.value),
            stop_when_gone=bool(self._gone_box.value),
        )

    @property
    def follows(self) -> bool:
        """Whether the slider moves along."""
        return bool(self._follow_box.value)

    def wanted(self, labels: Labels) -> list[int] | None:
        """Labels that are propagated; None: all that are painted."""
        return [labels.selected_label] if self._objects_box.value else None

    def cover(self, length: int) -> None:
        """Let the range be all slices."""
        for box in (self._first_box, self._last_box):
            box.max = max(length - 1, 0)
        self._first_box.value, self._last_box.value = 0, max(length - 1, 0)

    def keywords(self, labels: Labels) -> dict[str, Any]:
        """Return keywords of `imos_core.propagate`.

        Raises
        ------
        PromptError
            If the memory is no amount of memory, or the range ends before it begins.
        """
        first, last = self._first_box.value, self._last_box.value
        if first > last:
            raise PromptError(
                f"The range of slices ends at {last}, before it begins at {first}: see Advanced."
            )
        limit = self._memory_box.value.strip()
        model, adapter = self._model_box.value, self.adapter.chosen
        return {
            "start": first,
            "stop": last + 1,
            "labels": self.wanted(labels),
            "model": "imos-compact" if model is None else str(model),
            "adapter": None if adapter is None else str(adapter),
            "device": self._device_box.value,
            "memory_budget": parse_size(limit) if limit else None,
        }
