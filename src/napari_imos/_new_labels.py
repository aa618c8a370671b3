"""New Labels layer: the next best thing where the chosen one cannot be written or does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import ImosError
from napari_imos._image_file import FILE, file_on_record
from napari_imos._layers import check_writable
from napari_imos._picture import Picture, channel_axis, channels_between, named_channel_axis
from napari_imos._placed import place_of
from napari_imos._placement import contradict, directions_of
from napari_imos._reader import CHANNEL
from napari_imos._walk import position, shape_of, shown_slice

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_imos._walk import Walk


def needs_new(
    image: Image,
    labels: Labels,
    walk: Walk | None,
    viewer: ViewerModel,
    channels: Iterable[Any] | None = None,
) -> str:
    """Say why a Labels layer cannot be used with an image; empty if it can.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers.
    walk : Walk, optional
        Slices of the labels, if they have any.
    viewer : ViewerModel
        Viewer.
    channels : iterable, optional
        See `Picture`.
    """
    if labels.ndim < 3:
        return (
            f"The Labels layer has {labels.ndim} axes, the image {len(shape_of(image))}: make a "
            "new Labels layer, which takes it over on the slice that is shown."
        )
    try:
        check_writable(labels)
        if between := channels_between(image, labels):
            return between
        if walk is not None:
            Picture(image, labels, viewer, channels).check(walk)
    except ImosError as error:
        return str(error)
    return ""


def why_flat(image: Image) -> str:
    """Say why no labels help, as an image has nothing to walk through; empty if it has."""
    shape = shape_of(image)
    if len(shape) < 3:
        return f"The image has {len(shape)} axes: propagation needs a volume or a video."
    if all(length == 1 for length in shape[:-2]):
        return "The image has only one slice: propagation needs a volume or a video."
    return ""


def inner_channels(image: Image, labels: Labels | None) -> int | None:
    """Return the channel axis of an image where it stands behind others; None if there is none.

    Labels for all channels lie on such an image only once these are layers of their own.
    """
    axis = named_channel_axis(image) if labels is None else channel_axis(image, labels)
    return axis if axis and image.ndim > 3 else None


def add_labels_for(viewer: ViewerModel, image: Image, like: Labels | None = None) -> Labels:
    """Add a Labels layer that lies on an image, with the labels of another one where they fit.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer.
    image : Image
        Image that is labelled.
    like : Labels, optional
        Layer that could not be used; copied if it has the image's shape, or onto the slice that is
        shown if it has that of a slice, unless files say that the two lie elsewhere. It stays what
        it is if only the image's channels were in the way: these become layers of their own.

    Returns
    -------
    Labels
        The active layer from now on.
    """
    if like is not None and contradict(image, like):
        like = None  # voxel by voxel, left would become right
    shape = shape_of(image)
    inner = inner_channels(image, like)
    if inner is not None:
        image = _split(viewer, image, inner)
        shape = shape_of(image)
        if (
            like is not None
            and shape_of(like) == shape
            and not needs_new(image, like, None, viewer)
        ):
            viewer.layers.move(viewer.layers.index(like), len(viewer.layers))
            viewer.layers.selection.active = like
            return like
    if inner is None and named_channel_axis(image) == 0 and image.ndim > 3:
        # one label for all channels
        return viewer.add_labels(
            _taken_over(like, shape[1:], position(image, viewer)[1:]),
            name=f"{image.name} labels",
            metadata=directions_of(image),
            **place_of(image, without=0),
        )
    return viewer.add_labels(
        _taken_over(like, shape, position(image, viewer)),
        name=f"{image.name} labels" if like is None else f"{like.name} (editable)",
        metadata=directions_of(image),
        **place_of(image),
    )


def take_brush(labels: Labels, walk: Walk | None, viewer: ViewerModel) -> str:
    """Take the brush in hand on a new layer; say what is to be done where nothing is painted.

    Parameters
    ----------
    labels : Labels
        Layer that was added.
    walk : Walk, optional
        Its slices.
    viewer : ViewerModel
        Viewer.
    """
    labels.mode = "paint"
    if walk is None or np.any(labels.data[walk.at(shown_slice(labels, walk, viewer))]):
        return ""
    return "Paint over an object on this slice, then press Propagate."


def _taken_over(
    like: Labels | None, shape: tuple[int, ...], shown: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Labels of a shape, with those of a layer where they fit: throughout, or on what is shown."""
    held: Any = None if like is None else like.data[0] if like.multiscale else like.data
    if held is not None and tuple(held.shape) == shape:
        return np.array(held)
    if held is None or tuple(held.shape) != shape[-2:]:
        return np.zeros(shape, np.uint16)
    data = np.zeros(shape, held.dtype)
    data[shown[: len(shape) - 2]] = held
    return data


def _split(viewer: ViewerModel, image: Image, axis: int) -> Image:
    """Make a layer of every channel in place of the image; return the first one."""
    count = shape_of(image)[axis]
    names = [f"{image.name} {image.axis_labels[axis]} {k}" for k in range(count)]
    known = directions_of(image)
    file = file_on_record(image)
    layers: Any = viewer.add_image(
        image.data,
        channel_axis=axis,
        name=names,
        multiscale=image.multiscale,
        # what a run is done with again, as of files of which our reader makes such layers
        metadata=[known | ({FILE: file, CHANNEL: k} if file else {}) for k in range(count)],
        **place_of(image, without=axis),
    )
    # as napari does: what is hidden would keep its sliders
    viewer.layers.remove(image)
    first: Image = layers[0]
    viewer.layers.selection.active = first
    return first
