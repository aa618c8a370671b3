"""Picture: the part of an image that lies on a walk, read lazily; several channels as colours.

Axes of image and labels are aligned at the last one. A channel axis, which only the image has, is
left out of that, wherever it stands; channels may also be Image layers of their own. Up to three
are stacked as the trailing axis that the engine knows as colours. Channels differ in brightness,
so each is brought to 0..1 by limits of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.axes import held
from imos_core.arrays.channels import MOST_CHANNELS, StackedChannels, limits_of
from imos_core.arrays.on_grid import Grid
from imos_core.errors import ImageError, PromptError
from napari_imos import _words as words
from napari_imos._image_file import file_read_from
from napari_imos._placement import placement, turned
from napari_imos._walk import axis_names, position, shape_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_imos._placement import Placement
    from napari_imos._walk import Walk

    Limits = tuple[float, float]

CHANNEL_NAMES = ("c", "ch", "channel", "channels")
_APART = (
    "The Labels layer does not lie on the image (their scale or position differ): make a new "
    "Labels layer for this image."
)
_TURNED = (
    "The file of the labels {!r} stores its voxels in other directions of the patient than that of "
    "the image {!r} (their NIfTI affines are turned or mirrored): resample the labels onto the "
    "image, or make a new Labels layer for it."
)
_CHANNEL_SIZES = range(2, 7)  # an axis without a name holds channels if it is as short as this


def channel_axis(image: Image, labels: Labels) -> int | None:
    """Find the axis of an image that holds channels: by its name, or because it is short and extra.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers.

    Returns
    -------
    int or None
        Axis of the image; None if there is none.
    """
    named = named_channel_axis(image)
    if image.rgb or image.ndim == labels.ndim:
        return named
    if image.ndim != labels.ndim + 1:
        return None
    shape, names = shape_of(image), axis_names(image)
    extra = _extra_axes(shape, shape_of(labels))
    if named is not None and (named in extra or not extra):  # none: labels of a part
        return named
    short = (a for a in extra if shape[a] in _CHANNEL_SIZES and names[a] == f"axis {a}")
    return next(short, None)


def named_channel_axis(image: Image) -> int | None:
    """Find the axis of an image whose name says that it holds channels."""
    if image.rgb:
        return None
    names = [name.lower() for name in axis_names(image)]
    return next((a for a, name in enumerate(names) if name in CHANNEL_NAMES), None)


def channels_between(image: Image, labels: Labels) -> str:
    """Say why labels are not where they seem to lie; empty if they are.

    napari aligns layers at their last axis: with channels behind an axis of the labels, that one
    stands on the slider of another.
    """
    axis = channel_axis(image, labels)
    if axis is None or axis < image.ndim - labels.ndim or image.ndim == labels.ndim:
        return ""
    return (
        f"The channels of {image.name!r} stand behind an axis that the labels have too, so that "
        "napari moves both with the wrong slider: split the channels."
    )


class Picture:
    """An image, seen along the axes of a Labels layer.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers.
    viewer : ViewerModel, optional
        Viewer; says where axes stand that only the image has.
    channels : int, Image or iterable of them, optional
        Positions along the image's channel axis, or Image layers; up to three. None or empty: what
        the viewer shows of the image.

    Raises
    ------
    PromptError
        If there are no such channels.
    """

    def __init__(
        self,
        image: Image,
        labels: Labels,
        viewer: ViewerModel | None,
        channels: int | Image | Iterable[Any] | None = None,
    ) -> None:
        self._labels, self._viewer = labels, viewer
        picked = [] if channels is None else several(channels)
        if len(picked) > MOST_CHANNELS:
            raise PromptError(f"Choose up to {MOST_CHANNELS} channels, not {len(picked)}.")
        layers = [one for one in picked if not isinstance(one, int | np.integer)]
        axis = channel_axis(image, labels)
        # layer, its channel axis, position there
        self._sources: list[tuple[Image, int | None, int | None]] = []
        if layers:
            if len(layers) < len(picked) or any(_is_no_image(one) for one in layers):
                raise PromptError("Give channels as numbers, or as grey Image layers.")
            self._sources += [(one, channel_axis(one, labels), None) for one in layers]
        elif picked:
            if axis is None:
                raise PromptError(
                    f"The image {image.name!r} has no channel axis: name it c in the layer's "
                    "axis_labels, or give Image layers as channels."
                )
            count = shape_of(image)[axis]
            for one in picked:
                if not -count <= one < count:
                    raise PromptError(
                        f"There is no channel {one}: the image has channels 0 to {count - 1}."
                    )
            self._sources += [(image, axis, int(one) % count) for one in picked]
        else:
            self._sources.append((image, axis, None))
        self._limits: list[Limits] | None = None

    @property
    def colours(self) -> bool:
        """Whether the last axis holds colours."""
        return len(self._sources) > 1 or bool(self._sources[0][0].rgb)

    @property
    def contrast(self) -> Limits | None:
        """Intensities that become black and white, if a person has chosen them."""
        if len(self._sources) > 1:
            return 0.0, 1.0
        layer, _, picked = self._sources[0]
        if layer.rgb or picked is not None:
            return None  # limits of a layer are those of all its channels
        low, high = layer.contrast_limits
        return float(low), float(high)

    @property
    def files(self) -> tuple[Path, ...]:
        """Where its pixels are read from as somebody asks for them; see `file_read_from`."""
        found = (file_read_from(layer) for layer, _, _ in self._sources)
        return tuple(dict.fromkeys(path for path in found if path is not None))

    def check(self, walk: Walk) -> None:
        """Refuse an image that does not lie on the labels; nothing is read.

        Raises
        ------
        PromptError, ImageError
            If shape or place differ, or nobody says where further axes stand.
        """
        wanted = tuple(self._labels.data.shape[a] for a in walk.kept)
        for layer, axis, picked in self._sources:
            pairs = self._pairs(layer, axis)
            shape = shape_of(layer)
            if axis is not None and any(pairs.get(a) == axis for a in walk.kept):
                raise PromptError(
                    f"Axis {axis_names(layer)[axis]!r} holds channels: walk another axis, with the "
                    "channels on none of the two that are displayed."
                )
            missing = [a for a in walk.kept if a not in pairs]
            if missing:
                raise PromptError(
                    f"The Labels layer has shape {wanted} and the image {shape}: make a new Labels "
                    "layer for this image."
                )
            if not all(self._covered(layer, pairs, walk.kept)):
                raise PromptError(_APART)
            self._fixed(layer, pairs, walk, axis, picked)

    def on(self, walk: Walk, painted: Mapping[int, npt.NDArray[Any]] | None = None) -> Any:
        """Return the part on a walk: `(Z, Y, X)` or `(Z, Y, X, 3)`, array-like.

        Parameters
        ----------
        walk : Walk
            Checked.
        painted : mapping of int to ndarray, optional
            Painted slices, which say how bright channels are; asked for once.
        """
        arrays = []
        for layer, axis, picked in self._sources:
            pixels: Any = layer.data[0] if layer.multiscale else layer.data
            fixed = self._fixed(layer, self._pairs(layer, axis), walk, axis, picked)
            part = held(pixels, fixed) if fixed else pixels
            arrays.append(self._on_grid(part, layer, axis, walk))
        if len(arrays) == 1:
            return arrays[0]
        if self._limits is None:
            self._limits = [
                _of_layer(layer)
                if picked is None
                else limits_of(array, walk.engine_axis, painted or {})
                for array, (layer, _, picked) in zip(arrays, self._sources, strict=True)
            ]
        return StackedChannels(arrays, self._limits)

    def covered(self, walk: Walk) -> range:
        """Slices of a walk on which every image has something to show."""
        whole = range(self._labels.data.shape[walk.axis])
        for layer, axis, _ in self._sources:
            (here,) = self._covered(layer, self._pairs(layer, axis), [walk.axis])
            whole = range(max(whole.start, here.start), min(whole.stop, here.stop))
        return whole

    def elsewhere(self, walk: Walk) -> bool:
        """Whether an image has other voxels than the labels."""
        places = (self._place_on(layer, axis, walk) for layer, axis, _ in self._sources)
        return any(place is not None for place in places)

    def grid(self, walk: Walk) -> Grid | None:
        """Where the labels' voxels are in the image, if it has others.

        None too where no single grid says it: of several images, or of labels that have other time
        points than the image.
        """
        layers = {id(layer): (layer, axis) for layer, axis, _ in self._sources}
        if len(layers) > 1:
            return None
        ((layer, axis),) = layers.values()
        place = self._place_on(layer, axis, walk)
        if place is None:
            return None
        fixed = [a for a, _ in walk.fixed if a in place.starts]
        if any(place.starts[a] != 0 or place.steps[a] != 1 for a in fixed):
            return None
        return self._grid_of(layer, axis, walk, place)

    def _on_grid(self, pixels: Any, layer: Image, axis: int | None, walk: Walk) -> Any:
        """Bring an image to the voxels of the labels, if its own are others."""
        place = self._place_on(layer, axis, walk)
        if place is None:
            return pixels
        shape = [self._labels.data.shape[a] for a in walk.kept]
        return self._grid_of(layer, axis, walk, place).on(pixels, shape, walk.engine_axis)

    def _grid_of(self, layer: Image, axis: int | None, walk: Walk, place: Placement) -> Grid:
        pairs, shape = self._pairs(layer, axis), shape_of(layer)
        return Grid(
            tuple(place.starts[a] for a in walk.kept),
            tuple(place.steps[a] for a in walk.kept),
            tuple(shape[pairs[a]] for a in walk.kept),
            0.0 if layer.rgb else float(layer.contrast_limits[0]),
        )

    def _place_on(self, layer: Image, axis: int | None, walk: Walk) -> Placement | None:
        """Where the labels' voxels are in an image; None where they are its own."""
        pairs = self._pairs(layer, axis)
        place, shape = self._place(layer, pairs), shape_of(layer)
        same = all(
            place.starts[a] == 0
            and place.steps[a] == 1
            and shape[pairs[a]] == self._labels.data.shape[a]
            for a in walk.kept
        )
        return None if same else place

    def _place(self, layer: Image, pairs: dict[int, int]) -> Placement:
        """Where the labels lie in an image; refuses those that do not lie on it.

        Of the same shape, they have to have the same place: labels whose file knew no scale are
        far more frequent than labels that were painted beside their image.
        """
        place, shape = placement(layer, self._labels, pairs), shape_of(layer)
        if place is None:
            names = self._labels.name, layer.name
            raise PromptError(_TURNED.format(*names) if turned(layer, self._labels) else _APART)
        alike = all(shape[pairs[a]] == self._labels.data.shape[a] for a in pairs)
        if alike and any(place.starts[a] != 0 or place.steps[a] != 1 for a in pairs):
            raise PromptError(_APART)
        return place

    def _covered(self, layer: Image, pairs: dict[int, int], axes: Iterable[int]) -> list[range]:
        """Voxels of the labels along some axes that lie in an image."""
        place, shape, mine = self._place(layer, pairs), shape_of(layer), self._labels.data.shape
        return [place.covered(a, mine[a], shape[pairs[a]]) for a in axes]

    def _pairs(self, layer: Image, axis: int | None) -> dict[int, int]:
        """Axis of the labels -> axis of the image."""
        left_out = axis is not None and layer.ndim > self._labels.ndim
        axes = [a for a in range(layer.ndim) if not (left_out and a == axis)]
        shift = len(axes) - self._labels.ndim
        return {a: axes[a + shift] for a in range(self._labels.ndim) if a + shift >= 0}

    def _fixed(
        self, layer: Image, pairs: dict[int, int], walk: Walk, axis: int | None, picked: int | None
    ) -> dict[int, int]:
        """Axis of the image that is held -> its position."""
        place, shape = self._place(layer, pairs), shape_of(layer)
        at = {a: place.index(a, k) for a, k in walk.fixed if a in pairs}
        fixed = {pairs[a]: k for a, k in at.items()}
        for a, k in at.items():
            if not 0 <= k < shape[pairs[a]]:
                where = words.place(axis_names(self._labels)[a], dict(walk.fixed)[a])
                raise PromptError(f"The image shows nothing at {where}: move the slider.")
        if axis is not None and picked is not None:
            fixed[axis] = picked
        kept = {pairs[a] for a in walk.kept}
        rest = [a for a in range(layer.ndim) if a not in kept and a not in fixed]
        if rest and self._viewer is None:
            raise ImageError(
                f"The image has {layer.ndim} axes and the Labels layer {self._labels.ndim}: add "
                "them to a viewer, which says where the other axes stand."
            )
        if rest and self._viewer is not None:
            here = position(layer, self._viewer)
            fixed |= {a: here[a] for a in rest}
        return fixed


def several(channels: Any) -> list[Any]:
    """Return channels as a list; one alone is a list of one."""
    if isinstance(channels, Iterable) and not isinstance(channels, str):
        return list(channels)
    return [channels]


def _extra_axes(shape: tuple[int, ...], like: tuple[int, ...]) -> list[int]:
    """Axes without which a shape is like another one."""
    return [a for a in range(len(shape)) if shape[:a] + shape[a + 1 :] == like]


def _is_no_image(layer: Any) -> bool:
    from napari.layers import Image

    return not isinstance(layer, Image) or bool(layer.rgb)


def _of_layer(layer: Image) -> Limits:
    low, high = layer.contrast_limits
    return float(low), float(high)
