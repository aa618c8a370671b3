"""Channel choice: what of an image, or of the images beside it, the model sees at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, Container
from napari.layers import Image

from imos_core.arrays.channels import MOST_CHANNELS
from napari_imos._confidence import is_confidence
from napari_imos._dock.names import shorten
from napari_imos._dock.parts import fold, line
from napari_imos._picture import channel_axis
from napari_imos._walk import axis_names, shape_of

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer
    from superqt import QCollapsible

_MOST_LISTED = 12  # channels that are offered; more would fill the screen
_MOST_OPEN = 4  # more are folded away, as they push all that is below out of view


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
        self.total = 0
        """How many there are, listed or not."""
        self._tooltip = (
            f"Up to {MOST_CHANNELS} channels that the model sees at once; none ticked: the image "
            "as it is shown."
        )
        super().__init__(label="Channels", labels=False, tooltip=self._tooltip)
        self.margins = (0, 0, 0, 0)

    @property
    def chosen(self) -> list[Any] | None:
        """Positions, or Image layers in the viewer's order; None if none is ticked."""
        pairs = zip(self._offered, self._boxes(), strict=True)
        ticked = [value for (_, value), box in pairs if box.value]
        # whichever is listed first, results are the same
        return [one for one in self._viewer.layers if one in ticked] or ticked or None

    @property
    def many(self) -> bool:
        """Whether more are listed than are shown at once."""
        return len(self._offered) > _MOST_OPEN

    def follow(self, image: Image | None, labels: Labels | None) -> None:
        """Offer what an image has, or the viewer beside it."""
        every = [] if image is None or labels is None else self._channels(image, labels)
        ticked = self.chosen or []
        offered, self.total = self._listed(every, image, ticked), len(every)
        if offered != self._offered:
            self.visible = False  # or Qt would show what is new a little later than the rest
            self.clear()
            self._offered = offered
            for text, value in offered:
                box = CheckBox(text=text, value=value in ticked, tooltip=self._tooltip)
                box.changed.connect(self._limit)
                self.append(shorten(box, text))
            self._limit()
            self._note_rest(every)
        self.visible = bool(offered)

    @staticmethod
    def _listed(
        every: list[tuple[str, Any]], image: Image | None, ticked: list[Any]
    ) -> list[tuple[str, Any]]:
        """The chosen image first; none that is ticked is left out where there are too many."""
        ordered = sorted(every, key=lambda one: one[1] != image)
        return ordered[:_MOST_LISTED] + [o for o in ordered[_MOST_LISTED:] if o[1] in ticked]

    def _note_rest(self, every: list[tuple[str, Any]]) -> None:
        """Say how many are not listed."""
        rest = len(every) - len(self._offered)
        if not rest:
            return
        layers = isinstance(every[0][1], Image)
        how = ": one that is chosen as Image is." if layers else "."
        words = line(self._tooltip)
        words.value = f"{rest} more {'is' if rest == 1 else 'are'} not listed{how}"
        self.append(words)

    def _boxes(self) -> list[Any]:
        return [one for one in self if isinstance(one, CheckBox)]

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
            return [(f"{word} {k}", k) for k in range(shape_of(image)[axis])]
        beside = [one for one in self._viewer.layers if self._goes_with(one, image)]
        if len(beside) < 2 or shape_of(image)[-3:] != tuple(labels.data.shape)[-3:]:
            return []
        return [(one.name, one) for one in beside]

    @staticmethod
    def _goes_with(layer: Any, image: Image) -> bool:
        return (
            isinstance(layer, Image)
            and not layer.rgb
            and not is_confidence(layer)
            and shape_of(layer) == shape_of(image)
        )


class ChannelRow(Container):
    """The channels with their name; many of them are folded away until somebody opens them.

    Parameters
    ----------
    choice : ChannelChoice
        What there is to tick.
    """

    def __init__(self, choice: ChannelChoice) -> None:
        self._choice = choice
        self._fold: QCollapsible | None = None
        self._many = False
        super().__init__(widgets=[choice], label="Channels", labels=False, tooltip=choice.tooltip)
        self.margins = (0, 0, 0, 0)
        choice.changed.connect(self._tell)

    def follow(self, image: Image | None, labels: Labels | None) -> None:
        """Offer what an image has, or the viewer beside it."""
        self._choice.follow(image, labels)
        self.visible = bool(self._choice.total)
        before, self._many = self._many, self._choice.many
        if self._many and self._fold is None:
            self._fold = fold("", self.tooltip, self._choice, self.native)
        if self._fold is not None and before != self._many:
            self._fold.toggleButton().setVisible(self._many)
            if self._many:
                self._fold.collapse(animate=False)
            else:
                self._fold.expand(animate=False)
        self._tell()

    def _tell(self) -> None:
        """Say how many are ticked, as nobody sees it."""
        if self._fold is not None:
            ticked = len(self._choice.chosen or ())
            self._fold.setText(f"{ticked} of {self._choice.total} ticked")
